"""A measurement while it runs: the sources begin together, report as they go, and one that is lost costs only itself.

    start:  load programs are started -> each is ready -> clocks are compared -> all begin at one moment
    then, in a thread:  records come in; clocks are compared again twice a second; each second a tick for the terminal and for the live page
    stop:   no more requests; those in flight end, or their deadline comes -> the measurement

A machine that lost its power says nothing more, and neither does one whose network is cut: its program goes on, and reports when the network is back. So a silent
source is waited for as long as its machine is on.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import selectors
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from labctl.errors import LabctlError
from labctl.lab.client import LabClient
from labctl.lab.measuring.names import PodNames
from labctl.lab.measuring.source import RunningSource
from labctl.lab.measuring.sources import SourcePlan
from labctl.lab.measuring.target import Target
from labctl.measure import reader
from labctl.measure.live import SourceTick, Tick, source_tick
from labctl.measure.records import Measurement, Request, Source

READY_S = 30.0
SILENT_S = 12.0  # how long a silent source of a machine that is on is waited for at the end: as long as TCP may wait before it tries again
_COMPARE_S, _READINGS, _BEGIN_S = 0.5, 8, 0.05
_QUIET_S = 1.0
Connect = Callable[[], LabClient]


class Running:
    """`stop` must be called in any case, or `abandon`. The thread that made it calls both."""

    def __init__(
        self, connect: Connect, target: Target, plans: Sequence[SourcePlan], settings: dict[str, Any], *, ready_s: float = READY_S
    ) -> None:
        self.target = target
        self._settings = settings
        self._connect = connect
        self._ready_s = ready_s
        self._selector = selectors.DefaultSelector()
        self._names = PodNames(connect)
        self._ticks: queue.SimpleQueue[Tick] = queue.SimpleQueue()
        self._told: queue.Queue[Tick | None] = queue.Queue(4)
        self._id = f"measure-{secrets.token_hex(4)}"
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._finished = threading.Event()  # of the thread; a `join` that Ctrl-C ends takes it for ended (Python 3.11: bpo-45274)
        self._began_s = self._ended_s = self._began_at = 0.0
        self._result: Measurement | None = None
        self.sources: list[RunningSource] = []
        self._thread = threading.Thread(target=self._run, name="measuring", daemon=True)
        try:
            self._start(plans)
        except BaseException:
            self.abandon()
            raise

    # -- what the caller does -----------------------------------------------------------------------------------------

    def ticks(self) -> Iterator[Tick]:
        """Yields each second's tick until the measurement has ended by itself or was stopped."""
        while True:
            with contextlib.suppress(queue.Empty):
                tick = self._ticks.get(timeout=0.2)
                yield tick
                if tick.over:
                    return
                continue
            if self._finished.is_set() and self._ticks.empty():
                return

    def stop(self) -> Measurement:
        """Ends it and returns everything that was reported. A second call returns the same."""
        if self._result is None:
            self._stopping.set()
            self._finished.wait()
            self._names.close()
            self._result = self._measurement()
        return self._result

    def hurry(self) -> None:
        """Lets `stop` wait for nobody any more: what was reported so far is the result."""
        self._hurry.set()

    def abandon(self) -> None:
        """Ends it without a result."""
        self._names.close()
        self._stopping.set()
        for source in self.sources:
            source.lose("the measurement was given up")
        if self._thread.ident:
            self._finished.wait()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self._stopping.is_set():
            self.abandon()

    # -- the beginning ------------------------------------------------------------------------------------------------

    def _start(self, plans: Sequence[SourcePlan]) -> None:
        for plan in plans:
            source = RunningSource(plan, self._settings, self._settings["count"])
            self.sources.append(source)
            self._selector.register(source.fd, selectors.EVENT_READ, source)
        self._until(lambda: all(source.ready for source in self.sources), "the load program was not started within {:.0f} s")
        for source in self.sources:
            source.compare_at_all()
        own_clocks = [source for source in self.sources if not source.clock.same]
        for _ in range(_READINGS if own_clocks else 0):
            for source in own_clocks:
                source.ask_clock()
            self._until(lambda: all(source.clock_answered for source in own_clocks), "its clock was not told within {:.0f} s")
        self._names.ready()
        self._began_s, self._began_at = time.monotonic() + _BEGIN_S, time.time() + _BEGIN_S
        for index, source in enumerate(self.sources):  # side by side, not all at the same instant
            source.begin(self._began_s + index / len(self.sources) / self._settings["rate"])
        self._thread.start()
        threading.Thread(target=self._post, name="live", daemon=True).start()

    def _until(self, done: Callable[[], bool], late: str) -> None:
        """Reads until that is so. A source that is lost before the beginning ends the measurement."""
        deadline = time.monotonic() + self._ready_s
        while not done():
            self._read(0.2)
            for source in self.sources:
                if source.over:
                    raise LabctlError(f"nothing can be sent from {source.plan.name}: {source.trouble}")
            if time.monotonic() > deadline:
                silent = next((source for source in self.sources if not source.ready or not source.clock_answered), self.sources[0])
                raise LabctlError(f"nothing can be sent from {silent.plan.name}: {late.format(self._ready_s)}")

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._measure()
        finally:
            self._finished.set()

    def _measure(self) -> None:
        tick_s, compare_s = self._began_s + 1.0, self._began_s
        end_s = self._began_s + self._settings["count"] / self._settings["rate"] + self._settings["deadline_s"]
        while not all(source.over for source in self.sources) and not self._stopping.is_set():
            now = time.monotonic()
            if now > end_s:
                break
            if now >= compare_s:
                compare_s = now + _COMPARE_S
                for source in self.sources:
                    source.ask_clock()
            if now >= tick_s:
                self._tick(now)
                tick_s += 1.0
            self._read(max(0.0, min(tick_s, compare_s, now + 0.1) - now))
        self._ended_s = time.monotonic()
        self._finish()
        self._tick(time.monotonic(), over=True)

    def _read(self, timeout_s: float) -> None:
        if not self._selector.get_map():
            time.sleep(timeout_s)
        for key, _ in self._selector.select(timeout_s):
            source: RunningSource = key.data
            source.take()
            if source.over:
                self._selector.unregister(key.fd)

    def _finish(self) -> None:
        """Waits for the requests in flight. A silent source is waited for while its machine is on, up to a bound."""
        for source in self.sources:
            source.stop()
        deadline = time.monotonic() + self._settings["deadline_s"] + SILENT_S
        looked_s = 0.0
        while left := [source for source in self.sources if not source.over]:
            self._read(0.1)
            now = time.monotonic()
            quiet = [source for source in left if now - source.heard_s > _QUIET_S]
            if quiet and now - looked_s > 0.3:
                looked_s = now
                self._lose_the_dead(quiet)
            if now > deadline or self._hurry.is_set():
                for source in left:
                    source.lose(f"nothing was heard of it for {now - source.heard_s:.1f} s")
        self._lose_the_dead([source for source in self.sources if source.trouble])

    def _lose_the_dead(self, quiet: Sequence[RunningSource]) -> None:
        """Gives up sources whose machine is off, or has booted since, and says so. Without a master nobody knows, and they are waited for."""
        with contextlib.suppress(LabctlError, OSError, KeyError):
            client = self._connect()
            try:
                for source in quiet:
                    machine = client.find(f"/apis/labctl.internal/v1/machines/{source.plan.machine}") if source.plan.machine else None
                    if machine and (what := _end_of(machine.get("status", {}), source.plan.boot_id)):
                        last_s = source.heard_s - self._began_s
                        source.lose(f"{source.plan.machine} {what}; its last word came {last_s:.2f} s after the beginning", instead=True)
            finally:
                client.close()

    # -- seconds ------------------------------------------------------------------------------------------------------

    def _tick(self, now: float, *, over: bool = False) -> None:
        sources = tuple(self._source_tick(source, now) for source in self.sources)
        tick = Tick(self._id, self.target.text, self._settings["rate"], now, time.time(), sources, over)
        self._ticks.put(tick)
        with contextlib.suppress(queue.Full):
            self._told.put_nowait(tick)
        if over:
            self._told.put(None)

    def _source_tick(self, source: RunningSource, now: float) -> SourceTick:
        fresh = source.reader.records[source.told :]
        source.told = len(source.reader.records)
        names = source.reader.names
        ended = [(each.outcome, self._names.pod(names[each.who], now) if each.who else "", each.ended / 1e6) for each in fresh]
        silent_s = now - source.heard_s
        return source_tick(source.plan.name, ended, silent_s if silent_s > _QUIET_S else 0.0)

    def _post(self) -> None:
        """Tells the master each second. A master that is away misses some."""
        import msgspec

        client: LabClient | None = None
        while (tick := self._told.get()) is not None:
            try:
                client = client or self._connect()
                client.post("/labctl/v1/measurements", msgspec.to_builtins(tick))
            except (LabctlError, OSError, KeyError):
                client = None
        if client:
            client.close()

    # -- the end ------------------------------------------------------------------------------------------------------

    def _measurement(self) -> Measurement:
        rate = self._settings["rate"]
        told: list[Source] = []
        requests: list[Request] = []
        for source in self.sources:
            told.append(reader.summarized(source.plan.name, source.reader, source.begin_there_s, source.clock, source.trouble))
            requests += reader.requests(source.plan.name, source.reader, source.begin_there_s, rate, source.clock, self._names.pod)
        requests.sort(key=lambda request: (request.intended_s, request.source))
        return Measurement(
            self.target.text, rate, self.target.protocol, self._settings["keepalive"], self._began_s, self._ended_s, self._began_at,
            tuple(told), tuple(requests),
        )  # fmt: skip


def _end_of(status: Mapping[str, Any], boot_id: str) -> str:
    """Returns why nothing more will come from a machine soon, or ""."""
    power = status.get("power", "")
    if power in ("Off", "Paused"):
        return "lost its power" if power == "Off" else "stands still"
    return "booted again" if status.get("bootID", "") != boot_id else ""
