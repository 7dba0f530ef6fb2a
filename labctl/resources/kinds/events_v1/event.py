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
_MOST_REASON, _MOST_ACTION, _MOST_NOTE = 128, 128, 1024


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
    """Check a new Event more strictly than core/v1 does: time, reporter, reason and action are required."""
    if old is not None:
        return
    for name, most in (("reportingController", 63), ("reportingInstance", 128), ("action", _MOST_ACTION), ("reason", _MOST_REASON)):
        if not new.get(name):
            yield fields.required(name)
        elif len(new[name]) > most:
            yield fields.invalid(name, new[name], f"can have at most {most} characters")
    if not new.get("eventTime"):
        yield fields.required("eventTime")
    if new.get("type") not in ("Normal", "Warning"):
        yield fields.invalid("type", new.get("type", ""), 'has invalid value: ""' if not new.get("type") else "must be Normal or Warning")
    if len(new.get("note", "").encode()) > _MOST_NOTE:
        yield fields.invalid("note", "", f"can have at most {_MOST_NOTE} characters")


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
