"""RuntimeClass: the name of a way to run containers. A pod may name only one that exists; labctl's nodes run all of them in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.core_v1 import outdated, pod_rules, resource_rules
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
    overhead, scheduling = new.get("overhead"), new.get("scheduling")
    if overhead is not None and (old is None or overhead != old.get("overhead")):
        yield from resource_rules.of_container("overhead", {"limits": overhead.get("podFixed") or {}})
    if scheduling is not None and (old is None or scheduling != old.get("scheduling")):
        yield from names.labels("scheduling.nodeSelector", scheduling.get("nodeSelector") or {})
        yield from _tolerations(scheduling.get("tolerations") or ())


def _tolerations(said: Sequence[Object]) -> Iterator[FieldError]:
    seen: set[tuple[str, ...]] = set()
    for index, each in enumerate(said):
        at, key = f"scheduling.tolerations[{index}]", tuple(each.get(name) or "" for name in ("key", "operator", "value", "effect"))
        yield from pod_rules.toleration(at, each)
        if key in seen:
            yield fields.duplicate(at, each)
        seen.add(key)


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
