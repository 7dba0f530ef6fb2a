"""CSIDriver: what Kubernetes must know of a storage driver. labctl keeps it for programs; its minions run no drivers."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults
from labctl.resources.kinds.core_v1.persistentvolume_rules import driver_name as driver_name
from labctl.resources.kinds.inert import at, fixed, stored_only

NO_DRIVERS = "labctl stores objects of CSI drivers, but its minions run none"
_MODES = ("Ephemeral", "Persistent")
_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if old is None:
        yield from driver_name("metadata.name", new["metadata"].get("name", ""))
    for index, mode in enumerate(spec.get("volumeLifecycleModes") or ()):
        if mode not in _MODES:
            yield fields.not_supported(f"spec.volumeLifecycleModes[{index}]", mode, _MODES)
    if spec.get("fsGroupPolicy") not in _POLICIES:
        yield fields.not_supported("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), _POLICIES)
    period_s = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period_s is not None and period_s < 10:
        yield fields.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period_s, "must be greater than or equal to 10 seconds")
    audiences: set[str] = set()
    for index, request in enumerate(spec.get("tokenRequests") or ()):
        at_request = f"spec.tokenRequests[{index}]"
        if request.get("audience", "") in audiences:
            yield fields.duplicate(f"{at_request}.audience", request.get("audience", ""))
        audiences.add(request.get("audience", ""))
        if request.get("expirationSeconds") is not None and request["expirationSeconds"] < 600:
            why = "may not specify a duration less than 10 minutes"
            yield fields.invalid(f"{at_request}.expirationSeconds", request["expirationSeconds"], why)
        if (request.get("expirationSeconds") or 0) > 1 << 32:
            why = "may not specify a duration larger than 2^32 seconds"
            yield fields.invalid(f"{at_request}.expirationSeconds", request["expirationSeconds"], why)
    yield from fixed(new, old, "attachRequired", "volumeLifecycleModes", within="spec")


def _audiences(view: GenericObject, _now_s: float) -> str:
    return ",".join(request.get("audience") or '""' for request in view.at("spec.tokenRequests") or ()) or "<unset>"


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="CSIDriver",
    plural="csidrivers",
    singular="csidriver",
    namespaced=False,
    view=GenericObject,
    columns=(
        NAME,
        Column("AttachRequired", at("spec.attachRequired"), type="boolean", description="Whether a volume is attached to a node first."),
        Column("PodInfoOnMount", at("spec.podInfoOnMount"), type="boolean", description="Whether the driver is told about the pod."),
        Column("StorageCapacity", at("spec.storageCapacity"), type="boolean", description="Whether the scheduler asks for its capacity."),
        Column("TokenRequests", _audiences, description="Whom the tokens that it gets are for."),
        Column("RequiresRepublish", at("spec.requiresRepublish"), type="boolean", description="Whether it is called again and again."),
        Column("Modes", at("spec.volumeLifecycleModes", "<unset>"), description="How long its volumes live."),
        AGE,
    ),
    validate=validate,
    warnings=stored_only(NO_DRIVERS),
    has_generation=True,
    type_defaults={
        "io.k8s.api.storage.v1.CSIDriver": TypeDefaults(absent={"spec": {}}),
        "io.k8s.api.storage.v1.CSIDriverSpec": TypeDefaults(
            absent={
                "attachRequired": True,
                "fsGroupPolicy": "ReadWriteOnceWithFSType",
                "podInfoOnMount": False,
                "requiresRepublish": False,
                "seLinuxMount": False,
                "storageCapacity": False,
                "volumeLifecycleModes": ["Persistent"],
            }
        ),
    },
)
