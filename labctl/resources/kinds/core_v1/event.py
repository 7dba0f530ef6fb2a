"""Event: something that happened to an object. A repeat increases the count of the same Event. It expires after an hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import since
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.shared import ObjectReference
from labctl.resources.labels import key_errors

_MOST, MOST_MESSAGE = 128, 1024
"""Characters of an Event's fields."""


class EventSource(msgspec.Struct, frozen=True, rename="camel", gc=False):
    component: str = ""
    host: str = ""


class EventSeries(msgspec.Struct, frozen=True, rename="camel", gc=False):
    count: int = 0
    last_observed_time: str = ""


class Event(Viewed, frozen=True, rename="camel", gc=False):
    involved_object: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    message: str = ""
    action: str = ""
    count: int = 0
    first_timestamp: str = ""
    last_timestamp: str = ""
    event_time: str = ""
    source: EventSource = EventSource()
    series: EventSeries | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    """Checks an Event of core/v1. Who sets its eventTime writes Events as they are since 2017, and says who tells it, and what was done."""
    return common(new, "reportingComponent") if old is None else iter(())


def common(new: Object, reporter: str) -> Iterator[FieldError]:
    """Checks what both versions ask for, of an Event with core/v1's names of fields; `reporter` is what the version calls its reportingComponent."""
    namespace = new["metadata"]["namespace"]
    about = (new.get("involvedObject") or {}).get("namespace", "")
    if new.get("eventTime"):
        wrong = not about and namespace not in ("default", "kube-system")
    else:
        wrong = about != namespace and (bool(about) or namespace != "default")
    if wrong:
        yield fields.invalid("involvedObject.namespace", about, "does not match event.namespace")
    if not new.get("eventTime"):
        return
    who = new.get("reportingComponent") or ""
    if not who:
        yield fields.required(reporter)
    yield from names.checked(reporter, who, key_errors)
    for name in ("reportingInstance", "action", "reason"):
        if not new.get(name):
            yield fields.required(name)
        elif len(new[name].encode()) > _MOST:
            yield fields.invalid(name, "", f"can have at most {_MOST} characters")
    if len((new.get("message") or "").encode()) > MOST_MESSAGE:
        yield fields.invalid("message", "", f"can have at most {MOST_MESSAGE} characters")


def selectable(event: Event) -> Mapping[str, str]:
    about = event.involved_object
    return {
        "involvedObject.kind": about.kind,
        "involvedObject.namespace": about.namespace,
        "involvedObject.name": about.name,
        "involvedObject.uid": about.uid,
        "involvedObject.apiVersion": about.api_version,
        "involvedObject.resourceVersion": about.resource_version,
        "involvedObject.fieldPath": about.field_path,
        "reason": event.reason,
        "reportingComponent": event.reporting_component or event.source.component,
        "source": event.source.component or event.reporting_component,
        "type": event.type,
    }


def first_seen(event: Event, now_s: float) -> str:
    return since(event.first_timestamp or event.event_time, now_s)


def last_seen(event: Event, now_s: float) -> str:
    if event.series:
        return since(event.series.last_observed_time, now_s)
    return since(event.last_timestamp, now_s) if event.last_timestamp else first_seen(event, now_s)


def source(event: Event, _now_s: float) -> str:
    component = event.source.component or event.reporting_component
    instance = event.source.host or event.reporting_instance
    return f"{component}, {instance}" if instance else component


def times(event: Event, _now_s: float) -> int:
    return event.series.count if event.series else event.count or 1


COLUMNS: tuple[Column, ...] = (
    Column("Last Seen", last_seen, description="When it happened last."),
    Column("Type", lambda event, _now: event.type, description="Normal or Warning."),
    Column("Reason", lambda event, _now: event.reason, description="Why, in one word."),
    Column(
        "Object", lambda event, _now: f"{event.involved_object.kind.lower()}/{event.involved_object.name}", description="What it is about."
    ),
    Column("Subobject", lambda event, _now: event.involved_object.field_path, priority=1, description="Which part of it."),
    Column("Source", source, priority=1, description="Who said so."),
    Column("Message", lambda event, _now: event.message.strip(), description="What happened."),
    Column("First Seen", first_seen, priority=1, description="When it happened first."),
    Column("Count", times, type="integer", priority=1, description="How often it happened."),
    Column("Name", lambda event, _now: event.metadata.name, format="name", priority=1, description="The Event's own name."),
)

KIND = Kind(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    singular="event",
    namespaced=True,
    view=Event,
    short_names=("ev",),
    columns=COLUMNS,
    validate=validate,
    fields=selectable,
    create_on_update=True,
    lazy=True,
    tracks_fields=False,
)
