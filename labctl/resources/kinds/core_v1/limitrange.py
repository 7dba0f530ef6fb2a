"""LimitRange: what a container, pod or claim of a namespace may ask for, and what it gets where it asks for nothing. The admission step acts on it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields, quantities
from labctl.resources.cells import NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds.shared import Quantity

_TYPES = ("Container", "PersistentVolumeClaim", "Pod")


class LimitRangeItem(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    max: dict[str, Quantity] = {}
    min: dict[str, Quantity] = {}
    default: dict[str, Quantity] = {}
    default_request: dict[str, Quantity] = {}
    max_limit_request_ratio: dict[str, Quantity] = {}


class LimitRangeSpec(msgspec.Struct, frozen=True, gc=False):
    limits: tuple[LimitRangeItem, ...] = ()


class LimitRange(Viewed, frozen=True, rename="camel", gc=False):
    spec: LimitRangeSpec = LimitRangeSpec()


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    seen: set[str] = set()
    for number, item in enumerate(new.get("spec", {}).get("limits") or ()):
        path, type_ = f"spec.limits[{number}]", item.get("type", "")
        if type_ in seen:
            yield fields.duplicate(f"{path}.type", type_)
        seen.add(type_)
        if type_ == "Pod":
            for name in ("default", "defaultRequest"):
                if item.get(name):
                    yield fields.forbidden(f"{path}.{name}", "may not be specified when `type` is 'Pod'")
        elif "/" not in type_ and type_ not in _TYPES:
            yield fields.not_supported(f"{path}.type", type_, _TYPES)
        yield from _ordered(path, item)


def _ordered(path: str, item: Object) -> Iterator[FieldError]:
    """Check min ≤ defaultRequest ≤ default ≤ max, for each resource that has them."""
    chain = ("min", "defaultRequest", "default", "max")
    for resource in sorted({name for part in chain for name in item.get(part) or {}}):
        said = [(part, item[part][resource]) for part in chain if resource in (item.get(part) or {})]
        for index, (lower, low) in enumerate(said):
            for upper, high in said[index + 1 :]:
                if quantities.parse(low) > quantities.parse(high):
                    yield fields.invalid(f"{path}.{lower}[{resource}]", low, f"{lower} value {low} is greater than {upper} value {high}")


def fill(item: Object) -> None:
    """Fill a container's default limit with its maximum, and its default request with its default limit, or else its minimum."""
    if item.get("type") != "Container":
        return
    for target, sources in (("default", ("max",)), ("defaultRequest", ("default", "min"))):
        for source in sources:
            for resource, value in (item.get(source) or {}).items():
                item.setdefault(target, {}).setdefault(resource, value)


KIND = Kind(
    group="",
    version="v1",
    kind="LimitRange",
    plural="limitranges",
    singular="limitrange",
    namespaced=True,
    view=LimitRange,
    short_names=("limits",),
    columns=(
        NAME,
        Column("Created At", lambda view, _now: view.metadata.creation_timestamp or "", type="date", description="When it was made."),
    ),
    validate=validate,
    type_defaults={"io.k8s.api.core.v1.LimitRangeItem": TypeDefaults(function=fill)},
)
