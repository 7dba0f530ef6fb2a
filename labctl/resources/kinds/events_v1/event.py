"""Event of events.k8s.io/v1: the same Events as core/v1 has, under other names of fields (KEP-383). They are stored as core/v1 has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from labctl.resources import fields
from labctl.resources.cells import since
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.core_v1 import event as core
from labctl.resources.kinds.shared import ObjectReference
from labctl.store.interface import Entry

_TO_CORE = {
    "note": "message",
    "regarding": "involvedObject",
    "deprecatedCount": "count",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedSource": "source",
    "reportingController": "reportingComponent",
}
_FROM_CORE = {old: new for new, old in _TO_CORE.items()}
_FIXED = (
    *(
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
    ),
    *("reportingComponent", "reportingInstance"),
)
_SHOWN = {"reportingComponent": "reportingController"}


class Event(Viewed, frozen=True, rename="camel", gc=False):
    regarding: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    note: str = ""
    action: str = ""
    event_time: str = ""
    series: core.EventSeries | None = None
    reporting_controller: str = ""
    reporting_instance: str = ""
    deprecated_count: int = 0
    deprecated_first_timestamp: str = ""
    deprecated_last_timestamp: str = ""
    deprecated_source: core.EventSource = core.EventSource()


class OtherNames:
    """Renames the fields, either way."""

    def needed(self, kind: Kind, entry: Entry) -> bool:
        head = b'{"kind":"Event","apiVersion":"%s",' % kind.api_version.encode()
        return not entry.value.startswith(head)

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        names = _FROM_CORE if kind.group else _TO_CORE
        return [{**{names.get(name, name): value for name, value in obj.items()}, "apiVersion": kind.api_version} for obj in objects]


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    """Check an Event more strictly than core/v1 does: its time is required, and nothing but its series changes. Errors have core/v1's names, as in Kubernetes."""
    said = {_TO_CORE.get(name, name): value for name, value in new.items()}
    yield from core.common(said, "reportingController")
    before = None if old is None else {_TO_CORE.get(name, name): value for name, value in old.items()}
    if before is None or said.get("series") != before.get("series"):
        yield from _series(said.get("series"))
    if before is not None:
        for name in _FIXED:
            if (said.get(name) or None) != (before.get(name) or None):
                yield fields.invalid(_SHOWN.get(name, name), said.get(name), "field is immutable")
        return
    if not said.get("eventTime"):
        yield fields.required("eventTime")
    if said.get("type") not in ("Normal", "Warning"):
        yield fields.invalid("type", "", f"has invalid value: {said.get('type', '')}")
    for name in ("firstTimestamp", "lastTimestamp", "count"):
        if said.get(name):
            yield fields.invalid(name, "", "needs to be unset")
    if any((said.get("source") or {}).values()):
        yield fields.invalid("source", "", "needs to be unset")


def _series(series: Object | None) -> Iterator[FieldError]:
    if series is None:
        return
    if series.get("count", 0) < 2:
        yield fields.invalid("series.count", "", "should be at least 2")
    if not series.get("lastObservedTime"):
        yield fields.required("series.lastObservedTime")


def selectable(event: core.Event) -> Mapping[str, str]:
    """Selectors are asked of the stored object."""
    said = core.selectable(event)
    shown = {name.replace("involvedObject.", "regarding."): value for name, value in said.items() if name.startswith("involvedObject.")}
    return {**shown, "reason": said["reason"], "reportingController": said["reportingComponent"], "type": said["type"]}


def last_seen(event: Event, now_s: float) -> str:
    if event.series:
        return since(event.series.last_observed_time, now_s)
    return since(event.deprecated_last_timestamp or event.deprecated_first_timestamp or event.event_time, now_s)


KIND = Kind(
    group="events.k8s.io",
    version="v1",
    kind="Event",
    plural="events",
    singular="event",
    namespaced=True,
    view=Event,
    short_names=("ev",),
    columns=(
        Column("Last Seen", last_seen, description="When it happened last."),
        Column("Type", lambda event, _now: event.type, description="Normal or Warning."),
        Column("Reason", lambda event, _now: event.reason, description="Why, in one word."),
        Column("Object", lambda event, _now: f"{event.regarding.kind.lower()}/{event.regarding.name}", description="What it is about."),
        Column("Message", lambda event, _now: event.note.strip(), description="What happened."),
        Column("Name", lambda event, _now: event.metadata.name, format="name", priority=1, description="The Event's own name."),
    ),
    validate=validate,
    fields=selectable,
    create_on_update=True,
    lazy=True,
    tracks_fields=False,
    storage=core.KIND,
    conversion=OtherNames(),
)
