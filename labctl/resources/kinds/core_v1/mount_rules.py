"""Rules for how a container mounts its pod's volumes, as folders or as block devices. Field errors in Kubernetes' words, at its paths.

`volumes` are the pod's volumes by name. Works on dicts after defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from labctl.resources import fields
from labctl.resources.kind import FieldError, Object

_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_READ_ONLY = ("Disabled", "Enabled", "IfPossible")
_BACK = "must not contain '..'"


def local_path(path: str, value: str, *, not_reserved: bool = False) -> Iterator[FieldError]:
    """Check a path that must stay below a folder. Names that begin with two dots are kept for the links that swap a volume's files."""
    if value.startswith("/"):
        yield fields.invalid(path, value, "must be a relative path")
    yield from no_way_back(path, value)
    if not_reserved and value.startswith("..") and not value.startswith("../"):
        yield fields.invalid(path, value, "must not start with '..'")


def no_way_back(path: str, value: str) -> Iterator[FieldError]:
    if ".." in value.split("/"):
        yield fields.invalid(path, value, _BACK)


def mounts(path: str, c: Object, volumes: Mapping[str, Object]) -> Iterator[FieldError]:
    """Check `volumeMounts` of a container. Kubernetes says of a subPath only in which list it stands."""
    devices = {each.get("name", ""): each.get("devicePath", "") for each in c.get("volumeDevices") or ()}
    seen: set[str] = set()
    for index, mount in enumerate(c["volumeMounts"]):
        at, name, where = f"{path}[{index}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield fields.required(f"{at}.name")
        if name not in volumes:
            yield fields.not_found(f"{at}.name", name)
        if not where:
            yield fields.required(f"{at}.mountPath")
        if where in seen:
            yield fields.invalid(f"{at}.mountPath", where, "must be unique")
        seen.add(where)
        if name in devices:
            yield fields.invalid(f"{at}.name", name, "must not already exist in volumeDevices")
        if where in devices.values():
            yield fields.invalid(f"{at}.mountPath", where, "must not already exist as a path in volumeDevices")
        if len(mount) > 2:
            yield from _details(path, at, mount, c)


def _details(path: str, at: str, mount: Object, c: Object) -> Iterator[FieldError]:
    below, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
    yield from local_path(f"{path}.subPath", below)
    if expression and below:
        yield fields.invalid(f"{at}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
    yield from local_path(f"{path}.subPathExpr", expression)
    propagation, read_only = mount.get("mountPropagation"), mount.get("recursiveReadOnly")
    if propagation is not None:
        if propagation not in _PROPAGATIONS:
            yield fields.not_supported(f"{path}.mountPropagation", propagation, _PROPAGATIONS)
        if propagation == "Bidirectional" and not (c.get("securityContext") or {}).get("privileged"):
            why = "Bidirectional mount propagation is available only to privileged containers"
            yield fields.forbidden(f"{path}.mountPropagation", why)
    if read_only in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            yield fields.forbidden(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true")
        if propagation not in (None, "None"):
            why = "may only be specified when mountPropagation is None or not specified"
            yield fields.forbidden(f"{path}.recursiveReadOnly", why)
    elif read_only not in (None, "Disabled"):
        yield fields.not_supported(f"{path}.recursiveReadOnly", read_only, _READ_ONLY)


def devices(path: str, said: Sequence[Object], mounts: Sequence[Object], volumes: Mapping[str, Object]) -> Iterator[FieldError]:
    """Check `volumeDevices`: only volumes of claims can be block devices."""
    mounted = {each.get("name", ""): each.get("mountPath", "") for each in mounts}
    named: set[str] = set()
    paths: set[str] = set()
    for index, device in enumerate(said):
        at, name, where = f"{path}[{index}]", device.get("name", ""), device.get("devicePath", "")
        if not name:
            yield fields.required(f"{at}.name")
        if name in named:
            yield fields.invalid(f"{at}.name", name, "must be unique")
        if name not in volumes:
            yield fields.not_found(f"{at}.name", name)
        elif not volumes[name].keys() & {"persistentVolumeClaim", "ephemeral"}:
            why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield fields.invalid(f"{at}.name", name, why)
        if not where:
            yield fields.required(f"{at}.devicePath")
        if where in paths:
            yield fields.invalid(f"{at}.devicePath", where, "must be unique")
        if ".." in where.split("/"):
            yield fields.invalid(f"{at}.devicePath", where, "can not contain backsteps ('..')")
        else:
            paths.add(where)
        if name in mounted:
            yield fields.invalid(f"{at}.name", name, "must not already exist in volumeMounts")
        if where in mounted.values():
            yield fields.invalid(f"{at}.devicePath", where, "must not already exist as a path in volumeMounts")
        named.add(name)
