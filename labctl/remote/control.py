"""One machine's control connection and the one thread that works on it, in the order asked.

Who calls it: worker.py puts jobs; each answers through `send`. What flows: small calls, each with a deadline that began when it was asked.
What it never does: carry streams or bulk (channels.py has connections of its own); wait for another machine; repeat a call.

A connection that is lost is opened again by the same thread, at once and then with growing pauses, so that Connected is told soon after a
machine is back. A machine that shows another host key is not asked again until there is a new target. A helper that ends again and again, as a hostile
one might to keep the master busy, is started again more and more slowly: `helper_starts_most` times in `helper_starts_s`.

Nothing that one job or one machine does ends the thread: what is no RemoteError is answered as a mistake, and told to the master.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from labctl.errors import Deadline, HostKeyMismatch, RemoteError, Unreachable
from labctl.remote import wire
from labctl.remote.channels import Channels
from labctl.remote.connection import Connection
from labctl.remote.helper import Digest, Helper
from labctl.remote.interface import Target
from labctl.remote.reverse import open_way_back
from labctl.remote.settings import RemoteSettings


@dataclass(frozen=True)
class _Job:
    id: int
    until: float
    work: Callable[[], wire.Answer]


class Control:
    """Jobs go in through run, call and connect, which return at once."""

    def __init__(
        self,
        target: Target,
        settings: RemoteSettings,
        send: Callable[[wire.Message], None],
        mistake: Callable[[str, BaseException], None],
    ) -> None:
        self.target = target
        self.channels = Channels(target, settings, on_idle=lambda: self._jobs.put(None))
        self._settings = settings
        self._send = send
        self._mistake = mistake
        self._helper_starts: deque[float] = deque(maxlen=settings.helper_starts_most)  # when the latest were
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._helper: Helper | None = None
        self._refused: HostKeyMismatch | None = None
        self._told = False  # "connected" was told, and "lost" not yet
        self._pause_s = settings.retry_first_s
        self._greeting_s = settings.connect_deadline_s
        self._retry_at = 0.0
        self._wanted = False  # somebody has asked for a connection: from then on it is opened again when lost
        self._closed = False
        threading.Thread(target=self._work, name=f"control {target.name}", daemon=True).start()

    def connect(self, id_: int) -> None:
        def work() -> wire.Answer:
            self._wanted, self._retry_at = True, 0.0
            self._connected()
            return wire.Answer(id_)

        self._put(id_, self._settings.connect_deadline_s * 2, work)

    def run(self, request: wire.Run) -> None:
        until = time.monotonic() + request.deadline_s

        def work() -> wire.Answer:
            return wire.Answer(request.id, *self._connected().execute(request.argv, request.stdin, until))

        self._put(request.id, request.deadline_s, work)

    def call(self, request: wire.Call) -> None:
        until = time.monotonic() + request.deadline_s

        def work() -> wire.Answer:
            return wire.Answer(request.id, stdout=self._helped(until).call(request.method, request.params, until))

        self._put(request.id, request.deadline_s, work)

    def reset_helper(self) -> None:
        """Let the next call start a new helper, in order with the calls."""

        def work() -> wire.Answer:
            self._close_helper()
            return wire.Answer(0)

        self._put(0, self._settings.connect_deadline_s, work)

    def close(self) -> None:
        """Close from any thread. Calls that wait fail with Unreachable."""
        self._closed = True
        connection = self._connection
        if connection:
            connection.close()  # what is under way ends now
        self.channels.close()
        self._jobs.put(None)

    def _put(self, id_: int, deadline_s: float, work: Callable[[], wire.Answer]) -> None:
        self._jobs.put(_Job(id_, time.monotonic() + deadline_s, work))

    def _work(self) -> None:
        """Carry out the calls; this is the thread's function."""
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_s())
            except queue.Empty:
                job = None
            if job is not None:
                self._answer(job)
            elif self._closed:
                break
            else:
                self._keep_safely()
        self._fail_waiting()
        self._lose("closed")

    def _keep_safely(self) -> None:
        try:
            self._keep()
        except Exception as error:  # our mistake: the thread must go on, but not in a circle
            self._mistake(f"control {self.target.name}", error)
            self._retry_at = max(self._retry_at, time.monotonic() + self._settings.retry_max_s)

    def _idle_s(self) -> float | None:
        """Return how many seconds nothing needs to be done if no call comes."""
        if self._wanted and not self._alive() and not self._refused:
            return max(0.0, self._retry_at - time.monotonic())
        return self.channels.sweep_after_s()

    def _keep(self) -> None:
        """Between jobs: open again what was lost, close what is not used."""
        self.channels.sweep()
        if self._told and not self._alive():
            self._lose("the connection was lost")
        try:
            if self._wanted and not self._refused and time.monotonic() >= self._retry_at:
                self._connected()
        except RemoteError:
            pass  # _connected has set the time of the next attempt

    def _answer(self, job: _Job) -> None:
        try:
            if self._closed:
                raise Unreachable(f"{self.target.name}: the connection was closed")
            if time.monotonic() >= job.until:
                raise Deadline(f"{self.target.name}: calls before this one took all its time; it was not started")
            message: wire.Message = job.work()
        except Exception as error:
            if not isinstance(error, RemoteError):  # our mistake, about one call
                self._mistake(f"control {self.target.name}", error)
            message = wire.failure(job.id, error)
        self._send(message)

    def _fail_waiting(self) -> None:
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                self._send(wire.failure(job.id, Unreachable(f"{self.target.name}: the connection was closed")))

    def _alive(self) -> bool:
        return self._connection is not None and self._connection.alive

    def _connected(self) -> Connection:
        if self._connection and self._connection.alive:
            return self._connection
        if self._refused:
            raise self._refused
        if self._told:
            self._lose("the connection was lost")
        if time.monotonic() < self._retry_at:
            raise Unreachable(f"{self.target.name}: no connection; the next attempt is in {self._retry_at - time.monotonic():.1f} s")
        started = time.monotonic()
        try:
            self._connection = self._open()
        except HostKeyMismatch as error:
            self._refused = error
            raise
        except RemoteError:
            self._retry_at = time.monotonic() + self._pause_s * random.uniform(0.7, 1.3)  # noqa: S311 - so that ten machines don't come at once
            self._pause_s = min(self._pause_s * 2, self._settings.retry_max_s)
            # An emulated machine on a busy host may need longer than any fixed deadline, and each attempt costs it another process.
            self._greeting_s = min(self._greeting_s * 2, max(self._settings.greeting_most_s, self._settings.connect_deadline_s))
            raise
        if self._closed:  # while it was being opened
            self._connection.close()
            raise Unreachable(f"{self.target.name}: the connection was closed")
        self._pause_s, self._greeting_s = self._settings.retry_first_s, self._settings.connect_deadline_s
        self._told = True
        self._send(wire.Connected(self.target.name, self.target.generation, round(time.monotonic() - started, 3)))
        return self._connection

    def _open(self) -> Connection:
        connection = Connection(self.target, self._settings, lambda: self._jobs.put(None), self._greeting_s)
        if self._settings.reverse_from:
            try:
                open_way_back(connection, self._settings, time.monotonic() + self._settings.connect_deadline_s)
            except RemoteError:
                connection.close()
                raise
        return connection

    def _lose(self, reason: str) -> None:
        self._close_helper()
        if self._connection:
            self._connection.close()
            self._connection = None
        if self._told:
            self._told = False
            self._send(wire.Lost(self.target.name, self.target.generation, reason))

    def _helped(self, until: float) -> Helper:
        connection = self._connected()
        if not self._helper or not self._helper.alive:
            self._pace_helper()
            channel = connection.session(self._settings.helper, until)
            self._helper = Helper(self.target.name, channel, self._tell_digest, lambda: self._send(wire.HelperEnded(self.target.name)))
        return self._helper

    def _pace_helper(self) -> None:
        starts, now = self._helper_starts, time.monotonic()
        if len(starts) == starts.maxlen and now - starts[0] < self._settings.helper_starts_s:
            raise RemoteError(
                f"{self.target.name}: its helper ended {len(starts)} times in {now - starts[0]:.0f} s, and is not started again yet"
            )
        starts.append(now)

    def _close_helper(self) -> None:
        if self._helper:
            self._helper.close()
            self._helper = None

    def _tell_digest(self, digest: Digest) -> None:
        self._send(wire.Digest(self.target.name, digest.rules, digest.routes, digest.forwarder, digest.dns))
