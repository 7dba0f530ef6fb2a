"""Every way that a packet may take through a machine's rules, and how probable each is.

`labctl trace` asks. Where a rule is hit with a probability only, both ways are followed: the tracer is run once for each, and told how to decide. So the
probabilities are those of the rules, not of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import msgspec

from labctl.errors import LabctlError
from labctl.proxy.matches import Packet, World
from labctl.proxy.tracer import Step, Tables, Trace, trace

WAYS_MAX = 2_000


class Way(msgspec.Struct, frozen=True):
    """One way, and the share of packets that take it (0 to 1)."""

    probability: float
    trace: Trace


class _Script:
    """Decides as it is told, then always for the hit; it remembers what else could have been decided."""

    def __init__(self, told: tuple[bool, ...]) -> None:
        self._told = told
        self.decided: list[bool] = []
        self.others: list[tuple[bool, ...]] = []
        self.probability = 1.0

    def __call__(self, probability: float) -> bool:
        if not 0 < probability < 1:
            return probability >= 1
        place = len(self.decided)
        if place < len(self._told):
            hit = self._told[place]
        else:
            hit = True
            self.others.append((*self.decided, False))
        self.decided.append(hit)
        self.probability *= probability if hit else 1 - probability
        return hit


def ways(tables: Tables, packet: Packet, world: World) -> list[Way]:
    """Return all ways, in the order of the rules; those that end alike are one. Raises LabctlError for rules that can't be followed."""
    found: dict[tuple[str, str, int, bool], Way] = {}
    todo: list[tuple[bool, ...]] = [()]
    walked = 0
    while todo:
        walked += 1
        if walked > WAYS_MAX:
            raise LabctlError(f"there are more than {WAYS_MAX} ways through the machine's rules")
        script = _Script(todo.pop())
        one = _traced(tables, packet, msgspec.structs.replace(world, decide=script, recent=deepcopy(world.recent)))
        todo += script.others
        end = (one.verdict, one.packet.destination, one.packet.port, one.masqueraded)
        before = found.get(end)
        found[end] = Way(script.probability + (before.probability if before else 0.0), before.trace if before else one)
    return list(found.values())


def _traced(tables: Tables, packet: Packet, world: World) -> Trace:
    """Raises LabctlError where a rule's target has no options that make sense."""
    try:
        return trace(tables, packet, world)
    except (ValueError, KeyError) as error:
        raise LabctlError(f"a rule of the machine can't be followed: {str(error)[:200]}") from None


def common(found: Sequence[Way]) -> tuple[Step, ...]:
    """Return the steps that all ways share at their beginning."""
    shared: list[Step] = []
    for steps in zip(*(way.trace.steps for way in found), strict=False):
        if any(step != steps[0] for step in steps):
            break
        shared.append(steps[0])
    return tuple(shared)
