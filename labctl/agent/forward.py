"""`forward`: one connection to a port of a pod, for `kubectl port-forward`. It is made inside the pod's own network, to its loopback, as the kubelet makes it.

So a server that listens on 127.0.0.1 alone is reached, one that trusts its own host takes the connection for such a one, and no NetworkPolicy judges it.
Standard input and output are the connection's two directions. The end of the input is passed on; the end of the connection, or a reader that is gone,
ends the program.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket

from . import linux
from .readers import GONE
from .runtime.records import Records

CHUNK_BYTES = 64 * 1024
CONNECT_S = 10.0
_OTHER_SIDES = ((socket.AF_INET, "tcp4", "127.0.0.1"), (socket.AF_INET6, "tcp6", "::1"))


class Refused(Exception):
    """There is no such pod, or nobody takes the connection."""


def forward(state_dir: str, pod: str, port: int) -> None:
    """Serve until the connection ends. Raises Refused."""
    _enter(Records(state_dir), pod)
    with _connected(pod, port) as connection:
        _Relay(connection).run()


def _enter(records: Records, pod: str) -> None:
    sandbox = records.sandbox(pod)
    if sandbox is None or not sandbox.ready:
        raise Refused(f"sandbox of pod {pod} is not running")
    if sandbox.host_network:
        return
    try:
        namespace = os.open(os.path.join(records.pod_dir(pod), "ns", "net"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.enter(namespace, linux.CLONE_NEWNET)
        finally:
            os.close(namespace)
    except OSError as error:
        raise Refused(f"network namespace of pod {pod}: {error.strerror}") from error


def _connected(pod: str, port: int) -> socket.socket:
    problems = []
    for family, name, address in _OTHER_SIDES:
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6
            problems.append(f"dial {name} {address}: {error}")
            continue
        try:
            connection.settimeout(CONNECT_S)
            connection.connect((address, port))
            return connection
        except OSError as error:
            connection.close()
            shown = f"[{address}]" if family == socket.AF_INET6 else address
            problems.append(f"dial {name} {shown}:{port}: connect: {(error.strerror or str(error)).lower()}")
    raise Refused(f'failed to connect to localhost:{port} inside namespace of pod "{pod}": {", ".join(problems)}')


class _Relay:
    """Copies both ways. Each direction holds one chunk, so a slow side slows the other and nothing grows."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._to_pod, self._to_client = b"", b""
        self._input_open, self._pod_open = True, True
        for descriptor in (0, 1, connection.fileno()):
            os.set_blocking(descriptor, False)

    def run(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # either side is gone, which is its right
            while self._pod_open or self._to_client:
                ready = self._wait()
                if ready.get(1, 0) & GONE:
                    return
                self._from_client(ready.get(0, 0))
                self._with_pod(ready.get(self._connection.fileno(), 0))
                if self._to_client:
                    self._to_client = _written(1, self._to_client)

    def _wait(self) -> "dict[int, int]":
        poll = select.poll()
        poll.register(1, select.POLLOUT if self._to_client else 0)  # its end is told unasked
        if self._input_open and not self._to_pod:
            poll.register(0, select.POLLIN)
        wanted = (select.POLLIN if self._pod_open and not self._to_client else 0) | (select.POLLOUT if self._to_pod else 0)
        if wanted:
            poll.register(self._connection.fileno(), wanted)
        return dict(poll.poll())

    def _from_client(self, events: int) -> None:
        if not events:
            return
        with contextlib.suppress(BlockingIOError):
            self._to_pod = os.read(0, CHUNK_BYTES)
            if not self._to_pod:
                self._input_open = False
                self._connection.shutdown(socket.SHUT_WR)

    def _with_pod(self, events: int) -> None:
        if self._to_pod:
            self._to_pod = _written(self._connection.fileno(), self._to_pod)
        if events & (select.POLLIN | GONE) and not self._to_client:
            with contextlib.suppress(BlockingIOError):
                self._to_client = os.read(self._connection.fileno(), CHUNK_BYTES)
                self._pod_open = bool(self._to_client)


def _written(descriptor: int, data: bytes) -> bytes:
    """Writes what there is room for, and returns the rest."""
    try:
        return data[os.write(descriptor, data) :]
    except BlockingIOError:
        return data
