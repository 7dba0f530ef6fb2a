"""The timeline of one fault, from the journal and from the requests that were measured meanwhile.

`labctl timeline`, the experiments and their reports call it. causes.py finds the marks in the journal, by following causes; figures.py counts the requests.
Everything here is a pure function: it reads no clock and no file. marks.py has the values, and docs/measuring.md the definitions with their sources.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.journal import Line
from labctl.measure import causes, figures
from labctl.measure.marks import KINDS, FaultFacts, Figures, Mark, Timeline
from labctl.measure.records import Measurement

__all__ = ["KINDS", "FaultFacts", "Figures", "Mark", "Timeline", "timeline"]


def timeline(fault: FaultFacts, lines: Iterable[Line], measurement: Measurement | None = None) -> Timeline:
    """Return what the fault led to. `lines` are the journal's, in order; those from before the fault are passed over."""
    story = causes.follow(fault, lines)
    marks = [Mark(at_s=0.0, what="injected", where=fault.target, by=fault.type, uncertainty_s=fault.uncertainty_s), *story.marks]
    if fault.healed_s is not None:
        marks.append(Mark(at_s=fault.healed_s - fault.injected_s, what="healed", where=fault.target))
    reaction_s, repair_s = causes.reaction(story), causes.repair(story)
    counted = figures.count(fault, measurement) if measurement is not None else figures.NOTHING
    if measurement is not None:
        marks += figures.answers(fault, measurement, story.ready)
    outage_s = counted.outage_s
    found = Figures(
        reaction_s=reaction_s,
        repair_s=repair_s,
        recovery_s=max(0.0, outage_s - reaction_s) if outage_s is not None and reaction_s is not None else None,
        outage_s=outage_s,
        requests=counted.requests,
        failed=counted.failed,
        slow=counted.slow,
        unsent=counted.unsent,
        longest_gap_s=counted.longest_gap_s,
        p50_s=counted.p50_s,
        p99_s=counted.p99_s,
        uncertainty_s=max(fault.uncertainty_s, counted.uncertainty_s),
    )
    in_order = sorted(marks, key=lambda mark: mark.at_s)  # of one moment: as they stand in the journal
    return Timeline(fault=fault, marks=tuple(in_order), figures=found)
