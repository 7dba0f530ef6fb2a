"""Sockets that carry one request at a time: plain connections and datagrams."""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import struct
import time
from typing import ClassVar

UNSENT, OK, REFUSED, TIMEOUT, RESET, UNREACHABLE, BAD_STATUS, BAD_ANSWER = "nofteusb"
STREAM, DATAGRAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK), int(socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
INCOMING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
READABLE = select.EPOLLIN | ENDED
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection, so that no port is held for a minute (TIME_WAIT)
NAMED = re.compile(rb"\r\n(?:x-pod-name|x-served-by|x-hostname):[ \t]*([a-z0-9.-]{1,253})[ \t]*\r\n", re.IGNORECASE)
HOSTNAME = re.compile(rb"\s*([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)\s*\Z")
OUTCOMES = {
    errno.ECONNREFUSED: REFUSED,
    errno.ETIMEDOUT: TIMEOUT,
    errno.ECONNRESET: RESET,
    errno.EPIPE: RESET,
    errno.ECONNABORTED: RESET,
    errno.EADDRNOTAVAIL: UNSENT,  # no local port is free
    errno.EMFILE: UNSENT,
    errno.ENFILE: UNSENT,
}
READ_BYTES = 1 << 16
clock = time.monotonic

STAMPS = 35  # SO_TIMESTAMPNS, and the type of its notes (socket(7)): seconds and nanoseconds since the epoch
STAMP, NOTES_BYTES = struct.Struct("@ll"), 64


def stamping():
    """Has the kernel note when packets come. Returns the socket that asks for it all the time, or None where the kernel can't.

    The first such socket of a machine makes the kernel change its own code, and so does the end of the last: there is one as long as this program runs.
    """
    one = socket.SocketType(socket.AF_INET, DATAGRAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, STAMPS, 1)
    except OSError:
        return None
    return one


def outcome_of(error: OSError) -> str:
    return OUTCOMES.get(error.errno or 0, UNREACHABLE)


class Ask:
    """One request. Its times are 0.0 until they are reached."""

    __slots__ = ("connected", "first", "link", "number", "started")

    def __init__(self, number, started):
        self.number, self.started, self.link = number, started, None
        self.connected = self.first = 0.0


class Link:
    """One socket, which serves one request at a time: a connection, or a port for datagrams."""

    __slots__ = ("ask", "engine", "fd", "ready", "registered", "reused", "socket")
    make: ClassVar[type] = socket.SocketType  # without the wrapper in Python, which takes a tenth of a request's time
    kind, protocol, stamped = STREAM, socket.IPPROTO_TCP, False

    def __init__(self, engine, ask):
        self.engine, self.ask, self.reused = engine, ask, False
        self.socket = self.make(socket.AF_INET, self.kind)
        self.fd = self.socket.fileno()
        try:
            self.ready = self.connect()
        except OSError:
            self.socket.close()
            raise
        ask.link = self
        engine.links[self.fd] = self
        if self.ready and engine.stamps:
            self.registered = False
            self.socket.setsockopt(socket.SOL_SOCKET, STAMPS, 1)
            engine.fresh.append(self)
        else:
            if not self.ready:
                engine.unready.add(self.fd)
            self.register()

    def register(self):
        """Has epoll tell what happens to the socket, which includes what happened before."""
        if self.fd >= 0:
            self.registered = True
            self.engine.epoll.register(self.fd, INCOMING if self.ready else INCOMING | select.EPOLLOUT)

    def connect(self):
        """Begins to connect. Returns True if the connection is there already, as between machines on one host: then epoll need not say so."""
        code = self.socket.connect_ex(self.engine.settings.place)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        return False

    def happened(self, mask, now):
        """Takes the readiness that epoll reported."""
        if not self.ready:
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if mask & ENDED else 0
            if code:
                self.fail(outcome_of(OSError(code, "")), now)
                return
            self.ready = True
            self.engine.unready.discard(self.fd)
            if self.engine.stamps:
                self.socket.setsockopt(socket.SOL_SOCKET, STAMPS, 1)
            self.ask.connected = now
            self.connected(now)
        if self.ask is not None and mask & READABLE:
            self.read(now)
            mask &= ENDED
        if mask & READABLE and self.fd in self.engine.idle:
            self.close()  # nothing is expected here, or the other side has closed

    def connected(self, now):
        self.done(OK, 0, now)
        self.abort()

    def read(self, now):
        """Reads what is there."""

    def receive(self, now):
        """Returns a piece of what is there, and when it came: as the kernel noted it, else now."""
        if not self.engine.stamps:
            return self.socket.recv(READ_BYTES), now
        data, notes, _, _ = self.socket.recvmsg(READ_BYTES, NOTES_BYTES)
        for _, kind, value in notes:
            if kind == STAMPS and len(value) == STAMP.size:
                seconds, nanoseconds = STAMP.unpack(value)
                now = min(now, max(self.ask.connected or self.ask.started, seconds + nanoseconds / 1e9 + self.engine.ahead_s))
        return data, now

    def done(self, outcome, status, now, said=b""):
        """Reports the request. `said` is the answer, which may name who gave it where the kernel does not know."""
        ask, self.ask = self.ask, None
        self.engine.report(ask, outcome, status, now, self.socket.getsockname(), said)

    def fail(self, outcome, now):
        self.done(outcome, 0, now)
        self.abort()

    def keep(self):
        """Keeps the socket for another request. If it is closed from the other side, epoll tells."""
        self.engine.idle[self.fd] = self
        if not self.registered:
            self.register()

    def abort(self):
        if self.fd >= 0 and self.kind == STREAM:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.close()

    def close(self):
        if self.fd >= 0:
            self.engine.idle.pop(self.fd, None)
            self.engine.links.pop(self.fd, None)
            self.engine.unready.discard(self.fd)
            self.socket.close()
            self.fd = -1


class Udp(Link):
    """A datagram and the first one that comes back."""

    __slots__ = ()
    kind, protocol, stamped = DATAGRAM, socket.IPPROTO_UDP, True

    def connect(self):
        self.socket.connect(self.engine.settings.place)
        self.socket.send(self.engine.settings.request)
        return True

    def again(self, ask):
        """Sends the next request from the same port."""
        self.ask, ask.link = ask, self
        try:
            self.socket.send(self.engine.settings.request)
        except OSError as error:  # an earlier datagram was refused since
            self.fail(outcome_of(error), clock())

    def read(self, now):
        try:
            data, now = self.receive(now)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(outcome_of(error), now)
            return
        self.ask.first = now
        self.done(OK, 0, now, data)
        if self.engine.settings.keepalive:
            self.keep()
        else:
            self.close()


def name_in(answer):
    """Returns the name that an answer gives in a header, or that its short body consists of, as of a server which answers with its own name; else ""."""
    head, _, body = answer.rpartition(b"\r\n\r\n")
    found = NAMED.search(head + b"\r\n") or HOSTNAME.match(body)
    return found[1].decode() if found else ""
