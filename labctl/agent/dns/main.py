"""`agent dns` is the DNS server's process. A helper tells it the names over a Unix socket, in frames of JSON, and it keeps them in a file for its successor.

The helper starts it by forking itself, in a session of its own, so names work when the master, its SSH connection and the helper are gone. If it is
killed then, the agent starts it again (`keeper.py`), and it reads the names from the file. A lock allows only one of them at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from .server import FAILING, Server
from .zone import Settings, Zone

SOCKET = "/run/labctl-dns.sock"
LOCK = "/run/labctl-dns.lock"
STATE = "/run/labctl-dns.json"
RESOLVER = "/etc/resolv.conf"
KEPT_RESOLVER = "/etc/labctl/resolv.conf"
"""The machine's own resolv.conf, as it was before ours took its place."""
NAME = b"labctl-dns"
FRAME_BYTES_MAX = 64 << 20
HELPERS_MAX = 8
PREDECESSOR_S = 2.0
SAVE_S = 1.0  # a change is on the disk after this at the latest
_PR_SET_NAME = 15


def resolver() -> str:
    """Return the text of the resolv.conf with the DNS servers that this machine used before ours."""
    for path in (KEPT_RESOLVER, RESOLVER):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    return ""


class Control:
    """The connections of helpers. Each frame that comes is answered by one frame."""

    def __init__(self, selector: selectors.BaseSelector, path: str, program: str, server: Server, state: str = STATE) -> None:
        self._selector = selector
        self._state = state
        self._program = program
        self._path = path
        self._server = server
        self._told: Dict[str, Any] = {}
        self._buffers: Dict[socket.socket, bytearray] = {}
        self.ended = False
        self.unsaved_since: Optional[float] = None
        fresh = f"{path}.{os.getpid()}"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(fresh)
        os.chmod(fresh, 0o600)
        listening.listen(HELPERS_MAX)
        listening.setblocking(False)
        os.replace(fresh, path)
        selector.register(listening, selectors.EVENT_READ, lambda _mask: self._accept(listening))

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Answer a request: {"end": true}, {"program", "failing": mode}, or {"program", "settings": {...}, "whole": bool, "set": {key: rows}, "remove": [key]}."""
        if not isinstance(request, dict):
            raise ValueError("a request is an object")
        if request.get("end") or request.get("program", self._program) != self._program:
            self.ended = True
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # before the answer: whoever connects next finds the successor
            return {"otherProgram": not request.get("end"), "names": 0, "failed": {}}
        if "failing" in request:
            return {"failing": self._fail(request["failing"])}
        self._use(request["settings"])
        zone, failed = self._server.zone, {}
        if request.get("whole"):
            zone.keep(request.get("set", {}))
        for key in request.get("remove", ()):
            zone.remove(key)
        for key, rows in request.get("set", {}).items():
            try:
                zone.set(key, rows)
            except ValueError as error:
                failed[key] = str(error)
        self._server.changed()
        if self.unsaved_since is None:
            self.unsaved_since = time.monotonic()
        mistake, self._server.mistake = self._server.mistake, ""
        return {"otherProgram": False, "names": len(zone), "failed": failed, "mistake": mistake}

    def _fail(self, mode: Optional[str]) -> str:
        """Begin a fault ("servfail", "drop") or end it (""); None only asks. The state is on the disk when this returns, for a successor."""
        if mode is not None and mode != self._server.failing:
            if mode not in ("", *FAILING):
                raise ValueError(f"{mode!r} is no way to fail")
            self._server.failing = mode
            self.save()
        return self._server.failing

    def load(self) -> None:
        """Read the names that a predecessor kept."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(self._state, encoding="utf-8") as file:
                told = json.load(file)
            self._server.failing = told.get("failing", "")
            self.answer({"settings": told["settings"], "set": told["set"], "whole": True})

    def save(self) -> None:
        path = self._state
        self.unsaved_since = None
        text = json.dumps({"settings": self._told, "set": self._server.zone.rows, "failing": self._server.failing}, separators=(",", ":"))
        with contextlib.suppress(OSError):  # a full disk: it only serves a successor
            with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            os.replace(path + ".new", path)

    def _use(self, told: Dict[str, Any]) -> None:
        if told == self._told:
            return
        settings = Settings(told["domain"], told["server"], tuple(told["ranges"]))
        zone = self._server.zone
        if settings != zone.settings:
            zone = Zone(settings)
        self._server.use(zone, (told["address"], told["port"]), told["clients"])
        self._told = told

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection = listening.accept()[0]
            if len(self._buffers) >= HELPERS_MAX:
                connection.close()
                return
            connection.settimeout(5.0)
            self._buffers[connection] = bytearray()
            self._selector.register(connection, selectors.EVENT_READ, lambda _mask: self._receive(connection))

    def _receive(self, connection: socket.socket) -> None:
        buffer = self._buffers[connection]
        try:
            data = connection.recv(1 << 20)
            buffer += data
            if data and int.from_bytes(buffer[:4], "big") <= FRAME_BYTES_MAX:
                while len(buffer) >= 4 and len(buffer) >= (size := 4 + int.from_bytes(buffer[:4], "big")):
                    body = bytes(buffer[4:size])
                    del buffer[:size]
                    said = json.dumps(self._answer_safely(body)).encode()
                    connection.sendall(len(said).to_bytes(4, "big") + said)
                return
        except OSError:
            pass
        self._selector.unregister(connection)
        del self._buffers[connection]
        connection.close()

    def _answer_safely(self, body: bytes) -> Dict[str, Any]:
        try:
            return self.answer(json.loads(body))
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            return {"otherProgram": False, "names": 0, "failed": {}, "error": f"{type(error).__name__}: {error}"}


def forget_failing(path: str = STATE) -> None:
    """End a fault that the next server would go on with. No server may run meanwhile."""
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        if told.pop("failing", ""):
            with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(told, file)
            os.replace(path + ".new", path)


def run(program: str, folder: str = "", read_resolver: Callable[[], str] = resolver) -> None:
    """Run until a helper says to end. Return at once if another server runs. Tests put `folder` before the paths above."""
    lock = _locked(folder + LOCK)
    if lock is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME, 0, 0, 0)
    selector = selectors.DefaultSelector()
    server = Server(selector, read_resolver)
    control = Control(selector, folder + SOCKET, program, server, folder + STATE)
    control.load()
    while not control.ended:
        server.turn(60.0 if control.unsaved_since is None else SAVE_S)
        if control.unsaved_since is not None and time.monotonic() - control.unsaved_since >= SAVE_S:
            control.save()
    server.close()
    os.close(lock)


def _locked(path: str) -> Optional[int]:
    """Return the locked file, or None if another server keeps the lock. A predecessor that was just told to end gets a moment to do so."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + PREDECESSOR_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(0.005)


def fork(program: str) -> None:
    """Start the server as a process called `labctl-dns`, in its own session, with the machine's init as its parent.

    Forking costs a hundredth of starting Python, and the two processes share most of their memory.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        quiet = os.open("/dev/null", os.O_RDWR)
        for descriptor in range(3):
            os.dup2(quiet, descriptor)
        os.closerange(3, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65_536))
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        run(program)
    finally:
        os._exit(1)


def main(argv: List[str]) -> int:
    run(os.path.realpath(sys.argv[0]))
    return 0
