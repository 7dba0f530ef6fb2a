"""A process of this machine that outlives the helper. The helper starts it when it is needed, tells it what to do, and notices when it has ended.

The forwarder (userspace.py) and the DNS server (names.py) are such processes. Helper and companion exchange frames of JSON over a Unix socket.
A companion of another agent version answers {"otherProgram": true} and ends; then it is started anew.
"""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any, Callable, Dict, Optional

from . import commands

START_S = 5.0


class Companion:
    """The helper's side of one companion. `start` starts the process, which then listens at `path`; `name` is used in messages."""

    def __init__(self, name: str, path: str, start: Callable[[], None]) -> None:
        self._name = name
        self._path = path
        self._start = start
        self._connection: Optional[socket.socket] = None

    def ask(self, request: Dict[str, Any], start: bool = True) -> Optional[Dict[str, Any]]:
        """Send a request and return the answer. If the process does not run, start it, or return None where `start` is False. Raises Failed."""
        if not self._connect():
            if not start:
                return None
            self._begin()
        answer = self._exchange(request)
        if answer.get("otherProgram"):  # it ends by itself after this answer
            self._disconnect()
            self._begin()
            answer = self._exchange(request)
        return answer

    def end(self) -> None:
        """Tell the process to end, if it runs."""
        if self._connect():
            self._exchange({"end": True})
            self._disconnect()

    def lost(self) -> bool:
        """Return True once when the process has ended."""
        if self._connection is None or not select.select([self._connection], [], [], 0)[0]:
            return False
        self._disconnect()  # it never sends anything unasked, so the socket is readable only because the process has ended
        return True

    def _begin(self) -> None:
        self._start()
        deadline = time.monotonic() + START_S
        while not self._connect():
            if time.monotonic() > deadline:
                raise commands.Failed(f"the {self._name} did not start")
            time.sleep(0.01)

    def _connect(self) -> bool:
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(START_S)
            try:
                connection.connect(self._path)
            except OSError:
                connection.close()
                return False
            self._connection = connection
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, request: Dict[str, Any]) -> Dict[str, Any]:
        assert self._connection is not None
        try:
            self._connection.sendall(frame(request))
            return dict(json.loads(_frame(self._connection)))
        except OSError as error:
            self._disconnect()
            raise commands.Failed(f"the {self._name} does not answer: {error}") from None


def frame(message: Dict[str, Any]) -> bytes:
    """Return a message as 4 bytes of length, then JSON."""
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
