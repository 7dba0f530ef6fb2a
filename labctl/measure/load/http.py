"""HTTP/1.1 and HTTPS over one connection."""

from __future__ import annotations

import re
import ssl
import time
from socket import socket as PythonSocket
from typing import Union

from .links import BAD_ANSWER, BAD_STATUS, OK, RESET, Link, outcome_of

NEVER_S = float("inf")
LINGER_S = 1.0  # for the other side to close a connection first
HEAD_MAX_BYTES = 1 << 16
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection:[^\r\n]*close", re.IGNORECASE)
clock = time.monotonic


class Counted:
    """A body of a known length."""

    def __init__(self, length):
        self.left = length

    def take(self, data):
        self.left -= len(data)
        return self.left <= 0


class Endless:
    """A body that lasts until the connection ends."""

    def take(self, data):
        return False


class Chunked:
    """A body in chunks (RFC 9112, 7.1): each has its length before it; one of no length is the last, and an empty line ends it."""

    def __init__(self):
        self.rest = b""  # the beginning of a line
        self.left = 0  # of a chunk and its line end
        self.last = False

    def take(self, data):
        data = self.rest + data
        while data:
            if self.left:
                skipped = min(self.left, len(data))
                self.left -= skipped
                data = data[skipped:]
                continue
            line, found, after = data.partition(b"\r\n")
            if not found:
                break
            data = after
            if self.last and not line:
                return True
            if not self.last:
                size = int(line.split(b";")[0] or b"0", 16)
                self.last, self.left = size == 0, size + 2 if size else 0
        self.rest = data[:HEAD_MAX_BYTES]
        return False


Body = Union[Counted, Endless, Chunked]


class Http(Link):
    """An HTTP/1.1 connection. `head` collects an answer until its header is whole; then `body` counts what is still to come."""

    __slots__ = ("body", "head", "may_stay", "status")
    stamped = True
    body: Body | None

    def connect(self):
        self.expect()
        Link.connect(self)
        try:
            self.socket.send(self.engine.settings.request)
        except BlockingIOError:
            return False
        self.ask.connected = clock()
        return True

    def connected(self, now):
        self.send()

    def again(self, ask):
        """Sends the next request on a connection that is kept."""
        self.ask, ask.link, self.reused = ask, self, True
        self.send()

    def expect(self):
        self.head, self.body, self.status = b"", None, 0

    def send(self):
        self.expect()
        try:
            self.socket.send(self.engine.settings.request)
        except OSError:
            pass  # the connection ended just now, which reading tells

    def read(self, now):
        while True:
            try:
                data, came = self.receive(now)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError as error:
                self.broken(BAD_ANSWER if isinstance(error, ssl.SSLError) else outcome_of(error), now)
                return
            if not self.ask.first and data:
                self.ask.first = came
            if not data:
                self.ended(now)
                return
            if self.take(data, came):
                return

    def take(self, data, now):
        """Takes a piece of the answer. Returns True when the request has ended by it."""
        end = 0
        if self.body is None:
            if not self.head and data == self.engine.answer:
                self.head, (self.status, self.may_stay) = data, self.engine.answered
                self.whole(now)
                return True
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                if len(self.head) <= HEAD_MAX_BYTES:
                    return False
                self.fail(BAD_ANSWER, now)
                return True
            if not self.understand(self.head[: end + 2]):
                self.fail(BAD_ANSWER, now)
                return True
            data = self.head[end + 4 :]
        assert self.body is not None
        try:
            whole = self.body.take(data)
        except ValueError:
            self.fail(BAD_ANSWER, now)
            return True
        if whole:
            if end and len(self.head) == end + 4 + len(data):  # it came in one piece, and so may the next, byte for byte
                self.engine.answer, self.engine.answered = self.head, (self.status, self.may_stay)
            self.whole(now)
        return whole

    def understand(self, head):
        """Reads the header of an answer; False if it is none."""
        if head[:7] != b"HTTP/1." or not head[9:12].isdigit():
            return False
        self.status = int(head[9:12])
        length = LENGTH.search(head)
        if length or self.status in (204, 304):
            self.body = Counted(int(length[1]) if length and self.status not in (204, 304) else 0)
        else:
            self.body = Chunked() if CHUNKED.search(head) else Endless()
        self.may_stay = self.engine.settings.keepalive and not isinstance(self.body, Endless) and not CLOSES.search(head)
        return self.status >= 200

    def whole(self, now):
        self.done(OK if self.status < 400 else BAD_STATUS, self.status, now, self.head)
        if self.may_stay:
            self.keep()
        elif not (self.engine.stamps and self.has_left(now, NEVER_S)):
            # the other side closes first, so that its port and not ours is held for a minute; nobody needs to be woken for that
            if self.registered:
                self.engine.epoll.unregister(self.fd)
            self.engine.leaving.append((now + LINGER_S, self))

    def has_left(self, now, until):
        """Closes the socket if the other side did, or after `until`. Returns whether it is closed."""
        try:
            if self.fd >= 0 and self.socket.recv(1) == b"":
                self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        if now >= until:
            self.abort()
        return self.fd < 0

    def ended(self, now):
        """The other side closed the connection before the answer was complete, unless this is how the answer ends."""
        if isinstance(self.body, Endless):
            self.whole(now)
            self.close()
        else:
            self.broken(BAD_ANSWER if self.ask.first else RESET, now)

    def broken(self, outcome, now):
        """A kept connection that ends before any answer may have been closed while the request was on its way: it is sent once more (RFC 9110, 9.2.2)."""
        ask = self.ask
        if not self.reused or ask.first:
            self.fail(outcome, now)
            return
        self.ask = None
        self.abort()
        self.engine.open(ask)


class Https(Http):
    """HTTP inside TLS."""

    __slots__ = ("shaken",)
    socket: ssl.SSLSocket
    make = PythonSocket  # as TLS needs it
    connect = Link.connect
    stamped = False  # as the TLS library reads from the socket

    def connected(self, now):
        self.shaken = False
        name = self.engine.settings.server_name or None
        self.socket = self.engine.tls.wrap_socket(self.socket, do_handshake_on_connect=False, server_hostname=name)
        self.shake(now)

    def shake(self, now):
        try:
            self.socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self.fail(BAD_ANSWER if isinstance(error, ssl.SSLError) else outcome_of(error), now)
            return
        self.shaken = True
        self.send()

    def read(self, now):
        if not self.shaken:
            self.shake(now)
        if self.ask is not None and self.shaken:
            super().read(now)


def trusting(authority):
    """Returns the TLS settings: certificates of the machine's authorities and of `authority` are trusted; all are if it is "unchecked"."""
    context = ssl.create_default_context()
    if authority == "unchecked":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authority:
        context.load_verify_locations(cadata=authority)
    return context
