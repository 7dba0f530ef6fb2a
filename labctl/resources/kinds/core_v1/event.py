"""Event: something that happened to an object, told once and counted when it happens again. Expires after an hour."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from labctl.resources.cells import NAME
from labctl.resources.kind import Column, Kind, Viewed
from labctl.resources.kinds.shared import ObjectReference


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


def fields(event: Event) -> Mapping[str, str]:
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


COLUMNS: tuple[Column, ...] = (NAME,)

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
    fields=fields,
    events_lazy=True,
)
