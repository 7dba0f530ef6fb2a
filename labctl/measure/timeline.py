"""The timeline of one fault: what happened after it, when, on which machine and by whom, and the figures that follow from it.

`labctl timeline`, the experiments and their reports read these values. All times are seconds after the fault was injected, on the clock of the master's
host (the journal's `t`). The definitions of the figures, with their sources, stand in docs/measuring.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

# What a mark can be, in the order in which they usually follow each other.
KINDS = (
    "injected",
    "known",
    "endpoint-removed",
    "rules",
    "decided",
    "scheduled",
    "image",
    "started",
    "ready",
    "in-vip",
    "first-answer",
    "healed",
)


class FaultFacts(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What the timeline needs to know of a fault. Times are those of the journal (`t`); `healed_s` is None while the fault lasts."""

    name: str
    type: str
    target: str  # minion-1 | pod/NAMESPACE/NAME[/CONTAINER] | master | client/USER
    peer: str = ""  # the other machine of a link, or master
    injected_s: float
    healed_s: float | None = None
    uncertainty_s: float = 0.0  # how long the deed itself took: the fault began at some moment of it


class Mark(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing that happened: `what` is one of KINDS. `where` is a minion, a pod (`NAMESPACE/NAME`) or empty; `by` says who knew or did it."""

    at_s: float
    what: str
    where: str = ""
    by: str = ""  # of "known": provider | lease | probe | refused | agent | user ...
    about: str = ""  # the object that it is about, as the journal has it: pods/default/web-1
    rev: int = 0  # the revision that was written then
    cause: int = 0  # the revision that led to it
    text: str = ""
    uncertainty_s: float = 0.0  # of times that a machine's own clock told


class Figures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The figures of one fault, in seconds and requests; None where a thing did not happen, or where nobody measured."""

    reaction_s: float | None = None  # from the fault to the first reaction of the control plane
    repair_s: float | None = None  # from the reaction until what was lost is replaced and ready
    recovery_s: float | None = None  # from the reaction until the service answers everywhere again
    outage_s: float | None = None  # from the fault until then: reaction + recovery
    requests: int | None = None
    failed: int | None = None
    slow: int | None = None
    unsent: int | None = None
    longest_gap_s: Mapping[str, float] = {}  # for each source: the longest time without a good answer
    p50_s: float | None = None
    p99_s: float | None = None
    uncertainty_s: float = 0.0


class Timeline(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The marks of one fault, the earliest first, and its figures."""

    fault: FaultFacts
    marks: tuple[Mark, ...] = ()
    figures: Figures = Figures()
