"""One SSH connection to one machine: Fabric's, with the machine's key pinned and nothing read from the person's own SSH configuration.

Who calls it: control.py and channels.py, each from a thread of its own. What flows: argv and bytes in, bytes and an exit status out.
Whatever a machine's sshd says or leaves unsaid, each call ends at its deadline.
What it never does: retry; accept another host key; build a shell line from anything but shlex.

Commands run on a channel that is opened on Fabric's connection: invoke's own runner polls (12 ms a call at best) and turns bytes into text.
"""

from __future__ import annotations

import base64
import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from typing import Any

import fabric
import paramiko

from labctl.errors import Deadline, HostKeyMismatch, RemoteError, Unreachable
from labctl.remote.interface import Target, Terminal
from labctl.remote.settings import RemoteSettings
from labctl.remote.wire import CHUNK_BYTES

NO_STATUS = -1
"""The command was killed by a signal (paramiko doesn't say which)."""

GONE = (paramiko.SSHException, OSError, EOFError)
"""What paramiko and sockets raise when the channel or the connection has ended."""

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it logs as errors, with tracebacks, what we raise


class Connection:
    """Opened by its constructor; `on_end` is called once, from paramiko's thread, when it is over for whatever reason."""

    def __init__(
        self, target: Target, settings: RemoteSettings, on_end: Callable[[], None] = lambda: None, greeting_s: float | None = None
    ) -> None:
        """`greeting_s` is how long sshd may take for each of banner, keys and login; by default as long as the TCP connection may."""
        self.target = target
        self._greeting_s = settings.connect_deadline_s if greeting_s is None else greeting_s
        self.channels = 0  # counted by who shares it
        self._settings = settings
        self._socket = _connected_socket(target, settings)
        self._fabric = fabric.Connection(
            target.address,
            user=target.user,
            port=target.port,
            config=_config(),
            connect_kwargs={
                "pkey": _private_key(target),
                "look_for_keys": False,
                "allow_agent": False,
                "transport_factory": partial(_Transport, on_end=on_end),
                "banner_timeout": self._greeting_s,
                "auth_timeout": self._greeting_s,
                "sock": self._socket,
            },
        )
        _pin(self._fabric.client, target)
        self._open()

    @property
    def alive(self) -> bool:
        return bool(self._fabric.is_connected)

    def close(self) -> None:
        """Returns at once: shutting the socket down wakes the thread that reads from it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._fabric.close()

    def session(self, argv: Sequence[str], until: float, terminal: Terminal | None = None) -> paramiko.Channel:
        """Return a channel with the command started on it."""
        with self._translated(f"starting {argv[0]}", until):
            channel = self._transport.open_session(timeout=_left(until))
            with _ended_at(until, channel.close):  # paramiko waits for these answers without a deadline
                if terminal:
                    channel.get_pty(terminal.term, terminal.columns, terminal.rows)
                channel.exec_command(shlex.join(["sudo", "-n", "--", *argv] if self.target.sudo else argv))
            return channel

    def dial(self, host: str, port: int, until: float) -> paramiko.Channel:
        with self._translated(f"connecting to {host}:{port}", until):
            return self._transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=_left(until))

    def forward_back(self, host: str, port: int, take: Callable[[paramiko.Channel], None], until: float) -> bool:
        """Let the machine's sshd listen there; `take` gets a channel for each connection that comes in. False: it does not let us."""
        try:
            with _ended_at(until, self.close):  # paramiko waits for the answer without a deadline
                self._transport.request_port_forward(host, port, lambda channel, _origin, _server: take(channel))
        except paramiko.SSHException:
            if self.alive:
                return False
            raise Unreachable(f"{self.target.name}: the connection was lost") from None
        return True

    def execute(self, argv: Sequence[str], stdin: bytes, until: float) -> tuple[int, bytes, bytes]:
        """Run a command that is given all its input at once. Return (exit status, stdout, stderr)."""
        channel = self.session(argv, until)
        try:
            self._feed(channel, stdin)
            outputs: dict[int, list[bytes]] = {1: [], 2: []}
            size = 0
            for source, data in chunks(channel, until):
                outputs[source].append(data)
                size += len(data)
                if size > self._settings.answer_max_bytes:
                    raise RemoteError(f"{self.target.name}: {argv[0]} printed more than {self._settings.answer_max_bytes} bytes")
            status = self.exit_status(channel, until)
            return status, b"".join(outputs[1]), b"".join(outputs[2])
        except Deadline:
            raise Deadline(f"{self.target.name}: {shlex.join(argv)[:200]} took too long") from None
        finally:
            channel.close()

    def exit_status(self, channel: paramiko.Channel, until: float | None = None) -> int:
        """Return the exit status of a command whose output has ended.

        Raises Deadline at `until`, and Unreachable if the connection was lost; then whether the command ran to its end is unknown.
        """
        if not channel.status_event.wait(None if until is None else _left(until)):
            raise Deadline(f"{self.target.name}: the command's output ended, the command did not")
        if channel.exit_status == NO_STATUS and not self.alive:
            raise Unreachable(f"{self.target.name}: the connection was lost before the command ended")
        return channel.exit_status

    @property
    def _transport(self) -> paramiko.Transport:
        if not self.alive:
            raise Unreachable(f"{self.target.name}: the connection was lost")
        return self._fabric.transport

    def _open(self) -> None:
        until = time.monotonic() + self._greeting_s * 3  # banner, keys and login have one each
        with self._translated("connecting", until):
            try:
                with _ended_at(until, self.close):  # a machine that begins an exchange of keys and never ends it
                    self._fabric.open()
            except BaseException:
                self.close()
                raise
        # paramiko's default wakes ten times a second, per connection, to look whether it was closed; `close` wakes it.
        self._socket.settimeout(self._settings.dead_after_s)

    def _feed(self, channel: paramiko.Channel, data: bytes) -> None:
        """Input that fits the window goes at once; more must not wait here, or command and caller may wait for each other."""
        if len(data) <= channel.out_window_size:
            _send_all(channel, data)
        else:
            threading.Thread(target=_send_all, args=(channel, data), daemon=True).start()

    def _translated(self, doing: str, until: float = inf) -> _Translated:
        return _Translated(self.target, doing, until)


class _Translated:
    """paramiko's and the socket's exceptions as ours."""

    def __init__(self, target: Target, doing: str, until: float) -> None:
        self._target = target
        self._doing = doing
        self._until = until

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        where = f"{self._target.name} ({self._target.address}:{self._target.port})"
        if isinstance(error, GONE) and time.monotonic() >= self._until:
            raise Deadline(f"{where}: {self._doing} took too long") from None
        if isinstance(error, paramiko.BadHostKeyException):
            raise HostKeyMismatch(_mismatch(where, error.key)) from None
        if isinstance(error, paramiko.AuthenticationException):
            raise Unreachable(f"{where}: its sshd does not accept the lab's key for {self._target.user}") from None
        if isinstance(error, paramiko.ChannelException):
            raise Unreachable(f"{where}: {self._doing}: {error.text}") from None
        if isinstance(error, GONE):
            raise Unreachable(f"{where}: {self._doing}: {error or 'the connection was closed'}") from None


class _Transport(paramiko.Transport):
    """paramiko's, which says when it ended."""

    def __init__(self, sock: socket.socket, *, on_end: Callable[[], None], **options: Any) -> None:
        super().__init__(sock, **options)
        self._on_end = on_end

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._on_end()


class _Wake:
    """An event that both of a channel's buffers set. paramiko clears it when *one* of them is empty: that must not hide the other.

    (A channel's own `fileno()` is a pipe that `close()` in another thread pulls away under the poll.)
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self.event = threading.Event()
        channel.in_buffer.set_event(self)  # type: ignore[arg-type]  # only set() and clear() are called
        channel.in_stderr_buffer.set_event(self)  # type: ignore[arg-type]

    def set(self) -> None:
        self.event.set()

    def clear(self) -> None: ...


def chunks(channel: paramiko.Channel, until: float | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (1, stdout) and (2, stderr) as they come, until both have ended. Raises Deadline at `until`."""
    wake = _Wake(channel)
    while True:
        wake.event.clear()
        ended = channel.eof_received or channel.closed  # read before the buffers: what came before the end is in them
        while channel.recv_ready():
            yield 1, channel.recv(CHUNK_BYTES)
        while channel.recv_stderr_ready():
            yield 2, channel.recv_stderr(CHUNK_BYTES)
        if ended:
            return
        if not wake.event.wait(None if until is None else _left(until)):
            raise Deadline("took too long")


@contextmanager
def _ended_at(until: float, end: Callable[[], None]) -> Iterator[None]:
    """Call `end`, from another thread, if the block is not over at `until`. `end` makes the block raise."""
    timer = threading.Timer(_left(until), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise Deadline("took too long")
    return left


def send(channel: paramiko.Channel, data: bytes) -> None:
    """Send all data, a packet at a time, because paramiko's own sendall copies the rest for every packet. Waits for the other end."""
    for start in range(0, len(data), CHUNK_BYTES):
        channel.sendall(data[start : start + CHUNK_BYTES])


def _send_all(channel: paramiko.Channel, data: bytes) -> None:
    with suppress(*GONE):  # the command ended without reading it all, or the connection did: who reads its output learns
        send(channel, data)
        channel.shutdown_write()


def _config() -> fabric.Config:
    """Neither /etc/fabric, ~/.fabric nor ~/.ssh/config: a lab behaves the same for everybody."""
    return fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())


class _PromptSocket(socket.socket):
    """Acknowledges at once. sshd leaves Nagle on: with our kernel's delayed acknowledgement the first command of a connection waits 40 ms."""

    def recv(self, *arguments: int) -> bytes:
        data = super().recv(*arguments)
        if _QUICKACK is not None:
            self.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # holds for a few packets only
        return data


_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


def _connected_socket(target: Target, settings: RemoteSettings) -> socket.socket:
    try:
        sock = socket.create_connection((target.address, target.port), timeout=settings.connect_deadline_s)
    except OSError as error:
        raise Unreachable(f"{target.name} ({target.address}:{target.port}): {error.strerror or error}") from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # with Nagle's delay each small call costs 40 ms
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: paramiko's own keepalive asks, but waits for no answer
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.dead_after_s * 1000))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(settings.dead_after_s / 2)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(settings.dead_after_s / 5)))
    return _PromptSocket(sock.family, sock.type, sock.proto, sock.detach())


def _pin(client: paramiko.SSHClient, target: Target) -> None:
    where = target.address if target.port == 22 else f"[{target.address}]:{target.port}"
    try:
        kind, blob = target.host_key.split()[:2]
        client.get_host_keys().add(where, kind, paramiko.PKey.from_type_string(kind, base64.b64decode(blob)))
    except (ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        raise HostKeyMismatch(f"{target.name}: no usable host key is pinned ({target.host_key[:60]!r})") from None
    client.set_missing_host_key_policy(paramiko.RejectPolicy())


def _private_key(target: Target) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(target.key_path)
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise Unreachable(f"{target.name}: the private key {target.key_path} can't be read: {error}") from None


def _mismatch(where: str, key: paramiko.PKey) -> str:
    return f"{where} answered with another SSH host key than the pinned one: {key.fingerprint}"
