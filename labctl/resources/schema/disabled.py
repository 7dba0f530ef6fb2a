"""Fields of features that Kubernetes 1.37 has off by default are taken out of what clients write, without a word, as its strategies do (dropDisabledFields).

drop_disabled() is called once per write, between a body's defaults and its validation: so such a field is known to field validation, is never refused for
its value, and never stored. An object that has one already, from a snapshot of another release, keeps it, and may change all that belongs to its feature.

The table below is the one place that says which features are off. Their stages are those of Kubernetes' page of feature gates for 1.37: alpha, or beta
and off. A gate that guards no field, but a value or a rule (`TaintTolerationComparisonOperators`), is a matter of validation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from labctl.resources.kind import Kind, Object
from labctl.resources.schema.definitions import Schema, Type

_API = "io.k8s.api."
_NOTHING: tuple[Any, ...] = (None, [])
_GO_EMPTY = frozenset({f"{_API}core.v1.Lifecycle"})
"""Definitions whose object goes with the last of its fields."""


@dataclass(frozen=True, eq=False)
class Feature:
    """A feature that is off: the name of its gate, and the fields that it brings to each definition (without `io.k8s.api.`).

    `kind` says that only objects of that kind are meant, and not templates of them; `where(value)` that only such values of the field are.
    """

    gate: str
    fields: Mapping[str, tuple[str, ...]]
    kind: str = ""
    where: Callable[[Any], bool] = lambda value: value not in _NOTHING


OFF: tuple[Feature, ...] = (
    Feature(
        "AtomicWriteVolumeUserFields",
        {
            "core.v1.ClusterTrustBundleProjection": ("user",),
            "core.v1.ConfigMapVolumeSource": ("defaultUser",),
            "core.v1.DownwardAPIVolumeFile": ("user",),
            "core.v1.DownwardAPIVolumeSource": ("defaultUser",),
            "core.v1.KeyToPath": ("user",),
            "core.v1.PodCertificateProjection": ("user",),
            "core.v1.ProjectedVolumeSource": ("defaultUser",),
            "core.v1.SecretVolumeSource": ("defaultUser",),
            "core.v1.ServiceAccountTokenProjection": ("user",),
        },
    ),
    Feature("ContainerStopSignals", {"core.v1.Lifecycle": ("stopSignal",)}),
    Feature("CoordinatedLeaderElection", {"coordination.v1.LeaseSpec": ("strategy",)}),
    Feature("CoordinatedLeaderElection", {"coordination.v1.LeaseSpec": ("preferredHolder",)}),
    Feature(
        "CrossNamespaceVolumeDataSource",
        {"core.v1.PersistentVolumeClaimSpec": ("dataSourceRef",)},
        kind="PersistentVolumeClaim",
        where=lambda value: isinstance(value, dict) and bool(value.get("namespace")),
    ),
    Feature(
        "CSIVolumeHealth",
        {
            "core.v1.PersistentVolumeClaimStatus": ("healthStatus",),
            "core.v1.PodStatus": ("volumeHealth",),
            "storage.v1.CSINode": ("status",),
        },
    ),
    Feature(
        "DRADerivedAttributes",
        {"resource.v1.DeviceSubRequest": ("derivedAttributes",), "resource.v1.ExactDeviceRequest": ("derivedAttributes",)},
    ),
    Feature("DRADeviceCompatibilityGroups", {"resource.v1.DeviceCounterConsumption": ("compatibilityGroups",)}),
    Feature("DRAListTypeAttributes", {"resource.v1.DeviceAttribute": ("bools", "ints", "strings", "versions")}),
    Feature(
        "DRANodeAllocatableResources",
        {"core.v1.PodStatus": ("nodeAllocatableResourceClaimStatuses",), "resource.v1.Device": ("nodeAllocatableResources",)},
    ),
    Feature(
        "DRAOptionalNodeOperations",
        {"resource.v1.DeviceRequestAllocationResult": ("skipNodeOperations",), "resource.v1.ResourceSliceSpec": ("skipNodeOperations",)},
    ),
    Feature("DRAPartitionableDevicesType", {"resource.v1.ResourceSliceSpec": ("partitionTypeAttribute",)}),
    Feature("EmptyDirVolumeMode", {"core.v1.EmptyDirVolumeSource": ("mode",)}),
    Feature("EvictionRequestAPI", {"core.v1.PodSpec": ("evictionResponders",)}),
    Feature("GenericWorkload", {"core.v1.PodSpec": ("schedulingGroup",)}),
    Feature("GRPCContainerProbeTLS", {"core.v1.GRPCAction": ("mode",)}),
    Feature("H2CContainerProbe", {"core.v1.HTTPGetAction": ("protocol",)}),
    Feature("InPlacePodVerticalScalingSchedulerPreemption", {"core.v1.NodeSpec": ("podPreemptionPolicy",)}),
    Feature("VolumeBindMountOptions", {"core.v1.VolumeMount": ("bindMountOptions",)}),
    Feature("WorkloadWithJob", {"batch.v1.JobSpec": ("scheduling",)}),
)


def is_off(type_: Type, name: str) -> bool:
    """True if a field belongs to a feature that is off, whatever its value and the kind that holds it."""
    return any(name in feature.fields.get(type_.name.removeprefix(_API), ()) for feature in OFF if not feature.kind)


def drop_disabled(schema: Schema, kind: Kind, new: Object, old: Object | None, parts: Collection[str] | None = None) -> None:
    """Takes out of `new`, in place, the fields of each feature that is off and that `old` does not use. `parts` are the fields of the object to look at."""
    plan = _plan_of(kind, schema.type_of(kind.group, kind.version, kind.kind)) if kind.decoder is None else None
    if plan is None:
        return
    unwanted = _used(plan, new, parts)
    if unwanted and old is not None:
        unwanted -= _used(plan, old, parts)
    if unwanted:
        _drop(plan, new, unwanted, parts)


# ---- the walk: a plan for each type leads only to fields that a feature brings


@dataclass(slots=True, eq=False)
class _Plan:
    empties: bool
    own: tuple[tuple[str, Feature], ...]
    below: dict[str, tuple[str, _Plan]] = field(default_factory=dict)  # field -> (shape, plan)


class _Planned(NamedTuple):
    type: Type
    plan: _Plan | None


_planned: WeakKeyDictionary[Kind, _Planned] = WeakKeyDictionary()


def _plan_of(kind: Kind, type_: Type) -> _Plan | None:
    """Returns the plan of a kind's type, which is made once; None if no feature brings anything to it."""
    planned = _planned.get(kind)
    if planned is None or planned.type is not type_:
        table: dict[str, list[tuple[str, Feature]]] = {}
        for feature in OFF:
            for definition, names in feature.fields.items():
                if feature.kind in ("", kind.kind):
                    table.setdefault(_API + definition, []).extend((name, feature) for name in names)
        planned = _planned[kind] = _Planned(type_, _compiled(table, type_, {}))
    return planned.plan


def _compiled(table: Mapping[str, list[tuple[str, Feature]]], type_: Type, plans: dict[Type, _Plan | None]) -> _Plan | None:
    if type_ not in plans:
        plan = _Plan(type_.name in _GO_EMPTY, tuple(table.get(type_.name, ())))
        plans[type_] = plan  # before the fields are looked at, because a type may contain itself
        for name, shape, target in type_.structs():
            if below := _compiled(table, target, plans):
                plan.below[name] = (shape, below)
        if not plan.own and not plan.below:
            plans[type_] = None
    return plans[type_]


def _used(plan: _Plan, obj: Object, parts: Collection[str] | None = None) -> set[Feature]:
    """Returns the features whose fields an object has."""
    found = {feature for name, feature in plan.own if name in obj and feature.where(obj[name])}
    for key, (shape, below) in plan.below.items():
        value = obj.get(key)
        if not value or (parts is not None and key not in parts):
            continue
        for item in (value,) if shape == "struct" else value if shape == "list" else value.values():
            if item:
                found |= _used(below, item)
    return found


def _drop(plan: _Plan, obj: Object, unwanted: Collection[Feature], parts: Collection[str] | None = None) -> bool:
    """Drops the fields of these features. Returns True if that leaves nothing of an object that goes with its last field."""
    dropped = False
    for name, feature in plan.own:
        if feature in unwanted and name in obj and feature.where(obj[name]):
            del obj[name]
            dropped = True
    for key, (shape, below) in plan.below.items():
        value = obj.get(key)
        if not value or (parts is not None and key not in parts):
            continue
        if shape != "struct":
            for item in value if shape == "list" else value.values():
                if item:
                    _drop(below, item, unwanted)
        elif _drop(below, value, unwanted):
            del obj[key]
    return dropped and plan.empties and not obj
