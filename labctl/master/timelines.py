"""Serves the journal, and the timelines of faults that follow from it, under /labctl/v1. The measurements lie with who asks, who joins them there.

GET /labctl/v1/journal?since=SECONDS&limit=COUNT     lines noted at that time (CLOCK_MONOTONIC of this host) or later, the first of them
GET /labctl/v1/timeline/NAME                         of a Fault; `?since=` has no meaning there
GET /labctl/v1/timeline/machine/NAME                 of the last end of a machine; likewise pod/NAME, pod/NAMESPACE/NAME
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.errors import ApiError, UsageError
from labctl.resources.plurals import FAULTS

if TYPE_CHECKING:
    from labctl.journal import MemoryJournal
    from labctl.measure.marks import FaultFacts
    from labctl.resources.kinds.labctl_internal_v1.fault import Fault

LINES_MAX = 20_000  # in one answer; the master remembers no more


class Objects(Protocol):
    """The part of the runner's view that is read."""

    def get(self, kind: str, key: str) -> Any: ...
    def all(self, kind: str, namespace: str = "") -> Iterable[Any]: ...


def add_routes(routes: Extensions, view: Objects, journal: MemoryJournal) -> None:
    routes.add("GET", "/labctl/v1/journal", lambda request: _journal(journal, request))
    for pattern in ("{a}", "{a}/{b}", "{a}/{b}/{c}"):
        routes.add("GET", f"/labctl/v1/timeline/{pattern}", lambda request: _timeline(view, journal, request))


async def _journal(journal: MemoryJournal, request: ExtensionRequest) -> dict[str, Any]:
    """Return the lines since a time. `complete` is false if there are more than were asked for: ask again with the time of the last one."""
    since = _seconds(request.query.first("since") or "0")
    limit = min(max(1, request.query.integer("limit") or LINES_MAX), LINES_MAX)
    lines = journal.since(since, limit + 1)
    return {"lines": lines[:limit], "complete": len(lines) <= limit}


async def _timeline(view: Objects, journal: MemoryJournal, request: ExtensionRequest) -> Any:
    """Return the timeline, without requests: who measured them has them."""
    from labctl.measure.timeline import timeline

    what = "/".join(request.params[name] for name in "abc" if name in request.params)
    fault, until_s = _facts(view, journal, what, request.query.first("namespace") or "default")
    lines = [line for line in journal.since(fault.injected_s - 1e-6, LINES_MAX) if line.t < until_s]
    return msgspec.to_builtins(timeline(fault, lines))


def _facts(view: Objects, journal: MemoryJournal, what: str, namespace: str) -> tuple[FaultFacts, float]:
    """Return what is known of a fault, and until when lines may belong to it: then the next fault of the same target began. Raises ApiError."""
    from labctl.measure.noticed import noticed

    if "/" in what and not what.startswith("fault/"):
        try:
            found = noticed(what, namespace, journal.since(0.0, LINES_MAX))
        except UsageError as error:
            raise ApiError(400, "BadRequest", f"{error.message}; {error.mend}") from None
        if found is None:
            raise ApiError(404, "NotFound", f"the journal knows of no end or failure of {what}")
        return found, math.inf
    name = what.removeprefix("fault/")
    there = view.get(FAULTS, name)
    if there is None:
        raise ApiError(404, "NotFound", f'faults "{name}" not found', details={"name": name, "kind": "faults"})
    fault = facts_of(there)
    if fault is None:
        because = f": {there.status.message}" if there.status.message else ""
        raise ApiError(409, "Conflict", f"fault {name} was not injected: it is {there.phase}{because}")
    others = (facts_of(other) for other in view.all(FAULTS))
    later = (other.injected_s for other in others if other and other.target == fault.target and other.injected_s > fault.injected_s)
    return fault, min(later, default=math.inf)


def facts_of(fault: Fault) -> FaultFacts | None:
    """Return what a Fault object says; None if it was not injected yet."""
    from labctl.measure.marks import FaultFacts

    spec, status = fault.spec, fault.status
    if not status.injected_monotonic:
        return None
    return FaultFacts(
        name=fault.metadata.name,
        type=spec.type,
        target=spec.target,
        peer=spec.peer,
        injected_s=status.injected_monotonic,
        healed_s=status.healed_monotonic or None,
        uncertainty_s=status.took_seconds,
    )


def _seconds(text: str) -> float:
    try:
        value = float(text) if len(text) < 40 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ApiError(400, "BadRequest", f"since: {text[:40]!r} is no number of seconds")
    return value
