"""A running measurement, second by second: what `labctl measure` tells the master, and what the live page draws.

The master keeps the last seconds in memory only. Losing them loses nothing: the measurement itself is in the hands of whoever runs it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from labctl.decoding import ready
from labctl.measure.records import MAX_SOURCES, Outcome

MAX_TICKS = 1_000
MAX_BODY_BYTES = 1 << 18
_Name = Annotated[str, msgspec.Meta(max_length=600)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class SourceTick(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ended at one source in one second: requests by outcome, and the latency of good answers from their intended start."""

    name: _Name
    outcomes: Annotated[Mapping[Outcome, _Count], msgspec.Meta(max_length=16)] = {}
    answered_by: Annotated[Mapping[_Name, _Count], msgspec.Meta(max_length=100)] = {}
    p50_s: _Seconds | None = None
    p99_s: _Seconds | None = None
    silent_s: _Seconds = 0.0  # how long nothing has been heard of the source

    @property
    def ok(self) -> int:
        return self.outcomes.get("ok", 0)

    @property
    def failed(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome not in ("ok", "unsent"))

    @property
    def unsent(self) -> int:
        return self.outcomes.get("unsent", 0)


class Tick(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One second of one measurement. `at_s` is the second's end by the master's host's CLOCK_MONOTONIC, `at` the same since the epoch."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,64}$")]
    target: Annotated[str, msgspec.Meta(max_length=2000)]
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    at_s: _Seconds
    at: _Seconds
    sources: Annotated[tuple[SourceTick, ...], msgspec.Meta(max_length=MAX_SOURCES)]
    over: bool = False  # the measurement has ended


class LiveMeasurements:
    """The last ticks of all measurements, for the master. One thread uses it."""

    def __init__(self) -> None:
        self._ticks: deque[Tick] = deque(maxlen=MAX_TICKS)
        self._decoder = msgspec.json.Decoder(ready(Tick))

    def add(self, body: bytes) -> None:
        """Takes a tick as it was sent. Raises ValueError, which says what is wrong with it."""
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"longer than {MAX_BODY_BYTES} bytes")
        try:
            self._ticks.append(self._decoder.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(str(error)[:300]) from None

    def since(self, at_s: float = 0.0) -> Sequence[Tick]:
        """Returns the ticks after `at_s`, the oldest first."""
        return [tick for tick in self._ticks if tick.at_s > at_s]


def source_tick(name: str, ended: Sequence[tuple[str, str, float]], silent_s: float) -> SourceTick:
    """Returns the tick of requests that ended in this second: outcome, the pod that answered, latency from the intended start."""
    from labctl.measure.summary import percentile

    good = sorted(latency_s for outcome, _, latency_s in ended if outcome == "ok")
    pods = Counter(pod for outcome, pod, _ in ended if pod and outcome == "ok").most_common(100)
    return SourceTick(
        name,
        dict(Counter(outcome for outcome, _, _ in ended)),  # type: ignore[arg-type]
        dict(pods),
        percentile(good, 0.5) if good else None,
        percentile(good, 0.99) if good else None,
        silent_s,
    )
