"""PersistentVolume: a piece of storage, made by hand or by a provisioner. It belongs to one claim, or waits for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1 import outdated, persistentvolume_rules
from labctl.resources.kinds.core_v1.persistentvolumeclaim import SHORT_MODES
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
    spec = new.get("spec") or {}
    if old is None or spec != old["spec"]:
        yield from persistentvolume_rules.volume(spec, new["metadata"].get("name", ""))
    if old is not None:
        yield from persistentvolume_rules.changed(spec, old["spec"])


def _claim(volume: PersistentVolume, _now_s: float) -> str:
    return volume.spec.claim_ref.key if volume.spec.claim_ref else ""


def _modes(volume: PersistentVolume, _now_s: float) -> str:
    return ",".join(SHORT_MODES.get(mode, mode) for mode in volume.spec.access_modes)


def _status(volume: PersistentVolume, _now_s: float) -> str:
    return "Terminating" if volume.metadata.deletion_timestamp else volume.status.phase


def warnings(new: Object, _old: Object | None) -> Iterator[str]:
    spec = new["spec"]
    yield from outdated.storage_class_annotation(new)
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield (
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated."
            " Instead, the recommended approach is to use dynamic provisioning."
        )
    required = (spec.get("nodeAffinity") or {}).get("required") or {}
    for index, term in enumerate(required.get("nodeSelectorTerms") or ()):
        yield from outdated.expressions(f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]", term)
    yield from outdated.volume_types("spec", spec)


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
    warnings=warnings,
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
