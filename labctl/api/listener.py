"""Accepts connections and secures them with TLS, with bounds for those that are not secured yet: until then nobody knows who it is.

    socket ─► accepted ─► waiting for its handshake (so many of one address, and of all) ─► a Connection of the HTTP server

A pod may open tens of thousands of connections and say nothing. Each would cost 50 KB and a file descriptor until its handshake is late, and when there
are no descriptors left nobody gets in. Where one comes too many, the one that has waited longest ends: an honest handshake takes milliseconds,
so it passes through the same address while others flood it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable

log = logging.getLogger(__name__)

_AT_ONCE = 128  # connections that are accepted in one turn of the loop
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S = 1.0  # without a file descriptor to spare

Factory = Callable[[], asyncio.BaseProtocol]


class Listener:
    """One listening socket. `factory` makes the protocol of each connection; `most_of_one` and `most` bound those without a finished handshake."""

    def __init__(
        self, sock: socket.socket, factory: Factory, tls: ssl.SSLContext, *, handshake_s: float, most_of_one: int, most: int
    ) -> None:
        self._sock, self._factory, self._tls = sock, factory, tls
        self._handshake_s, self._most_of_one, self._most = handshake_s, most_of_one, most
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Task[None], str] = {}  # with their addresses, the one that has waited longest first
        self._of_one: dict[str, dict[asyncio.Task[None], None]] = {}
        self._paused: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept no more, and end what is not secured yet."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for handshake in list(self._waiting):
            handshake.cancel()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_MORE:
                    self._pause(error)
                    return
                continue  # the client has gone already
            accepted.setblocking(False)
            self._secure(accepted, str(peer[0]))

    def _pause(self, error: OSError) -> None:
        log.error("connections are not accepted for %g s: %s", _PAUSE_S, error)
        self._loop.remove_reader(self._sock)
        self._paused = self._loop.call_later(_PAUSE_S, self._loop.add_reader, self._sock, self._accept)

    def _secure(self, accepted: socket.socket, address: str) -> None:
        handshake = self._loop.create_task(self._handshake(accepted))
        own = self._of_one.setdefault(address, {})
        self._waiting[handshake] = address
        own[handshake] = None
        handshake.add_done_callback(self._done)
        if len(own) > self._most_of_one:
            self._end(next(iter(own)))
        elif len(self._waiting) > self._most:
            self._end(next(iter(self._waiting)))

    def _end(self, handshake: asyncio.Task[None]) -> None:
        handshake.cancel()
        self._done(handshake)

    def _done(self, handshake: asyncio.Task[None]) -> None:
        address = self._waiting.pop(handshake, None)
        if address is None:
            return
        own = self._of_one[address]
        del own[handshake]
        if not own:
            del self._of_one[address]

    async def _handshake(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._factory, accepted, ssl=self._tls, ssl_handshake_timeout=self._handshake_s, ssl_shutdown_timeout=None
            )
        except OSError:  # ssl.SSLError and TimeoutError, too
            _hang_up(accepted)
        except asyncio.CancelledError:
            _hang_up(accepted)
            raise


def _hang_up(accepted: socket.socket) -> None:
    """End the connection; whoever holds the socket then closes it."""
    with contextlib.suppress(OSError, ValueError):
        accepted.shutdown(socket.SHUT_RDWR)
