"""RuntimeClass: the name of a way to run containers. A pod may name only one that exists; labctl's nodes run all of them in the same way."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.core_v1 import outdated
from labctl.resources.kinds.core_v1.pod_view import Toleration
from labctl.resources.kinds.shared import Quantity


class Overhead(msgspec.Struct, frozen=True, rename="camel", gc=False):
    pod_fixed: dict[str, Quantity] = {}


class Scheduling(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class RuntimeClass(Viewed, frozen=True, rename="camel", gc=False):
    handler: str = ""
    overhead: Overhead | None = None
    scheduling: Scheduling | None = None


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    handler = new.get("handler", "")
    for why in names.label(handler):
        yield fields.invalid("handler", handler, why)
    if old is not None and handler != old.get("handler", ""):
        yield fields.invalid("handler", handler, "field is immutable")


def warnings(new: Object, _old: Object | None) -> Iterator[str]:
    for key in (new.get("scheduling") or {}).get("nodeSelector") or {}:
        if key in outdated.NODE_LABELS:
            yield f"scheduling.nodeSelector: {outdated.NODE_LABELS[key]}"


KIND = Kind(
    group="node.k8s.io",
    version="v1",
    kind="RuntimeClass",
    plural="runtimeclasses",
    singular="runtimeclass",
    namespaced=False,
    view=RuntimeClass,
    columns=(NAME, Column("Handler", lambda it, _now: it.handler, description="What the nodes' runtime calls it."), AGE),
    validate=validate,
    warnings=warnings,
)
