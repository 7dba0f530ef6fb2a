"""How many Events a node may write, on a clock that stands still until it is moved."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.admission.eventratelimit import BURST, EVENT_BYTES, EVENT_MOST_BYTES, PER_S, EventRateLimit
from labctl.errors import ApiError
from labctl.resources.admission import Attributes
from labctl.resources.kinds.core_v1.event import KIND
from labctl.resources.service import SYSTEM, User, WriteOptions

ONE, OTHER = (User(f"system:node:minion-{n}", ("system:nodes",)) for n in (1, 2))


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at


async def written(step: EventRateLimit, user: User = ONE, most: int = 3 * BURST, **event: Any) -> int:
    """How many of `most` writes pass before one is refused."""
    for count in range(most):
        try:
            await step.admit(Attributes(user, "create", KIND, None, {"metadata": {"name": "e"}, **event}, WriteOptions()))
        except ApiError as error:
            assert error.code == 429
            return count
    return most


async def test_a_node_has_a_burst_then_a_rate_and_others_have_their_own() -> None:
    clock = Clock()
    step = EventRateLimit(clock)
    assert await written(step) == BURST
    assert await written(step) == 0
    clock.at += 2
    assert await written(step) == 2 * PER_S
    assert await written(step, OTHER) == BURST
    clock.at += 100_000
    assert await written(step) == BURST


async def test_the_masters_own_have_no_limit() -> None:
    assert await written(EventRateLimit(Clock()), SYSTEM) == 3 * BURST


async def test_an_event_has_a_size() -> None:
    step = EventRateLimit(Clock())
    assert await written(step, most=1, message="x" * 1024) == 1
    with pytest.raises(ApiError) as refused:
        await step.admit(Attributes(ONE, "create", KIND, None, {"message": "x" * EVENT_MOST_BYTES}, WriteOptions()))
    assert refused.value.code == 413


async def test_a_long_event_counts_as_several() -> None:
    """Else one node has 290 MB of them in the hour for which they are kept."""
    kilobytes = EVENT_MOST_BYTES // EVENT_BYTES
    assert await written(EventRateLimit(Clock()), message="x" * (EVENT_MOST_BYTES - 100)) == BURST // kilobytes
