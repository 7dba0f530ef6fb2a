"""ResourceQuota: how much a namespace may use. The admission step refuses what would exceed it; the controller counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1 import resource_rules
from labctl.resources.kinds.shared import Quantity

SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)

_NAMED = ("PriorityClass", "VolumeAttributesClass")
_OF_PODS = frozenset({"pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_BOUNDED: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating"), _OF_PODS),
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
"""What a quota with a scope can bound, of what is standard in a quota."""
_OPERATOR = (
    "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
    "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


class ScopeRequirement(msgspec.Struct, frozen=True, rename="camel", gc=False):
    scope_name: str = ""
    operator: str = ""  # In, NotIn, Exists, DoesNotExist
    values: tuple[str, ...] = ()


class ScopeSelector(msgspec.Struct, frozen=True, rename="camel", gc=False):
    match_expressions: tuple[ScopeRequirement, ...] = ()


class ResourceQuotaSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    hard: dict[str, Quantity] = {}
    scopes: tuple[str, ...] = ()
    scope_selector: ScopeSelector | None = None

    def requirements(self) -> Sequence[ScopeRequirement]:
        """Scopes and scope selector as one list; all of it must hold for an object to count."""
        plain = tuple(ScopeRequirement(scope, "Exists") for scope in self.scopes)
        return (*plain, *(self.scope_selector.match_expressions if self.scope_selector else ()))


class ResourceQuotaStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    hard: dict[str, Quantity] = {}
    used: dict[str, Quantity] = {}


class ResourceQuota(Viewed, frozen=True, rename="camel", gc=False):
    spec: ResourceQuotaSpec = ResourceQuotaSpec()
    status: ResourceQuotaStatus = ResourceQuotaStatus()


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    hard, scopes = spec.get("hard") or {}, spec.get("scopes") or []
    yield from _amounts("spec.hard", hard)
    yield from _scopes(scopes, hard)
    yield from _selected((spec.get("scopeSelector") or {}).get("matchExpressions") or (), hard)
    if old is not None and set(scopes) != set(old["spec"].get("scopes") or ()):
        yield fields.invalid("spec.scopes", scopes, "field is immutable")


def _amounts(path: str, amounts: Object) -> Iterator[FieldError]:
    for name, value in sorted(amounts.items()):
        yield from resource_rules.name_in_quota(f"{path}[{name}]", name)
        yield from resource_rules.amount(f"{path}[{name}]", name, value)


def _status(new: Object, _old: Object) -> Iterator[FieldError]:
    for part in ("hard", "used"):
        yield from _amounts(f"status.{part}", status_rules.status_of(new).get(part) or {})


def _scopes(scopes: Sequence[str], hard: Object) -> Iterator[FieldError]:
    for scope in scopes:
        if scope not in SCOPES:
            yield fields.invalid("spec.scopes", scopes, "unsupported scope")
        if not _can_bound(scope, hard):
            yield fields.invalid("spec.scopes", scopes, "unsupported scope applied to resource")
    yield from _conflicts("spec.scopes", scopes)


def _selected(wanted: Sequence[Object], hard: Object) -> Iterator[FieldError]:
    """Checks the terms of a scope selector: which operators a scope has, and whether it needs values."""
    path = "spec.scopeSelector.matchExpressions"
    for one in wanted:
        scope, operator, values = one.get("scopeName", ""), one.get("operator", ""), one.get("values") or []
        if not scope:
            yield fields.required(f"{path}.scopeName")
        elif scope not in SCOPES:
            yield fields.invalid(f"{path}.scopeName", scope, "unsupported scope")
        elif scope not in _NAMED and operator not in ("Exists", ""):
            yield fields.invalid(f"{path}.operator", operator, _OPERATOR)
        if not _can_bound(scope, hard):
            yield fields.invalid(path, {"matchExpressions": wanted}, "unsupported scope applied to resource")
        yield from _operator(path, operator, values)
    yield from _conflicts(path, [one.get("scopeName", "") for one in wanted])


def _operator(path: str, operator: str, values: Sequence[str]) -> Iterator[FieldError]:
    if not operator:
        yield fields.required(f"{path}.operator")
    elif operator in ("In", "NotIn"):
        if not values:
            yield fields.required(f"{path}.values", "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            yield fields.invalid(f"{path}.values", values, why)
    else:
        yield fields.invalid(f"{path}.operator", operator, "not a valid selector operator")


def _can_bound(scope: str, hard: Object) -> bool:
    """Tell whether the objects of a scope have what is bounded. Nobody knows what belongs to numbers of objects and to extended resources."""
    bounded = _BOUNDED.get(scope)
    return bounded is None or all(name in bounded for name in hard if resource_rules.standard_in_quota(name))


def _conflicts(path: str, scopes: Sequence[str]) -> Iterator[FieldError]:
    for one, other in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if one in scopes and other in scopes:
            yield fields.invalid(path, scopes, "conflicting scopes")


def _shown(view: ResourceQuota, *, limits: bool) -> str:
    hard = view.status.hard
    chosen = [name for name in sorted(hard) if name.startswith("limits.") == limits]
    return ", ".join(f"{name}: {view.status.used.get(name, '0')}/{hard[name]}" for name in chosen)


KIND = Kind(
    group="",
    version="v1",
    kind="ResourceQuota",
    plural="resourcequotas",
    singular="resourcequota",
    namespaced=True,
    view=ResourceQuota,
    short_names=("quota",),
    columns=(
        NAME,
        Column("Request", lambda view, _now: _shown(view, limits=False), description="What is used, of what may be used."),
        Column("Limit", lambda view, _now: _shown(view, limits=True), description="The same for limits."),
        AGE,
    ),
    subresources=(status_rules.subresource(_status),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    acts_on=frozenset({"spec.hard", "spec.scopes", "spec.scopeSelector"}),
    type_defaults={"io.k8s.api.core.v1.ResourceQuota": TypeDefaults(absent={"spec": {}})},
)
