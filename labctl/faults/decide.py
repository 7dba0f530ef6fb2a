"""Decides what a fault needs next: a pure function of its object, of the time, and of whether its deed says that it is over.

pending                                  Begin; if it is to be healed or deleted already: Skip
injecting (a master was killed)          Inject again; if it is to be healed: Heal
active                                   Rest until its duration is over; then Heal
healing                                  Heal
ended                                    Rest; if it is being deleted: Release
"""

from __future__ import annotations

import enum

import msgspec

from labctl.clock import parse_rfc3339
from labctl.resources.kinds.labctl_internal_v1.fault import ACTIVE, ENDED, FINALIZER, HEALING, INJECTING, Fault

TICK_S = 0.001  # a timer may fire this much early


class Need(enum.Enum):
    """What a fault can need."""

    BEGIN = "refuse it, or do it"
    SKIP = "end it before it began"
    INJECT = "do it, or find that it was done"
    HEAL = "make whole what it broke"
    RELEASE = "let its object go"
    REST = "nothing, for `again_s`"


class Decision(msgspec.Struct, frozen=True):
    """`why` is the reason for healing; `again_s` is when to look again though nothing changed (None: never)."""

    need: Need
    why: str = ""
    again_s: float | None = None


def decide(fault: Fault, now: float, wall: float, over: str = "") -> Decision:
    """Decide what the fault needs next. `over` is why the deed says that the fault is over by itself, or "" if it is not."""
    if fault.phase in ENDED:
        return Decision(Need.RELEASE if _leaves(fault) else Need.REST)
    if fault.phase == HEALING:
        return Decision(Need.HEAL, fault.status.reason_to_heal or fault.status.message)
    asked = why_heal(fault)
    if fault.phase not in (INJECTING, ACTIVE):
        return Decision(Need.SKIP, asked) if asked else Decision(Need.BEGIN)
    left_s = fault.duration_s - lasted_s(fault, now, wall) if fault.spec.duration else None
    if not asked and left_s is not None and left_s < TICK_S:
        asked = f"its {fault.spec.duration} were over"
    if asked or over:
        return Decision(Need.HEAL, asked or over)
    return Decision(Need.INJECT) if fault.phase == INJECTING else Decision(Need.REST, again_s=left_s)


def why_heal(fault: Fault) -> str:
    """Returns why a person wants it healed; empty if nobody does."""
    if fault.metadata.deletion_timestamp:
        return "its object was deleted"
    return "healing was asked for" if fault.spec.heal else ""


def lasted_s(fault: Fault, now: float, wall: float) -> float:
    """Returns for how long it has lasted. The monotonic clock begins anew when the host boots; then only the wall clock can tell."""
    lasted = now - fault.status.injected_monotonic
    if lasted < 0 and fault.status.injected_at:
        return max(0.0, wall - parse_rfc3339(fault.status.injected_at))
    return max(0.0, lasted)


def _leaves(fault: Fault) -> bool:
    return bool(fault.metadata.deletion_timestamp) and FINALIZER in fault.metadata.finalizers
