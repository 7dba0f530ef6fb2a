"""The forwarder's keeper: starts it when there is something to forward, tells it what, and notices when it is gone.

The forwarder is a process of its own session: connections through it outlive this helper, the master and the SSH connection. They speak over a Unix
socket, frames of JSON as everywhere. A forwarder of another agent version is told to end and replaced.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
from typing import Any, Dict, List, Optional

from . import check, commands

SOCKET = "/run/labctl-forwarder.sock"
START_S = 5.0
PORTS_MOST = 10_000
_PROTOCOLS = ("TCP", "UDP")


class Forwarder:
    """`program` is this zipapp: the forwarder is another subcommand of it."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._connection: Optional[socket.socket] = None
        self._child: Optional[subprocess.Popen] = None

    def serve(self, params: Dict[str, Any]) -> dict:
        """{"whole": bool, "set": [port...], "remove": [id...]}. `whole`: nothing else is served any more. Nothing at all ends the process."""
        whole, ports = bool(params.get("whole")), [_port(port) for port in params.get("set", ())]
        remove = [check.name(one) for one in params.get("remove", ())]
        if len(ports) > PORTS_MOST:
            raise check.Refused("too many ports")
        if whole and not ports:
            return self._end()
        return self._ask({"whole": whole, "set": ports, "remove": remove, "program": self._program}, start=bool(ports))

    def lost(self) -> bool:
        """True once, when a forwarder that served has ended."""
        if self._connection is None or not select.select([self._connection], [], [], 0)[0]:
            return False
        self._disconnect()  # it says nothing unasked, so what can be read is its end
        return True

    def _end(self) -> dict:
        if self._connect():
            self._exchange({"end": True})
            self._disconnect()
        return {"ports": 0, "failed": {}}

    def _ask(self, request: Dict[str, Any], start: bool) -> dict:
        if not self._connect():
            if not start:
                return {"ports": 0, "failed": {}}
            self._start()
        answer = self._exchange(request)
        if answer.get("otherProgram"):  # an agent of another version: it ends by itself after this answer
            self._disconnect()
            self._start()
            answer = self._exchange(request)
        return answer

    def _connect(self) -> bool:
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(START_S)
            try:
                connection.connect(SOCKET)
            except OSError:
                connection.close()
                return False
            self._connection = connection
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def _start(self) -> None:
        words = ["/usr/bin/python3", self._program, "forwarder", "--socket", SOCKET]
        quiet = subprocess.DEVNULL
        environment = {"PATH": commands.PATH}
        self._child = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/", env=environment)
        deadline = time.monotonic() + START_S
        while not self._connect():
            if time.monotonic() > deadline or self._child.poll() is not None:
                raise commands.Failed("the forwarder did not start")
            time.sleep(0.01)

    def _exchange(self, request: Dict[str, Any]) -> dict:
        assert self._connection is not None
        try:
            self._connection.sendall(frame(request))
            return dict(json.loads(_frame(self._connection)))
        except OSError as error:
            self._disconnect()
            raise commands.Failed(f"the forwarder does not answer: {error}") from None


def frame(message: Dict[str, Any]) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return len(body).to_bytes(4, "big") + body


def _frame(connection: socket.socket) -> bytes:
    return _exactly(connection, int.from_bytes(_exactly(connection, 4), "big"))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("it closed the connection")
        data += more
    return data


def _port(port: Dict[str, Any]) -> Dict[str, Any]:
    """{"id", "protocol", "address", "port", "backends": [[address, port]...], "affinityS"}: where it listens, and who serves."""
    backends: List[List[Any]] = [[check.address(address), check.port(number)] for address, number in port["backends"]]
    return {
        "id": check.name(port["id"]),
        "protocol": check.one_of(port["protocol"], _PROTOCOLS),
        "address": check.address(port["address"]),
        "port": check.port(port["port"]),
        "backends": backends,
        "affinityS": check.number(port.get("affinityS", 0), 0, 86400),
    }
