"""The values of a fault's timeline: what happened after it, when, on which machine and by whom, and the figures that follow from it.

`labctl timeline`, the experiments and their reports read these values. All times are seconds after the fault was injected, on the clock of the master's
host (the journal's `t`). The definitions of the figures, with their sources, stand in docs/measuring.md. timeline.py makes them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

# What a mark can be, in the order in which they usually follow each other.
KINDS = (
    "injected",
    "first-failure",  # the first request of a source that failed
    "known",
    "fenced",  # the node controller said that a node is lost
    "endpoint-removed",
    "rules",  # a minion sends nothing to the removed endpoint any more
    "evicted",
    "decided",  # a replacement was created
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
    by: str = ""  # of "known": provider | lease | probe | agent | ssh | digest | user; of others the component that did it
    about: str = ""  # the object that it is about, as the journal has it: pods/default/web-1
    rev: int = 0  # the revision that was written then
    cause: int = 0  # the `rev` of the mark that led to it; 0 if nothing but the fault did
    text: str = ""
    uncertainty_s: float = 0.0  # of times that a machine's own clock told


class Figures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The figures of one fault, in seconds and requests; None where a thing did not happen, or where nobody measured.

    If the service answered everywhere before the control plane reacted, or never stopped to, recovery is 0 and the outage is shorter than the reaction.
    """

    reaction_s: float | None = None  # from the fault to the first reaction of the control plane
    repair_s: float | None = None  # from the reaction until as many pods are ready as were lost
    recovery_s: float | None = None  # from the reaction until the service answers everywhere again
    outage_s: float | None = None  # from the fault until then: reaction + recovery
    requests: int | None = None  # that were under way when the fault began, or were intended later
    failed: int | None = None
    slow: int | None = None  # answered, but later than figures.py's bound
    unsent: int | None = None
    longest_gap_s: Mapping[str, float] = {}  # for each source: the longest time without a good answer
    p50_s: float | None = None  # of good answers, from when they were intended
    p99_s: float | None = None
    uncertainty_s: float = 0.0


class Timeline(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The marks of one fault, the earliest first, and its figures."""

    fault: FaultFacts
    marks: tuple[Mark, ...] = ()
    figures: Figures = Figures()
