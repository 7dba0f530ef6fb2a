"""PersistentVolume: a piece of storage, made by hand or by a provisioner. It belongs to one claim, or waits for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.resources import fields, quantities
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1.persistentvolumeclaim import SHORT_MODES, access_modes
from labctl.resources.kinds.core_v1.pod_affinity import NodeSelector
from labctl.resources.kinds.shared import ObjectReference, Quantity

PROTECTION = "kubernetes.io/pv-protection"
LOCAL_PROVISIONER = "labctl.internal/local"
"""The provisioner that is built in: a volume is a folder on a minion's disk."""
LOCAL_DATA = "labctl.internal/local-data"
"""The finalizer of such a volume. The agent of its node takes it away once the data is removed."""
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
HOSTNAME = "kubernetes.io/hostname"
ON_NODE = "labctl.internal/node"
"""The field selector with which an agent finds the volumes on its disk."""

POLICIES = ("Delete", "Recycle", "Retain")
MODES = ("Block", "Filesystem")
_NO_SOURCES = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


class VolumeNodeAffinity(msgspec.Struct, frozen=True, gc=False):
    required: NodeSelector | None = None


class PersistentVolumeSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    access_modes: tuple[str, ...] = ()
    capacity: dict[str, Quantity] = {}
    claim_ref: ObjectReference | None = None
    storage_class_name: str = ""
    persistent_volume_reclaim_policy: str = "Retain"
    volume_mode: str = "Filesystem"
    node_affinity: VolumeNodeAffinity = VolumeNodeAffinity()


class PersistentVolumeStatus(msgspec.Struct, frozen=True, gc=False):
    phase: str = ""
    reason: str = ""
    message: str = ""


class PersistentVolume(Viewed, frozen=True, rename="camel", gc=False):
    spec: PersistentVolumeSpec = PersistentVolumeSpec()
    status: PersistentVolumeStatus = PersistentVolumeStatus()

    @property
    def is_local(self) -> bool:
        """Tell whether the built-in provisioner made it."""
        return self.metadata.annotations.get(PROVISIONED_BY) == LOCAL_PROVISIONER

    @property
    def node_name(self) -> str:
        """Return the one node that its node affinity names, or "" if several nodes may mount it."""
        required = self.spec.node_affinity.required
        terms = required.node_selector_terms if required else ()
        if len(terms) != 1:
            return ""
        named = [each.values for each in terms[0].match_expressions if each.key == HOSTNAME and each.operator == "In"]
        return named[0][0] if len(named) == 1 and len(named[0]) == 1 else ""


def selectable(volume: PersistentVolume) -> Mapping[str, str]:
    return {ON_NODE: volume.node_name if volume.is_local else ""}


def prepare(new: Object, old: Object | None) -> None:
    if old is not None:
        return
    new["status"] = {"phase": "Pending"}
    finalizers = new["metadata"].setdefault("finalizers", [])
    if PROTECTION not in finalizers:
        finalizers.append(PROTECTION)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from access_modes("spec.accessModes", spec)
    yield from _capacity(spec.get("capacity") or {})
    policy = spec.get("persistentVolumeReclaimPolicy", "Retain")
    if policy not in POLICIES:
        yield fields.not_supported("spec.persistentVolumeReclaimPolicy", policy, POLICIES)
    if spec.get("volumeMode", "Filesystem") not in MODES:
        yield fields.not_supported("spec.volumeMode", spec["volumeMode"], MODES)
    yield from _source(spec)
    if old is not None:
        yield from _changed(spec, old["spec"])


def _capacity(capacity: Object) -> Iterator[FieldError]:
    if not capacity:
        yield fields.required("spec.capacity")
    elif "storage" not in capacity or len(capacity) > 1:
        yield fields.not_supported("spec.capacity", capacity, ("storage",))
    elif quantities.parse(capacity["storage"]) <= 0:
        yield fields.invalid("spec.capacity[storage]", capacity["storage"], "must be greater than zero")


def _source(spec: Object) -> Iterator[FieldError]:
    sources = [name for name in spec if name not in _NO_SOURCES]
    if not sources:
        yield fields.required("spec", "must specify a volume type")
        return
    for extra in sources[1:]:
        yield fields.forbidden(f"spec.{extra}", "may not specify more than 1 volume type")
    kind = sources[0]
    needed = {"hostPath": ("path",), "local": ("path",), "nfs": ("server", "path")}.get(kind, ())
    for name in needed:
        value = spec[kind].get(name, "")
        if not value:
            yield fields.required(f"spec.{kind}.{name}")
        elif name == "path" and ".." in value.split("/"):
            yield fields.invalid(f"spec.{kind}.path", value, "must not contain '..'")
    if kind == "nfs" and spec[kind].get("path") and not spec[kind]["path"].startswith("/"):
        yield fields.invalid("spec.nfs.path", spec[kind]["path"], "must be an absolute path")
    if kind == "local" and not ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms"):
        yield fields.required("spec.nodeAffinity", "Local volume requires node affinity")


def _changed(spec: Object, old: Object) -> Iterator[FieldError]:
    """Check that the volume's source stays the same. Its claim and its reclaim policy may change."""
    kept = {name for name in (*spec, *old) if name not in _NO_SOURCES}
    if any(spec.get(name) != old.get(name) for name in kept):
        yield fields.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")
    for name in ("nodeAffinity", "volumeMode"):
        if old.get(name) and spec.get(name) != old.get(name):
            yield fields.invalid(f"spec.{name}", spec.get(name), "field is immutable")


def _claim(volume: PersistentVolume, _now_s: float) -> str:
    return volume.spec.claim_ref.key if volume.spec.claim_ref else ""


def _modes(volume: PersistentVolume, _now_s: float) -> str:
    return ",".join(SHORT_MODES.get(mode, mode) for mode in volume.spec.access_modes)


def _status(volume: PersistentVolume, _now_s: float) -> str:
    return "Terminating" if volume.metadata.deletion_timestamp else volume.status.phase


KIND = Kind(
    group="",
    version="v1",
    kind="PersistentVolume",
    plural="persistentvolumes",
    singular="persistentvolume",
    namespaced=False,
    view=PersistentVolume,
    short_names=("pv",),
    columns=(
        NAME,
        Column("Capacity", lambda volume, _now: str(volume.spec.capacity.get("storage", "")), description="How big it is."),
        Column("Access Modes", _modes, description="How it may be mounted."),
        Column(
            "Reclaim Policy",
            lambda volume, _now: volume.spec.persistent_volume_reclaim_policy,
            description="What becomes of it when its claim is gone.",
        ),
        Column("Status", _status, description="Pending, Available, Bound, Released or Failed."),
        Column("Claim", _claim, description="Whose it is."),
        Column("StorageClass", lambda volume, _now: volume.spec.storage_class_name, description="The class of claims that may have it."),
        Column("VolumeAttributesClass", lambda _volume, _now: "<unset>", description="Not served: always unset."),
        Column("Reason", lambda volume, _now: volume.status.reason, description="Why it is in this state."),
        AGE,
        Column("VolumeMode", lambda volume, _now: volume.spec.volume_mode, priority=1, description="Filesystem or Block."),
    ),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    fields=selectable,
    acts_on=frozenset(
        {
            "spec.accessModes",
            "spec.capacity",
            "spec.claimRef",
            "spec.hostPath",
            "spec.local.path",
            "spec.mountOptions",
            "spec.nfs",
            "spec.nodeAffinity",
            "spec.persistentVolumeReclaimPolicy",
            "spec.storageClassName",
            "spec.volumeMode",
        }
    ),
    type_defaults={
        "io.k8s.api.core.v1.PersistentVolume": TypeDefaults(absent={"spec": {}}),
        "io.k8s.api.core.v1.PersistentVolumeSpec": TypeDefaults(
            zero={"persistentVolumeReclaimPolicy": "Retain"}, absent={"volumeMode": "Filesystem"}
        ),
    },
)
