"""Rules for a pod's volumes: what each source needs, and what may not be said together. Field errors in Kubernetes' words and order (validateVolumeSource).

Sources that labctl does not act on are looked at, too: whoever writes a manifest for another cluster learns here what that one would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from labctl.resources import fields, names, quantities
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.certificates_v1 import signers
from labctl.resources.kinds.core_v1 import driver_rules, env_rules, persistentvolumeclaim
from labctl.resources.kinds.core_v1.mount_rules import local_path, no_way_back

_ORDER = (
    *("emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi", "glusterfs", "flocker"),
    *("persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI", "fc", "flexVolume", "configMap", "azureFile"),
    *(
        "vsphereVolume",
        "photonPersistentDisk",
        "portworxVolume",
        "azureDisk",
        "storageos",
        "projected",
        "scaleIO",
        "csi",
        "ephemeral",
        "image",
    ),
)
NEEDED: Mapping[str, tuple[str, ...]] = {
    "gitRepo": ("repository",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "glusterfs": ("endpoints", "path"),
    "persistentVolumeClaim": ("claimName",),
    "rbd": ("monitors", "image"),
    "cinder": ("volumeID",),
    "cephfs": ("monitors",),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "azureDisk": ("diskName", "diskURI"),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "scaleIO": ("gateway", "system", "volumeName"),
    "storageos": ("volumeName",),
    "iscsi": ("targetPortal", "iqn"),
}
HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_KEY_TYPES = ("ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096")
_TOKEN_LEAST_S, _TOKEN_MOST_S = 600, 1 << 32


def volumes(path: str, said: Sequence[Object], *, template: bool = False) -> Iterator[FieldError]:
    """Validates a pod's volumes. A template may leave it to somebody else which image a volume is."""
    seen: set[str] = set()
    for index, volume in enumerate(said):
        at, name = f"{path}[{index}]", volume.get("name", "")
        sources = [kind for kind in _ORDER if kind in volume]
        if sources:
            yield from _source(f"{at}.{sources[0]}", sources[0], volume[sources[0]])
        if sources[:1] == ["image"] and not template and not volume["image"].get("reference"):
            yield fields.required(f"{at}.image.reference")
        for extra in sources[1:]:
            yield fields.forbidden(f"{at}.{extra}", "may not specify more than 1 volume type")
        if not name:
            yield fields.required(f"{at}.name")
        else:
            yield from names.checked(f"{at}.name", name, names.label)
        if name in seen:
            yield fields.duplicate(f"{at}.name", name)
        seen.add(name)


def of_the_pod(path: str, said: Sequence[Object], pod: str) -> Iterator[FieldError]:
    """Check what depends on the pod's name: claims are made for its ephemeral volumes, and no other volume may use them."""
    made = {f"{pod}-{volume.get('name', '')}" for volume in said if "ephemeral" in volume}
    for index, volume in enumerate(said):
        name = f"{pod}-{volume.get('name', '')}"
        if "ephemeral" in volume:
            for why in names.subdomain(name):
                yield fields.invalid(f"{path}[{index}].name", volume.get("name", ""), f'PVC name "{name}": {why}')
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        if claim in made:
            why = "must not reference a PVC that gets created for an ephemeral volume"
            yield fields.invalid(f"{path}[{index}].persistentVolumeClaim.claimName", claim, why)


def _source(path: str, kind: str, source: Object) -> Iterator[FieldError]:
    for name in NEEDED.get(kind, ()):
        if not source.get(name):
            yield fields.required(f"{path}.{name}")
    more = _MORE.get(kind)
    if more is not None:
        yield from more(path, source)


def _mode(path: str, value: int | None) -> Iterator[FieldError]:
    if value is not None and not 0 <= value <= 0o777:
        yield fields.invalid(path, value, _MODE)


def _empty_dir(path: str, source: Object) -> Iterator[FieldError]:
    if quantities.parse(source.get("sizeLimit") or 0) < 0:
        yield fields.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def host_path(path: str, source: Object) -> Iterator[FieldError]:
    if not source.get("path"):
        yield fields.required(f"{path}.path")
        return
    yield from no_way_back(f"{path}.path", source["path"])
    if source.get("type") is not None and source["type"] not in HOST_PATH_TYPES:
        yield fields.not_supported(f"{path}.type", source["type"], HOST_PATH_TYPES)


def _nfs(path: str, source: Object) -> Iterator[FieldError]:
    for name in ("server", "path"):
        if not source.get(name):
            yield fields.required(f"{path}.{name}")
    if not source.get("path", "").startswith("/"):
        yield fields.invalid(f"{path}.path", source.get("path", ""), "must be an absolute path")


def _keys(path: str, source: Object, needed: str) -> Iterator[FieldError]:
    """Check a Secret's or a ConfigMap's volume."""
    if not source.get(needed):
        yield fields.required(f"{path}.{needed}")
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    for index, item in enumerate(source.get("items") or ()):
        yield from _item(f"{path}.items[{index}]", item)


def _secret(path: str, source: Object) -> Iterator[FieldError]:
    return _keys(path, source, "secretName")


def _config_map(path: str, source: Object) -> Iterator[FieldError]:
    return _keys(path, source, "name")


def _item(path: str, item: Object) -> Iterator[FieldError]:
    if not item.get("key"):
        yield fields.required(f"{path}.key")
    if not item.get("path"):
        yield fields.required(f"{path}.path")
    yield from local_path(f"{path}.path", item.get("path", ""), not_reserved=True)
    yield from _mode(f"{path}.mode", item.get("mode"))


def _downward(path: str, source: Object) -> Iterator[FieldError]:
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    for item in source.get("items") or ():
        yield from _pod_field(path, item)


def _pod_field(path: str, item: Object) -> Iterator[FieldError]:
    """Check a file with a field of the pod. Kubernetes' paths name the volume, and not the item."""
    if not item.get("path"):
        yield fields.required(f"{path}.path")
    yield from local_path(f"{path}.path", item.get("path", ""), not_reserved=True)
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        yield from env_rules.field_reference(f"{path}.fieldRef", field, env_rules.VOLUME_FIELDS)
        if resource is not None:
            yield fields.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif resource is not None:
        yield from env_rules.resource_reference(f"{path}.resourceFieldRef", resource, volume=True)
    else:
        yield fields.required(path, "one of fieldRef and resourceFieldRef is required")
    yield from _mode(f"{path}.mode", item.get("mode"))


def _csi(path: str, source: Object) -> Iterator[FieldError]:
    driver = source.get("driver", "")
    if not driver:
        yield fields.required(f"{path}.driver")
    elif len(driver) > 63:
        yield fields.too_long(f"{path}.driver", 63)
    yield from names.checked(f"{path}.driver", driver.lower(), names.subdomain)
    secret = source.get("nodePublishSecretRef")
    if secret is not None and not secret.get("name"):
        yield fields.required(f"{path}.nodePublishSecretRef.name")


def _ephemeral(path: str, source: Object) -> Iterator[FieldError]:
    template = source.get("volumeClaimTemplate")
    if template is None:
        yield fields.required(f"{path}.volumeClaimTemplate")
        return
    metadata = template.get("metadata") or {}
    for name in metadata:
        if name not in ("annotations", "labels", "creationTimestamp"):
            yield fields.forbidden(f"{path}.volumeClaimTemplate.metadata.{name}", "cannot be set")
    yield from names.labels(f"{path}.volumeClaimTemplate.metadata.labels", metadata.get("labels") or {})
    yield from names.annotation_keys(f"{path}.volumeClaimTemplate.metadata.annotations", metadata.get("annotations") or {})
    for error in persistentvolumeclaim.validate({"metadata": {}, "spec": template.get("spec") or {}}, None):
        yield replace(error, field=f"{path}.volumeClaimTemplate.{error.field}")


def _image(path: str, source: Object) -> Iterator[FieldError]:
    policy = source.get("pullPolicy")
    if policy and policy not in _PULL_POLICIES:
        yield fields.not_supported(f"{path}.pullPolicy", policy, _PULL_POLICIES)


# -- several sources in one folder ---------------------------------------------------------------------------------------------------------


def _projected(path: str, source: Object) -> Iterator[FieldError]:
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    taken: set[str] = set()
    for index, each in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{index}]"
        for kind in ("secret", "configMap"):
            if kind in each:
                yield from _projected_keys(f"{at}.{kind}", path, each[kind], taken)
        for item in (each.get("downwardAPI") or {}).get("items") or ():
            yield from _pod_field(f"{at}.downwardAPI", item)
            yield from _taken(path, item.get("path", ""), item.get("path", ""), taken)
        if "serviceAccountToken" in each:
            yield from _token(f"{at}.serviceAccountToken", path, each["serviceAccountToken"])
        if "clusterTrustBundle" in each:
            yield from _trust(f"{at}.clusterTrustBundle", path, each["clusterTrustBundle"], taken)
        if "podCertificate" in each:
            yield from _certificate(f"{at}.podCertificate", path, each["podCertificate"], taken)
        if len(each) > 1:
            yield fields.forbidden(at, "may not specify more than 1 volume type per source")


def _projected_keys(path: str, volume: str, source: Object, taken: set[str]) -> Iterator[FieldError]:
    if not source.get("name"):
        yield fields.required(f"{path}.name")
    for index, item in enumerate(source.get("items") or ()):
        yield from _item(f"{path}.items[{index}]", item)
        yield from _taken(volume, item.get("path", ""), source.get("name", ""), taken)


def _taken(path: str, file: str, shown: str, taken: set[str]) -> Iterator[FieldError]:
    if file and file in taken:
        yield fields.invalid(path, shown, "conflicting duplicate paths")
    taken.add(file)


def _token(path: str, volume: str, source: Object) -> Iterator[FieldError]:
    seconds = source.get("expirationSeconds", _TOKEN_LEAST_S)
    if seconds < _TOKEN_LEAST_S:
        yield fields.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > _TOKEN_MOST_S:
        yield fields.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not source.get("path"):
        yield fields.required(f"{volume}.path")
    else:
        yield from local_path(f"{volume}.path", source["path"], not_reserved=True)


def _trust(path: str, volume: str, source: Object, taken: set[str]) -> Iterator[FieldError]:
    named, signed = source.get("name") is not None, source.get("signerName") is not None
    if named and signed:
        yield fields.invalid(path, source, "only one of name and signerName may be used")
    elif named and not source["name"]:
        yield fields.required(f"{path}.name", "must be a valid object name")
    elif signed and not source["signerName"]:
        yield fields.required(f"{path}.signerName", "must be a valid signer name")
    elif signed:
        yield from signers.name(f"{path}.signerName", source["signerName"])
    elif not named:
        yield fields.required(path, "either name or signerName must be specified")
    if named and not signed and source.get("labelSelector") is not None:
        yield fields.invalid(f"{path}.labelSelector", source["labelSelector"], "labelSelector must be unset if name is specified")
    if not source.get("path"):
        yield fields.required(f"{path}.path")
    yield from local_path(f"{path}.path", source.get("path", ""), not_reserved=True)
    yield from _taken(volume, source.get("path", ""), source.get("path", ""), taken)


def _certificate(path: str, volume: str, source: Object, taken: set[str]) -> Iterator[FieldError]:
    yield from signers.name(f"{path}.signerName", source.get("signerName", ""))
    if source.get("keyType") not in _KEY_TYPES:
        yield fields.not_supported(f"{path}.keyType", source.get("keyType", ""), _KEY_TYPES)
    life_s, least_s, most_s = source.get("maxExpirationSeconds"), signers.LIFE_LEAST_S, signers.life_most_s(source.get("signerName", ""))
    if life_s is not None and life_s < least_s:
        yield fields.invalid(f"{path}.maxExpirationSeconds", life_s, f"if provided, maxExpirationSeconds must be >= {least_s}")
    if life_s is not None and life_s > most_s:
        yield fields.invalid(f"{path}.maxExpirationSeconds", life_s, f"if provided, maxExpirationSeconds must be <= {most_s}")
    files = {field: source[field] for field in signers.PATHS if source.get(field)}
    for field, file in files.items():
        yield from local_path(f"{path}.{field}", file, not_reserved=True)
        yield from _taken(volume, file, file, taken)
    if not files:
        yield fields.required(path, f"specify at least one of {', '.join(signers.PATHS[:2])}, and {signers.PATHS[2]}")
    yield from signers.user_annotations(f"{path}.userAnnotations", source.get("userAnnotations") or {})


_MORE: Mapping[str, Callable[[str, Any], Iterator[FieldError]]] = {
    **driver_rules.RULES,
    "emptyDir": _empty_dir,
    "hostPath": host_path,
    "nfs": _nfs,
    "secret": _secret,
    "configMap": _config_map,
    "downwardAPI": _downward,
    "projected": _projected,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
