"""What may stand in a PersistentVolume's spec, in Kubernetes' words: of its own, and inside a VolumeAttachment. Works on dicts after defaults."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from labctl.resources import fields, names, quantities
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import driver_rules, placement_rules, volume_rules
from labctl.resources.kinds.core_v1.persistentvolumeclaim import VOLUME_MODES, access_modes, class_name

POLICIES = ("Delete", "Recycle", "Retain")
NO_SOURCES = frozenset(
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
"""The fields of a spec that say nothing about where the data is."""
_NEEDED: Mapping[str, tuple[str, ...]] = {
    **volume_rules.NEEDED,
    "hostPath": ("path",),
    "local": ("path",),
    "nfs": ("server", "path"),
    "photonPersistentDisk": ("pdID",),
}
_SECRETS = ("controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef", "nodeStageSecretRef")
_INLINE = "may not be specified in the context of inline volumes"


def volume(spec: Object, name: str) -> Iterator[FieldError]:
    """Check the spec of the PersistentVolume that is called `name`."""
    yield from access_modes("spec.accessModes", spec, "")
    yield from _capacity(spec.get("capacity") or {})
    policy = spec.get("persistentVolumeReclaimPolicy", "Retain")
    if policy not in POLICIES:
        yield fields.not_supported("spec.persistentVolumeReclaimPolicy", policy, POLICIES)
    affinity = spec.get("nodeAffinity")
    if affinity is not None and affinity.get("required") is None:
        yield fields.required("spec.nodeAffinity.required", "must specify required node constraints")
    elif affinity is not None:
        yield from placement_rules.node_selector("spec.nodeAffinity.required", affinity["required"])
    yield from source("spec", spec, name)
    if policy == "Recycle" and posixpath.normpath((spec.get("hostPath") or {}).get("path") or ".") == "/":
        yield fields.forbidden("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'")
    if spec.get("storageClassName"):
        yield from class_name("spec.storageClassName", spec["storageClassName"])
    if spec.get("volumeMode", "Filesystem") not in VOLUME_MODES:
        yield fields.not_supported("spec.volumeMode", spec["volumeMode"], VOLUME_MODES)
    settings = spec.get("volumeAttributesClassName")
    if settings is not None:
        if not settings:
            yield fields.required("spec.volumeAttributesClassName", "an empty string is disallowed")
        else:
            yield from class_name("spec.volumeAttributesClassName", settings)
        if spec.get("csi") is None:
            yield fields.required("spec.csi", "has to be specified when using volumeAttributesClassName")


def inline(path: str, spec: Object) -> Iterator[FieldError]:
    """Check the spec of a volume that stands in a VolumeAttachment: only its source and its access modes may be there."""
    for name in ("claimRef", "capacity"):
        if spec.get(name):
            yield fields.forbidden(f"{path}.{name}", _INLINE)
    if spec.get("csi") is None:
        yield fields.required(f"{path}.csi", "has to be specified in the context of inline volumes")
    yield from access_modes(f"{path}.accessModes", spec, "")
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        yield fields.forbidden(f"{path}.persistentVolumeReclaimPolicy", "may only be Retain in the context of inline volumes")
    if spec.get("nodeAffinity") is not None:
        yield fields.forbidden(f"{path}.nodeAffinity", _INLINE)
    yield from source(path, spec)
    if spec.get("storageClassName"):
        yield fields.forbidden(f"{path}.storageClassName", _INLINE)
    if spec.get("volumeMode", "Filesystem") != "Filesystem":
        yield fields.forbidden(f"{path}.volumeMode", "may not specify volumeMode other than Filesystem in the context of inline volumes")


def _capacity(capacity: Object) -> Iterator[FieldError]:
    if not capacity:
        yield fields.required("spec.capacity")
    if "storage" not in capacity or len(capacity) > 1:
        yield fields.not_supported("spec.capacity", capacity, ("storage",))
    for name, amount in sorted(capacity.items()):
        if quantities.parse(amount) <= 0:
            yield fields.invalid(f"spec.capacity[{name}]", amount, "must be greater than zero")


def source(path: str, spec: Object, volume: str = "") -> Iterator[FieldError]:
    """Check that a volume has one source, and that the source says all that it must."""
    sources = [name for name in spec if name not in NO_SOURCES]
    if not sources:
        yield fields.required(path, "must specify a volume type")
        return
    for extra in sources[1:]:
        yield fields.forbidden(f"{path}.{extra}", "may not specify more than 1 volume type")
    kind = sources[0]
    at, said = f"{path}.{'cephFS' if kind == 'cephfs' else kind}", spec[kind]
    for name in _NEEDED.get(kind, ()):
        if not said.get(name):
            yield fields.required(f"{at}.{name}")
    yield from _paths(at, kind, said)
    if kind == "csi":
        yield from _csi(at, said)
    elif kind in driver_rules.RULES:
        yield from driver_rules.RULES[kind](at, said)
        if kind == "iscsi":
            yield from driver_rules.persistent_iscsi(at, said, volume)
    elif kind == "local" and spec.get("nodeAffinity") is None:
        yield fields.required(f"{path}.nodeAffinity", "Local volume requires node affinity")


def _paths(at: str, kind: str, said: Object) -> Iterator[FieldError]:
    said_path = said.get("path") or ""
    if kind in ("hostPath", "local") and ".." in said_path.split("/"):
        yield fields.invalid(f"{at}.path", said_path, "must not contain '..'")
    if kind == "hostPath" and (said.get("type") or "") not in volume_rules.HOST_PATH_TYPES:
        yield fields.not_supported(f"{at}.type", said["type"], volume_rules.HOST_PATH_TYPES)
    if kind == "nfs" and said_path and not said_path.startswith("/"):
        yield fields.invalid(f"{at}.path", said_path, "must be an absolute path")


def _csi(at: str, said: Object) -> Iterator[FieldError]:
    yield from driver_name(f"{at}.driver", said.get("driver", ""))
    if not said.get("volumeHandle"):
        yield fields.required(f"{at}.volumeHandle")
    for name in _SECRETS:
        reference = said.get(name)
        if reference is None:
            continue
        for part, rule in (("name", names.subdomain), ("namespace", names.label)):
            if not reference.get(part):
                yield fields.required(f"{at}.{name}.{part}")
            else:
                yield from names.checked(f"{at}.{name}.{part}", reference[part], rule)


def driver_name(path: str, name: str) -> Iterator[FieldError]:
    """Check the name of a CSI driver."""
    if not name:
        yield fields.required(path)
    if len(name) > 63:
        yield fields.too_long(path, 63)
    yield from (fields.invalid(path, name, why) for why in names.subdomain(name.lower()))


def changed(spec: Object, old: Object) -> Iterator[FieldError]:
    """Check that the volume's source stays the same. Its claim and its reclaim policy may change."""
    if _sources(spec, old) != _sources(old, old):
        yield fields.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")
    for name in ("volumeMode", "nodeAffinity"):
        if (name == "volumeMode" or old.get(name)) and spec.get(name) != old.get(name):
            yield fields.invalid(name, spec.get(name), "field is immutable")
    if old.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
        yield fields.forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden")


def _sources(spec: Object, old: Object) -> Object:
    """Return the source; a secret for its expansion may be named once."""
    found = {name: value for name, value in spec.items() if name not in NO_SOURCES}
    if found.get("csi") and (old.get("csi") or {}).get("controllerExpandSecretRef") is None:
        found["csi"] = {name: value for name, value in found["csi"].items() if name != "controllerExpandSecretRef"}
    return found
