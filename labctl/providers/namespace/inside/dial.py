"""`dial ALIVE ADDRESS PORT` is an ssh ProxyCommand: it joins the network of the lab whose init holds ALIVE, connects, and relays.

It asks the kernel for that init's process id, so the same ssh_config works after the lab was restarted. It becomes root through sudo if it
must.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading

from labctl.providers import locks
from labctl.providers.namespace.inside import command, kernel

_CHUNK_BYTES = 1 << 16


def main(arguments: list[str]) -> int:
    alive, address, port = arguments
    if os.geteuid() != 0:
        try:
            os.execvp("sudo", ["sudo", *command("dial", *arguments)])
        except FileNotFoundError:
            print("the lab's network is root's, and there is no sudo", file=sys.stderr)  # noqa: T201
            return 1
    pid = locks.holder(alive)
    if not pid:
        print("the lab is not running", file=sys.stderr)  # noqa: T201 - a program of its own
        return 1
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        connection = socket.create_connection((address, int(port)), timeout=10)
    except OSError as error:
        print(f"{address}:{port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_send, args=(connection,), daemon=True).start()
    with contextlib.suppress(OSError):  # the machine's end, or ssh's: ssh says which
        while data := connection.recv(_CHUNK_BYTES):
            _write(1, data)
    return 0


def _send(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, _CHUNK_BYTES):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
