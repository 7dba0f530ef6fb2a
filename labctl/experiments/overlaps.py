"""Faults of one timeline that can't both be: the second would be refused in each repetition. The file alone tells it.

Targets are compared as they are written: within a repetition the same words mean the same pod and the same machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import inf

from labctl.experiments.steps import PlannedStep
from labctl.experiments.units import seconds


def contradictions(steps: Sequence[PlannedStep], once: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the field of each fault that begins while another one forbids it, and why. Faults of the types `once` are over at once."""
    faults = sorted((step for step in steps if step.fault), key=lambda step: step.at_s)
    for number, step in enumerate(faults):
        for earlier in faults[:number]:
            if earlier.target != step.target or earlier.fault in once or step.at_s >= _end_s(earlier):
                continue
            when = f"from {earlier.at_s:g} s " + (f"to {_end_s(earlier):g} s" if earlier.duration else "to the end, as it has no `for`")
            if earlier.fault == "power-off":
                yield f"{step.field}.at", f"{step.target} is off then: {earlier.field} cuts its power {when}"
            elif earlier.fault == step.fault and _same_place(earlier, step):
                yield f"{step.field}.at", f"{step.target} has a {step.fault} then already: {earlier.field} lasts {when}"
            else:
                continue
            break


def _end_s(step: PlannedStep) -> float:
    return step.at_s + seconds(step.duration) if step.duration else inf


def _same_place(one: PlannedStep, other: PlannedStep) -> bool:
    """Tell whether two faults of a link meet: in one direction at least, and between the same two."""
    same_direction = "both" in (one.direction or "both", other.direction or "both") or one.direction == other.direction
    return same_direction and (not one.peer or not other.peer or one.peer == other.peer)
