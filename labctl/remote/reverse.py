"""The way back: a port of a machine's loopback that leads, through its SSH connection, to a port of this host's loopback. For machines that can't reach the master.

Who calls it: control.py, for every control connection it opens, so that the way is there again whenever the machine is. What flows: what agents say to
the API and hear from it; TLS inside. A connection that was lost without a word leaves its sshd there, which keeps the port for hours: whose it was is
noted on the machine, and that one process is ended.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import paramiko

from labctl.errors import RemoteError, Unreachable
from labctl.remote.connection import GONE, Connection, chunks, send
from labctl.remote.settings import RemoteSettings
from labctl.remote.wire import CHUNK_BYTES

LOOPBACK = "127.0.0.1"
CONNECTIONS_MAX = 128  # of one machine, at once

HOLDER = """holder() { ss -Hltnp "src 127.0.0.1:$1" | sed -n 's/.*(("sshd[^"]*",pid=\\([0-9]*\\),.*/\\1/p'; }
"""
NOTE = HOLDER + 'umask 022; holder "$1" >/run/labctl-uplink'
FREE = HOLDER + 'pid=$(holder "$1"); [ -n "$pid" ] && [ "$pid" = "$(cat /run/labctl-uplink)" ] && kill "$pid"'


def open_way_back(connection: Connection, settings: RemoteSettings, until: float) -> None:
    """Raises Unreachable where the machine's sshd does not let us."""
    port = settings.reverse_from
    way = _WayBack(settings)
    if not connection.forward_back(LOOPBACK, port, way.take, until):
        status, _, _ = connection.execute(("/bin/sh", "-c", FREE, "free", str(port)), b"", until)
        freed = status == 0 and _again(connection, port, way, until)
        if not freed:
            name = connection.target.name
            raise Unreachable(
                f"{name}: port {port} of its loopback is taken, or its sshd forbids forwarding (AllowTcpForwarding, PermitListen)"
            )
    connection.execute(("/bin/sh", "-c", NOTE, "note", str(port)), b"", until)


def _again(connection: Connection, port: int, way: _WayBack, until: float) -> bool:
    """Ask for the port again, because the process that had it takes a moment to end."""
    while not connection.forward_back(LOOPBACK, port, way.take, until):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


class _WayBack:
    """Carries each connection that comes in. Two threads each: an agent keeps a handful."""

    def __init__(self, settings: RemoteSettings) -> None:
        self._settings = settings
        self._places = threading.Semaphore(CONNECTIONS_MAX)

    def take(self, channel: paramiko.Channel) -> None:
        """Take a channel; paramiko's own thread calls this, so it must not wait."""
        if not self._places.acquire(blocking=False):
            channel.close()
            return
        threading.Thread(target=self._carry, args=(channel,), name="reverse", daemon=True).start()

    def _carry(self, channel: paramiko.Channel) -> None:
        try:
            with socket.create_connection((LOOPBACK, self._settings.reverse_to), self._settings.connect_deadline_s) as sock:
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=_to_machine, args=(sock, channel), name="reverse back", daemon=True)
                back.start()
                _to_master(channel, sock)
                back.join()
        except OSError:
            pass  # there is no master now: the agent tries again
        finally:
            with suppress(*GONE):
                channel.close()
            self._places.release()


def _to_master(channel: paramiko.Channel, sock: socket.socket) -> None:
    with suppress(*GONE, RemoteError):
        for _source, data in chunks(channel):
            sock.sendall(data)
    with suppress(OSError):
        # after half a close the other half may go on; after a lost connection nothing does
        sock.shutdown(socket.SHUT_WR if not channel.closed else socket.SHUT_RDWR)


def _to_machine(sock: socket.socket, channel: paramiko.Channel) -> None:
    with suppress(*GONE):
        while data := sock.recv(CHUNK_BYTES):
            send(channel, data)
        channel.shutdown_write()
        return
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
