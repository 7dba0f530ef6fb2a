"""ResourceQuota: how much a namespace may use. The admission step refuses what would exceed it; the controller counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from labctl.resources import fields, quantities
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
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


_OF_PODS = frozenset({"cpu", "memory", "ephemeral-storage", "pods", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_NAMED = ("PriorityClass", "VolumeAttributesClass")
_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")
_OF_PODS_ONLY = ("BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating")
_COMPUTED = frozenset(_OF_PODS - {"pods"} | {"requests.ephemeral-storage", "limits.ephemeral-storage"})


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
    spec = new.get("spec", {})
    for name, value in (spec.get("hard") or {}).items():
        if quantities.parse(value) < 0:
            yield fields.invalid(f"spec.hard[{name}]", value, "must be greater than or equal to 0")
    yield from _scopes(spec.get("scopes") or (), spec.get("hard") or {})
    yield from _selected(((spec.get("scopeSelector") or {}).get("matchExpressions") or ()), spec.get("hard") or {})
    if old is not None and (spec.get("scopes") or []) != (old["spec"].get("scopes") or []):
        yield fields.invalid("spec.scopes", spec.get("scopes"), "field is immutable")


def _scopes(scopes: Sequence[str], hard: Object) -> Iterator[FieldError]:
    for scope in scopes:
        if scope not in SCOPES:
            yield fields.invalid("spec.scopes", list(scopes), "unsupported scope")
    yield from _may_bound("spec.scopes", list(scopes), scopes, hard)


def _selected(wanted: Sequence[Object], hard: Object) -> Iterator[FieldError]:
    """Checks the terms of a scope selector: which operators a scope has, and whether it needs values."""
    for one in wanted:
        path, scope, operator = "spec.scopeSelector.matchExpressions", one.get("scopeName", ""), one.get("operator", "")
        values = one.get("values") or []
        if scope not in SCOPES:
            yield fields.invalid(f"{path}.scopeName", scope, "unsupported scope")
        elif scope not in _NAMED and operator != "Exists":
            yield fields.invalid(
                f"{path}.operator",
                operator,
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                "ResourceQuotaScopeCrossNamespacePodAffinity",
            )
        if operator in ("In", "NotIn") and not values:
            yield fields.required(f"{path}.values", "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")
        elif operator in ("Exists", "DoesNotExist") and values:
            yield fields.invalid(
                f"{path}.values", values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            )
        elif operator not in _OPERATORS:
            yield fields.invalid(f"{path}.operator", operator, "not a valid selector operator")
    chosen = [one.get("scopeName", "") for one in wanted]
    yield from _may_bound("spec.scopeSelector.matchExpressions.scopeName", chosen, chosen, hard)


def _may_bound(path: str, shown: Sequence[str], scopes: Sequence[str], hard: Object) -> Iterator[FieldError]:
    """A scope can only bound what its objects have, and some scopes exclude each other."""
    for scope in dict.fromkeys(scopes):
        for name in hard:
            if (scope == "BestEffort" and name in _COMPUTED) or (scope in _OF_PODS_ONLY and not _is_of_pods(name)):
                yield fields.invalid(path, scope, f"unsupported scope applied to resource {name}")
    for one, other in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if one in scopes and other in scopes:
            yield fields.invalid(path, shown, "conflicting scopes")


def _is_of_pods(name: str) -> bool:
    return (
        name in _OF_PODS
        or name in _COMPUTED
        or name == "count/pods"
        or name.startswith(("requests.", "limits."))
        and name != "requests.storage"
    )


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
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    acts_on=frozenset({"spec.hard", "spec.scopes", "spec.scopeSelector"}),
    type_defaults={"io.k8s.api.core.v1.ResourceQuota": TypeDefaults(absent={"spec": {}})},
)
