"""Requests from one minion to a virtual IP while something happens, summed up in a sentence: for `labctl smoke` and the tour."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from labctl.lab.measuring import Asked, Measuring
from labctl.measure.summary import summaries

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

_RATE, _DEADLINE_S = 100.0, 2.0
_AFTER_S = 1.0


class Outcome(msgspec.Struct, frozen=True):
    """What became of the requests. `longest_ms` is the longest time without a good answer; `errors` says how many failed in which way."""

    total: int
    failed: int
    longest_ms: int
    errors: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.total} requests, {self.failed} failed; the longest time without an answer: {self.longest_ms} ms"


class Load:
    """A running client: `with Load(lab, "minion-2", vip) as load: ...`; afterwards the result is in `load.outcome`."""

    outcome: Outcome

    def __init__(self, lab: LabFolder, minion: str, address: str) -> None:
        self._lab, self._minion, self._address = lab, minion, address

    def __enter__(self) -> Load:
        asked = Asked(target=f"http://{self._address}/")
        self._running = Measuring(self._lab).start(asked, rate=_RATE, sources=[self._minion], deadline_s=_DEADLINE_S)
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure:
            self._running.abandon()
            return
        time.sleep(_AFTER_S)  # so that failures just after the last change are counted too
        [summary] = summaries(self._running.stop())
        errors = tuple(f"{count} {outcome}" for outcome, count in summary.failed.items())
        self.outcome = Outcome(summary.sent, summary.failures, round(summary.longest_gap_s * 1000), errors)
