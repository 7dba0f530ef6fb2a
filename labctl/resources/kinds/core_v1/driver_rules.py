"""Rules for volumes of storage systems that labctl stores and does not mount: of a pod's volumes and of PersistentVolumes, in Kubernetes' words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from labctl.resources import fields
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1.mount_rules import local_path

_FORMS: Mapping[str, re.Pattern[str]] = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.[A-Za-z0-9.-]+(:[^,;*&$|\s]+)\Z", re.ASCII),
    "eui": re.compile(r"eui.[A-Za-z0-9]{16}\Z", re.ASCII),
    "naa": re.compile(r"naa.[A-Za-z0-9]{32}\Z", re.ASCII),
}
"""How the name of an iSCSI target or initiator goes on, by how it begins (RFC 3721)."""
_LUN_MAX = 255
_PORTAL_MAX = 64  # characters, with the volume's name
_PAIRS = "must be a host:port pair or multiple pairs separated by commas"
_PAIR = re.compile(r"\[[^\[\]]*\]:[^:\[\]]*|[^:\[\]]*:[^:\[\]]*")
_TENANT_MAX = 64
_RESERVED = (".kubernetes.io", ".k8s.io")


def _iscsi(path: str, source: Object) -> Iterator[FieldError]:
    iqn, initiator = source.get("iqn"), source.get("initiatorName")
    if iqn:
        yield from _iscsi_name(f"{path}.iqn", iqn)
    yield from _lun(f"{path}.lun", source.get("lun", 0))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        yield fields.required(f"{path}.secretRef")
    if initiator is not None:
        yield from _iscsi_name(f"{path}.initiatorname", initiator)


def _iscsi_name(path: str, name: str) -> Iterator[FieldError]:
    form = _FORMS.get(name[:3])
    if form is None:
        yield fields.invalid(path, name, "must be valid format starting with iqn, eui, or naa")
    elif not form.match(name):
        yield fields.invalid(path, name, "must be valid format")


def persistent_iscsi(path: str, source: Object, volume: str) -> Iterator[FieldError]:
    """Checks an iSCSI source of the PersistentVolume that is called `volume`: its secret has a name, and the portal's sessions are told apart by both."""
    portal, secret = source.get("targetPortal", ""), source.get("secretRef")
    if source.get("initiatorName") is not None and len(f"{volume}:{portal}") > _PORTAL_MAX:
        why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
        yield fields.invalid(f"{path}.targetportal", portal, why)
    if secret is not None and not secret.get("name"):
        yield fields.required(f"{path}.secretRef.name")


def _lun(path: str, lun: int) -> Iterator[FieldError]:
    if not 0 <= lun <= _LUN_MAX:
        yield fields.invalid(path, lun, f"must be between 0 and {_LUN_MAX}, inclusive")


def _fibre_channel(path: str, source: Object) -> Iterator[FieldError]:
    names, ids = source.get("targetWWNs") or (), source.get("wwids") or ()
    if not names and not ids:
        yield fields.required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if names and ids:
        yield fields.invalid(f"{path}.targetWWNs", names, "targetWWNs and wwids can not be specified simultaneously")
    if names and source.get("lun") is None:
        yield fields.required(f"{path}.lun", "lun is required if targetWWNs is specified")
    elif names:
        yield from _lun(f"{path}.lun", source["lun"])


def _quobyte(path: str, source: Object) -> Iterator[FieldError]:
    registry = source.get("registry", "")
    if not registry:
        yield fields.required(f"{path}.registry", _PAIRS)
    elif len(source.get("tenant") or "") > _TENANT_MAX:
        yield fields.required(f"{path}.tenant", f"must be a UUID and may not exceed a length of {_TENANT_MAX} characters")
    elif not all(_PAIR.fullmatch(pair) for pair in registry.split(",")):
        yield fields.invalid(f"{path}.registry", registry, _PAIRS)
    if not source.get("volume"):
        yield fields.required(f"{path}.volume")


def _flocker(path: str, source: Object) -> Iterator[FieldError]:
    name, uid = source.get("datasetName"), source.get("datasetUUID")
    if not name and not uid:
        yield fields.required(path, "one of datasetName and datasetUUID is required")
    if name and uid:
        yield fields.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in (name or ""):
        yield fields.invalid(f"{path}.datasetName", name, "must not contain '/'")


def _git(path: str, source: Object) -> Iterator[FieldError]:
    yield from local_path(f"{path}.directory", source.get("directory") or "")


def _flex(path: str, source: Object) -> Iterator[FieldError]:
    for key in source.get("options") or {}:
        space = key.partition("/")[0].lower()
        if f".{space}".endswith(_RESERVED):
            yield fields.invalid(f"{path}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved")


RULES: Mapping[str, Callable[[str, Object], Iterator[FieldError]]] = {
    "fc": _fibre_channel,
    "flexVolume": _flex,
    "flocker": _flocker,
    "gitRepo": _git,
    "iscsi": _iscsi,
    "quobyte": _quobyte,
}
"""What is said of a source beside the fields that it needs, by its name in a volume."""
