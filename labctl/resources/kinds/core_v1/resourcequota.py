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
    for number, scope in enumerate(spec.get("scopes") or ()):
        if scope not in SCOPES:
            yield fields.invalid(f"spec.scopes[{number}]", spec["scopes"], f"unsupported scope {scope}")
    if old is not None and (spec.get("scopes") or []) != (old["spec"].get("scopes") or []):
        yield fields.invalid("spec.scopes", spec.get("scopes"), "field is immutable")


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
