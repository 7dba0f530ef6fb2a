"""LimitRange: what a container, pod or claim of a namespace may ask for, and what it gets where it asks for nothing. The admission step acts on it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields, names, quantities
from labctl.resources.cells import NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1 import resource_rules
from labctl.resources.kinds.shared import Quantity
from labctl.resources.labels import key_errors

_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_PARTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_ORDER = (  # lower, upper, the one that is blamed, the one that is shown
    ("min", "max", "min", "min"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest"),
    ("min", "default", "default", "min"),
    ("default", "max", "default", "max"),
)
_WORDS = {"min": "min", "max": "max", "default": "default", "defaultRequest": "default request"}
_UPPER_WORDS = {("defaultRequest", "default"): "default limit"}


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
        yield from names.checked(f"{path}.type", type_, key_errors)
        if not key_errors(type_) and "/" not in type_ and type_ not in _TYPES:
            yield fields.invalid(f"{path}.type", type_, "must be a standard limit type or fully qualified")
        if type_ in seen:
            yield fields.duplicate(f"{path}.type", type_)
        seen.add(type_)
        yield from _named(path, item)
        if type_ == "PersistentVolumeClaim" and not any("storage" in (item.get(part) or {}) for part in ("min", "max")):
            yield fields.required(f"{path}.limits", "either minimum or maximum storage value is required, but neither was provided")
        for resource in sorted({name for part in _PARTS for name in item.get(part) or {}}):
            yield from _ordered(path, resource, {part: item[part][resource] for part in _PARTS if resource in (item.get(part) or {})})


def _named(path: str, item: Object) -> Iterator[FieldError]:
    """Check which resources are bounded, and that no defaults are given to a pod as a whole."""
    type_ = item.get("type", "")
    check = resource_rules.name_in_container if type_ in ("Container", "Pod") else resource_rules.name_of_any
    for part in _PARTS:
        if type_ == "Pod" and part.startswith("default"):
            if item.get(part):
                yield fields.forbidden(f"{path}.{part}", "may not be specified when `type` is 'Pod'")
            continue
        for name in sorted(item.get(part) or {}):
            yield from check(f"{path}.{part}[{name}]", name)


def _ordered(path: str, resource: str, said: Object) -> Iterator[FieldError]:
    """Check min ≤ defaultRequest ≤ default ≤ max of a resource, and that its ratio of limit to request can be kept."""
    for lower, upper, blamed, shown in _ORDER:
        if lower in said and upper in said and quantities.compare(said[lower], said[upper]) > 0:
            why = (
                f"{_WORDS[lower]} value {said[lower]} is greater than {_UPPER_WORDS.get((lower, upper), _WORDS[upper])} value {said[upper]}"
            )
            yield fields.invalid(f"{path}.{blamed}[{resource}]", said[shown], why)
    ratio = said.get("maxLimitRequestRatio")
    if ratio is not None:
        at = f"{path}.maxLimitRequestRatio[{resource}]"
        if quantities.parse(ratio) < 1:
            yield fields.invalid(at, ratio, f"ratio {ratio} is less than 1")
        least, most = (quantities.parse(said.get(part, 0)) for part in ("min", "max"))
        if least > 0 and "max" in said and quantities.parse(ratio) > most / least:
            yield fields.invalid(at, ratio, f"ratio {ratio} is greater than max/min = {float(most / least):f}")
    default, request = said.get("default"), said.get("defaultRequest")
    if default is not None and request is not None and not resource_rules.overcommits(resource) and quantities.compare(default, request):
        why = f"default value {default} must equal to defaultRequest value {request} in {resource}"
        yield fields.invalid(f"{path}.defaultRequest[{resource}]", request, why)


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
