"""Measuring a Service: requests at a fixed rate from minions, pods and the host, each of them recorded. For the command line, experiments and the demo.

    with Measuring(lab).start(Asked(target="web"), rate=200, sources=["minion-1"]) as running:
        ...                                   # break something
        measurement = running.stop()

`labctl.measure` knows what a measurement is; this package knows the lab: addresses, machines, SSH.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labctl.errors import LabctlError, UsageError
from labctl.lab import process
from labctl.lab.client import LabClient
from labctl.lab.measuring import sources as places
from labctl.lab.measuring.running import Running
from labctl.lab.measuring.target import Asked, resolve
from labctl.measure.records import MAX_REQUESTS, MAX_SOURCES, Measurement

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

__all__ = ["Asked", "Measuring", "Running"]
MAX_RATE = 5_000.0
MAX_S = 3_600.0
_MAX_IN_FLIGHT = 4_000


class Measuring:
    """Measures a lab."""

    def __init__(self, lab: LabFolder) -> None:
        self._lab = lab

    def start(
        self,
        asked: Asked,
        *,
        rate: float = 200.0,
        sources: Sequence[str] = (),
        seconds: float | None = None,
        deadline_s: float = 5.0,
        unchecked: bool = False,
    ) -> Running:
        """Begins to send `rate` requests a second from each source, for `seconds` or until it is stopped.

        A request that has no whole answer after `deadline_s` has failed. `unchecked` takes any certificate. Without `sources` each minion is one.
        """
        if not 0.1 <= rate <= MAX_RATE:
            raise UsageError(f"{rate:g} requests a second from each source", mend=f"write a rate from 0.1 to {MAX_RATE:g}")
        if not 0.01 <= deadline_s <= 60:
            raise UsageError(f"a deadline of {deadline_s:g} s", mend="write one from 10ms to 60s")
        target = resolve(self._lab, asked)
        plans = places.plan(self._lab, sources, target, asked.namespace)
        most_s = min(MAX_S, MAX_REQUESTS / rate / len(plans))
        if len(plans) > MAX_SOURCES or seconds is not None and not 0 < seconds <= most_s:
            raise UsageError(
                f"{len(plans)} sources at {rate:g}/s may measure for {most_s:.0f} s at most",
                mend="fewer sources, a lower rate or less time",
            )
        settings = {
            "protocol": target.protocol,
            "request": target.request,
            "keepalive": asked.keepalive,
            "rate": rate,
            "count": max(1, math.ceil((most_s if seconds is None else seconds) * rate - 1e-9)),
            "deadline_s": deadline_s,
            "in_flight": min(_MAX_IN_FLIGHT, math.ceil(rate * deadline_s) + 50),
            "server_name": target.server_name,
            "authority": "unchecked" if unchecked else self._authority(),
        }
        return Running(self._connect, target, plans, settings)

    def measure(self, asked: Asked, seconds: float, *, rate: float = 200.0, sources: Sequence[str] = ()) -> Measurement:
        """Sends requests for so long, and returns what became of them."""
        running = self.start(asked, rate=rate, sources=sources, seconds=seconds)
        for _ in running.ticks():
            pass
        return running.stop()

    def _authority(self) -> str:
        return (self._lab.paths.certificates / "ca.crt").read_text()

    def _connect(self) -> LabClient:
        """Returns a client of the running master for a thread of its own. Starts no master: one that is dead is perhaps what is measured."""
        port = process.master_run(self._lab.paths).get("port")
        if not port:
            raise LabctlError("no master runs")
        return LabClient(port, self._lab.paths.certificates, timeout_s=5.0)
