"""Streams: exec, attach, logs and dialled connections, on SSH connections apart from the control connection.

Who calls it: worker.py, which never waits here: a stream has a thread for what it says and, from its first input on, one for what it is told.
What flows: bytes, counted both ways; paramiko's own window holds back what the reader does not take.
What it never does: put more than `stream_channels` on one connection (sshd allows 10 sessions); outlive its machine's control connection's target.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import paramiko

from labctl.errors import Deadline, RemoteError, Unreachable
from labctl.remote import wire
from labctl.remote.connection import GONE, Connection, chunks, send
from labctl.remote.interface import Target
from labctl.remote.settings import RemoteSettings


class Channels:
    """The stream connections to one machine. `on_idle` is called when the last stream ended: sweep soon after `stream_idle_s`."""

    def __init__(self, target: Target, settings: RemoteSettings, on_idle: Callable[[], None]) -> None:
        self._target = target
        self._settings = settings
        self._on_idle = on_idle
        self._changed = threading.Condition()  # guards all below
        self._opening = False
        self._connections: list[Connection] = []
        self._idle_since = 0.0
        self._closed = False

    def acquire(self, until: float) -> Connection:
        """Return a connection with room for one more channel. Raises RemoteError, and Deadline at `until`.

        Where none has room, one caller opens another connection, outside of the lock. Callers that find room meanwhile don't wait for it; the others do.
        """
        with self._changed:
            while True:
                self._check()
                if connection := self._with_room():
                    return connection
                if not self._opening:
                    break
                if not self._changed.wait(until - time.monotonic()):
                    raise Deadline(f"{self._target.name}: no connection for a stream in time")
            self._opening = True
        return self._open()

    def _check(self) -> None:
        if self._closed:
            raise Unreachable(f"{self._target.name}: the connection was closed")
        self._connections = [each for each in self._connections if each.alive]
        if sum(each.channels for each in self._connections) >= self._settings.streams_most:
            raise RemoteError(f"{self._target.name}: {self._settings.streams_most} streams are open already")

    def _with_room(self) -> Connection | None:
        for connection in self._connections:
            if connection.channels < self._settings.stream_channels:
                connection.channels += 1
                return connection
        return None

    def _open(self) -> Connection:
        connection: Connection | None = None
        try:
            connection = Connection(self._target, self._settings)
        finally:
            with self._changed:
                self._opening = False
                self._changed.notify_all()
                if connection and not self._closed:
                    connection.channels += 1
                    self._connections.append(connection)
        if self._closed:
            connection.close()
            raise Unreachable(f"{self._target.name}: the connection was closed")
        return connection

    def release(self, connection: Connection) -> None:
        """Note that one channel of that connection has ended."""
        with self._changed:
            connection.channels -= 1
            self._idle_since = time.monotonic()
            if not connection.channels and len(self._connections) > 1 and connection in self._connections:
                self._connections.remove(connection)
                connection.close()
            idle = not any(each.channels for each in self._connections)
            self._changed.notify_all()
        if idle:
            self._on_idle()

    def sweep_after_s(self) -> float | None:
        """Return the seconds until there may be something to sweep, or None if nothing is open."""
        return self._settings.stream_idle_s if self._connections else None

    def sweep(self) -> None:
        """Close the last connection when it was idle for long."""
        with self._changed:
            unused = not any(each.channels for each in self._connections)
            if unused and time.monotonic() - self._idle_since >= self._settings.stream_idle_s:
                self._close_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._close_all()

    def _close_all(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections = []


class Credits:
    """Bytes that may still be sent; `take` waits for some."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()

    def give(self, size: int) -> None:
        with self._changed:
            self._size += size
            self._changed.notify()

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._size > 0)
            self._size -= size


class ChannelStream:
    """One stream on the machine's side of the socket pair. All its methods return at once: whatever may wait for the machine has a thread."""

    def __init__(
        self,
        request: wire.Open | wire.Dial,
        channels: Channels,
        settings: RemoteSettings,
        send: Callable[[wire.Message], None],
        mistake: Callable[[str, BaseException], None],
    ) -> None:
        self._request = request
        self._channels = channels
        self._settings = settings
        self._send = send
        self._mistake = mistake
        self._credits = Credits(settings.stream_window_bytes)
        # what is to be done to the channel, in order; None: nothing more. The master sends no more input than the window.
        self._orders: queue.SimpleQueue[Callable[[paramiko.Channel], None] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._opened = threading.Event()
        self._channel: paramiko.Channel | None = None
        self._closed = False

    def start(self, on_end: Callable[[], None]) -> None:
        threading.Thread(target=self._serve, args=(on_end,), name=f"stream {self._request.id}", daemon=True).start()

    def credit(self, size: int) -> None:
        self._credits.give(size)

    def input(self, data: bytes) -> None:
        """Send input. If nothing reads it any more, it is dropped, and still counted as taken."""

        def order(channel: paramiko.Channel) -> None:
            with suppress(*GONE):
                send(channel, data)
            self._send(wire.Credit(self._request.id, len(data)))

        self._order(order)

    def end_input(self) -> None:
        self._order(lambda channel: channel.shutdown_write())

    def resize(self, columns: int, rows: int) -> None:
        self._order(lambda channel: channel.resize_pty(columns, rows))

    def close(self) -> None:
        self._closed = True
        self._credits.give(1 << 60)  # whoever waits for a reader goes on, and finds the channel closed
        channel = self._channel
        if channel:
            threading.Thread(target=_close, args=(channel,), daemon=True).start()

    def _serve(self, on_end: Callable[[], None]) -> None:
        """Run the stream; this is its thread's function."""
        connection: Connection | None = None
        until = time.monotonic() + self._settings.open_deadline_s
        try:
            connection = self._channels.acquire(until)
            end: wire.Message = wire.Ended(self._request.id, self._carry(connection, until))
        except Exception as error:
            if not isinstance(error, RemoteError):  # our mistake, about one stream: its reader must hear of an end
                self._mistake(f"stream to {self._request.name}", error)
            end = wire.failure(self._request.id, error)
        finally:
            self._opened.set()
            if self._channel:
                _close(self._channel)
            if connection:
                self._channels.release(connection)
            self._orders.put(None)
            on_end()
        self._send(end)

    def _carry(self, connection: Connection, until: float) -> int:
        """Carry the stream from the command's start, which has a deadline, to its end. Return the exit status."""
        request = self._request
        if isinstance(request, wire.Dial):
            channel = connection.dial(request.host, request.port, until)
        else:
            channel = connection.session(request.argv, until, request.terminal)
        self._channel = channel
        if self._closed:  # while it was being opened; `close` found no channel to end then
            return 0
        self._opened.set()
        self._send(wire.Opened(request.id))
        for source, data in chunks(channel):
            self._credits.take(len(data))
            if self._closed:
                return 0
            self._send(wire.Output(request.id, source, data))
        if self._closed:
            return 0
        if isinstance(request, wire.Open):
            return connection.exit_status(channel)
        if not connection.alive:
            raise Unreachable("the connection was lost")
        return 0

    def _order(self, order: Callable[[paramiko.Channel], None]) -> None:
        self._orders.put(order)
        if not self._writer:
            self._writer = threading.Thread(target=self._obey, name=f"input {self._request.id}", daemon=True)
            self._writer.start()

    def _obey(self) -> None:
        """Tell the channel what to do; this is a thread's function."""
        self._opened.wait()
        while (order := self._orders.get()) is not None:
            if self._channel:
                with suppress(*GONE):
                    order(self._channel)


def _close(channel: paramiko.Channel) -> None:
    with suppress(*GONE):
        channel.close()
