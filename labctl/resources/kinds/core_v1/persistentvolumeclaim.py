"""PersistentVolumeClaim: what a pod asks of storage. It is bound to one PersistentVolume, for life."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from labctl.resources import fields, names, quantities
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1 import outdated, pod_warnings
from labctl.resources.kinds.selector_rules import label_selector
from labctl.resources.kinds.shared import Condition, Quantity
from labctl.resources.labels import key_errors

_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
_RESIZES = (
    *("ControllerResizeInProgress", "ControllerResizeInfeasible"),
    *("NodeResizePending", "NodeResizeInProgress", "NodeResizeInfeasible"),
)
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
    """Make a new claim Pending. Of its two fields that name a source of data one stands for the other, as long as it is in the claim's own namespace."""
    if old is None:
        new["status"] = {"phase": "Pending"}
        finalizers = new["metadata"].setdefault("finalizers", [])
        if PROTECTION not in finalizers:
            finalizers.append(PROTECTION)
    spec = new.get("spec") or {}
    one, other = spec.get("dataSource"), spec.get("dataSourceRef")
    if one is not None and other is None:
        spec["dataSourceRef"] = dict(one)
    elif other is not None and one is None and not other.get("namespace"):
        spec["dataSource"] = dict(other)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if old is None or spec != old["spec"]:
        yield from _spec(spec)
    if old is not None:
        said, before = ((each["metadata"].get("annotations") or {}).get(_OLD_CLASS) for each in (new, old))
        to_field = said is None and old["spec"].get("storageClassName") is None and before == spec.get("storageClassName")
        if said != before and not to_field:
            yield fields.invalid(f"metadata.annotations.{_OLD_CLASS}", said or "", "field is immutable")
        yield from _changed(spec, old["spec"], old.get("status") or {})


def _spec(spec: Object) -> Iterator[FieldError]:
    yield from access_modes("spec.accessModes", spec, "at least 1 access mode is required")
    if spec.get("selector") is not None:
        yield from label_selector("spec.selector", spec["selector"], may_be_empty=True)
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        yield fields.required("spec.resources[storage]")
    elif quantities.parse(size) <= 0:
        yield fields.invalid("spec.resources[storage]", size, "must be greater than zero")
    for name in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(name):
            yield from class_name(f"spec.{name}", spec[name])
    if spec.get("volumeMode", "Filesystem") not in VOLUME_MODES:
        yield fields.not_supported("spec.volumeMode", spec["volumeMode"], VOLUME_MODES)
    yield from _data_sources(spec)


def _data_sources(spec: Object) -> Iterator[FieldError]:
    one, other = spec.get("dataSource"), spec.get("dataSourceRef")
    for path, said in (("spec.dataSource", one), ("spec.dataSourceRef", other)):
        if said is not None:
            yield from _data_source(path, said)
    if one is None or other is None:
        return
    if other.get("namespace"):
        yield fields.invalid("spec", "spec.dataSource", "may not be specified when dataSourceRef.namespace is specified")
    elif any((one.get(name) or "") != (other.get(name) or "") for name in ("apiGroup", "kind", "name")):
        yield fields.invalid("spec", "spec.dataSource", "must match dataSourceRef")


def _data_source(path: str, said: Object) -> Iterator[FieldError]:
    for name in ("name", "kind"):
        if not said.get(name):
            yield fields.required(f"{path}.{name}")
    if not said.get("apiGroup"):
        if said.get("kind") != "PersistentVolumeClaim":
            yield fields.invalid(path, said.get("kind", ""), "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
    else:
        yield from names.checked(f"{path}.apiGroup", said["apiGroup"], names.subdomain)


def access_modes(path: str, spec: Object, why: str) -> Iterator[FieldError]:
    """Check the access modes of a claim or a volume; `why` is said if there is none."""
    modes = spec.get("accessModes") or ()
    if not modes:
        yield fields.required(path, why)
    for mode in modes:
        if mode not in ACCESS_MODES:
            yield fields.not_supported(path, mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(mode != "ReadWriteOncePod" for mode in modes):
        yield fields.forbidden(path, "may not use ReadWriteOncePod with other access modes")


def class_name(path: str, name: str) -> Sequence[FieldError]:
    return names.checked(path, name, names.subdomain)


def _changed(spec: Object, old: Object, status: Object) -> Iterator[FieldError]:
    """Check what may change after creation: a bound claim may grow, and take back what could not be carried out; its volume and its class may be
    filled in once."""
    bound = status.get("phase") == "Bound"
    if _fixed(spec, old, bound) != _fixed(old, old, bound):
        yield fields.forbidden("spec", _IMMUTABLE)
    asked, before = (quantities.parse(((each.get("resources") or {}).get("requests") or {}).get("storage", 0)) for each in (spec, old))
    if asked < before and asked <= quantities.parse((status.get("capacity") or {}).get("storage", 0)):
        yield fields.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")
    if spec.get("volumeMode") != old.get("volumeMode"):
        yield fields.invalid("volumeMode", spec.get("volumeMode"), "field is immutable")
    if old.get("volumeAttributesClassName") is not None and not spec.get("volumeAttributesClassName"):
        to = "nil" if spec.get("volumeAttributesClassName") is None else "an empty string"
        yield fields.forbidden("spec.volumeAttributesClassName", f"update from non-nil value to {to} is forbidden")


def _status_rules(new: Object, _old: Object) -> Iterator[FieldError]:
    status = status_rules.status_of(new)
    for name, amount in sorted((status.get("capacity") or {}).items()):
        yield from _basic(f"status.capacity[{name}]", amount)
    for name, word in sorted((status.get("allocatedResourceStatuses") or {}).items()):
        yield from _resource("status.allocatedResourceStatuses", name)
        if word not in _RESIZES:
            yield fields.not_supported("status.allocatedResourceStatuses", name, _RESIZES)
    for name, amount in sorted((status.get("allocatedResources") or {}).items()):
        wrong = list(_resource("status.allocatedResources", name))
        yield from wrong or _basic(f"status.allocatedResources[{name}]", amount)


def _basic(path: str, amount: Quantity) -> Iterator[FieldError]:
    if quantities.parse(amount) < 0:
        yield fields.invalid(path, quantities.to_int(amount), "must be a valid resource quantity")


def _resource(path: str, name: str) -> Iterator[FieldError]:
    """Check the name of a resource of a claim: of Kubernetes' own there is only `storage`."""
    wrong = list(names.checked(path, name, key_errors))
    yield from wrong
    if not wrong and ("/" not in name or "kubernetes.io/" in name) and name != "storage":
        yield fields.not_supported(path, name, ("storage",))


def _fixed(spec: Object, old: Object, bound: bool) -> Object:
    """Return the spec without what may change."""
    kept = dict(spec)
    for name in ("volumeName", "storageClassName"):
        if not old.get(name) and (name == "volumeName" or name not in old):
            kept.pop(name, None)
    resources = kept.pop("resources", None) or {}
    amounts = {
        f"{part}.{name}": quantities.parse(amount)
        for part in ("requests", "limits")
        for name, amount in (resources.get(part) or {}).items()
    }
    if bound:
        amounts.pop("requests.storage", None)
        if kept.get("volumeAttributesClassName") is not None:
            kept["volumeAttributesClassName"] = old.get("volumeAttributesClassName")
    return {**kept, "resources": amounts}


def _capacity(view: PersistentVolumeClaim, _now_s: float) -> str:
    return str(view.status.capacity.get("storage", "")) if view.spec.volume_name else ""


def _modes(view: PersistentVolumeClaim, _now_s: float) -> str:
    return ",".join(SHORT_MODES.get(mode, mode) for mode in view.status.access_modes) if view.spec.volume_name else ""


def _status(view: PersistentVolumeClaim, _now_s: float) -> str:
    return "Terminating" if view.metadata.deletion_timestamp else view.status.phase


def warnings(new: Object, _old: Object | None) -> Iterator[str]:
    yield from outdated.storage_class_annotation(new)
    yield from pod_warnings.claim_spec("spec", new["spec"])


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
    subresources=(status_rules.subresource(_status_rules),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    acts_on=frozenset(
        {"spec.accessModes", "spec.resources.requests", "spec.storageClassName", "spec.volumeMode", "spec.volumeName", "spec.selector"}
    ),
    type_defaults={
        "io.k8s.api.core.v1.PersistentVolumeClaim": TypeDefaults(absent={"spec": {}}),
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec": TypeDefaults(absent={"volumeMode": "Filesystem"}),
    },
)
