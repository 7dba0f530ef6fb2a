"""PersistentVolumeClaim: what a pod asks of storage. It is bound to one PersistentVolume, for life."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields, quantities
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds.shared import Condition, Quantity

_IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
PROTECTION = "kubernetes.io/pvc-protection"
SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


class Requests(msgspec.Struct, frozen=True, gc=False):
    requests: dict[str, Quantity] = {}


class PersistentVolumeClaimSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    access_modes: tuple[str, ...] = ()
    resources: Requests = Requests()
    storage_class_name: str | None = None
    volume_mode: str = "Filesystem"
    volume_name: str = ""
    selector: msgspec.Raw = msgspec.Raw(b"null")  # a LabelSelector as it stands


class PersistentVolumeClaimStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    phase: str = ""
    access_modes: tuple[str, ...] = ()
    capacity: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()


class PersistentVolumeClaim(Viewed, frozen=True, rename="camel", gc=False):
    spec: PersistentVolumeClaimSpec = PersistentVolumeClaimSpec()
    status: PersistentVolumeClaimStatus = PersistentVolumeClaimStatus()


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"phase": "Pending"}
        finalizers = new["metadata"].setdefault("finalizers", [])
        if PROTECTION not in finalizers:
            finalizers.append(PROTECTION)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from access_modes("spec.accessModes", spec)
    size = (spec.get("resources") or {}).get("requests", {}).get("storage")
    if size is None:
        yield fields.required("spec.resources.requests[storage]")
    elif quantities.parse(size) <= 0:
        yield fields.invalid("spec.resources.requests[storage]", size, "must be greater than zero")
    if old is not None:
        yield from _changed(spec, old["spec"])


def access_modes(path: str, spec: Object) -> Iterator[FieldError]:
    """Check the access modes of a claim or a volume."""
    modes = spec.get("accessModes") or ()
    if not modes:
        yield fields.required(path, "at least 1 access mode is required")
    for mode in modes:
        if mode not in ACCESS_MODES:
            yield fields.not_supported(path, mode, ACCESS_MODES)


def _changed(spec: Object, old: Object) -> Iterator[FieldError]:
    """Check that only the size changes after creation. An absent volume and an absent class may be filled in."""
    free = {"resources", "volumeAttributesClassName"}
    if not old.get("volumeName"):
        free.add("volumeName")
    if "storageClassName" not in old:
        free.add("storageClassName")
    if {name: value for name, value in spec.items() if name not in free} != {
        name: value for name, value in old.items() if name not in free
    }:
        yield fields.forbidden("spec", _IMMUTABLE)
    asked, before = (quantities.parse(each.get("resources", {}).get("requests", {}).get("storage", 0)) for each in (spec, old))
    if asked > before and not old.get("volumeName"):
        yield fields.forbidden("spec", _IMMUTABLE)
    if asked < before:
        yield fields.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")


def _capacity(view: PersistentVolumeClaim, _now_s: float) -> str:
    return str(view.status.capacity.get("storage", "")) if view.spec.volume_name else ""


def _modes(view: PersistentVolumeClaim, _now_s: float) -> str:
    return ",".join(SHORT_MODES.get(mode, mode) for mode in view.status.access_modes) if view.spec.volume_name else ""


def _status(view: PersistentVolumeClaim, _now_s: float) -> str:
    return "Terminating" if view.metadata.deletion_timestamp else view.status.phase


KIND = Kind(
    group="",
    version="v1",
    kind="PersistentVolumeClaim",
    plural="persistentvolumeclaims",
    singular="persistentvolumeclaim",
    namespaced=True,
    view=PersistentVolumeClaim,
    short_names=("pvc",),
    columns=(
        NAME,
        Column("Status", _status, description="Pending, Bound or Lost."),
        Column("Volume", lambda view, _now: view.spec.volume_name, description="The volume that it has."),
        Column("Capacity", _capacity, description="How big that volume is."),
        Column("Access Modes", _modes, description="How it may be mounted."),
        Column("StorageClass", lambda view, _now: view.spec.storage_class_name or "", description="Who makes its volume."),
        Column("VolumeAttributesClass", lambda _view, _now: "<unset>", description="Not served: always unset."),
        AGE,
        Column("VolumeMode", lambda view, _now: view.spec.volume_mode, priority=1, description="Filesystem or Block."),
    ),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    acts_on=frozenset(
        {"spec.accessModes", "spec.resources.requests", "spec.storageClassName", "spec.volumeMode", "spec.volumeName", "spec.selector"}
    ),
    type_defaults={
        "io.k8s.api.core.v1.PersistentVolumeClaim": TypeDefaults(absent={"spec": {}}),
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec": TypeDefaults(absent={"volumeMode": "Filesystem"}),
    },
)
