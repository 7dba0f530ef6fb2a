"""Rules for a container's environment, and for what it may say of its own pod (the downward API), which volumes share. Field errors in Kubernetes' words.

`path` is the path of the list or of the reference; works on dicts after defaults.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from labctl.resources import fields, names, quantities
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1.mount_rules import local_path
from labctl.resources.labels import key_errors

_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_SELECTABLE = frozenset(
    {*ENV_FIELDS, *VOLUME_FIELDS, "spec.host", "spec.restartPolicy", "spec.schedulerName", "status.phase"}
)  # what a field selector may name; only these are fields at all for the downward API
_AMOUNTS = tuple(f"{part}.{name}" for part in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory"))
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_DIVISORS_OF_CPU = frozenset(map(quantities.parse, ("1", "1m")))
_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_DIVISORS_OF_BYTES = frozenset(map(quantities.parse, _BYTES))
_ONE_SOURCE = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
_MANY = "may not have more than one field specified at a time"


def env(path: str, variables: Sequence[Object], volumes: Mapping[str, Object]) -> Iterator[FieldError]:
    for index, each in enumerate(variables):
        yield from _variable(f"{path}[{index}]", each, volumes)


def _variable(path: str, variable: Object, volumes: Mapping[str, Object]) -> Iterator[FieldError]:
    name = variable.get("name", "")
    if not name:
        yield fields.required(f"{path}.name")
    else:
        yield from names.checked(f"{path}.name", name, _name)
    source = variable.get("valueFrom")
    if source is None:
        return
    at = f"{path}.valueFrom"
    sources = [kind for kind in _SOURCES if kind in source]
    for kind in sources:
        yield from _source(f"{at}.{kind}", kind, source[kind], volumes)
    if not sources:
        yield fields.invalid(at, "", _ONE_SOURCE)
    elif variable.get("value"):
        yield fields.invalid(at, "", "may not be specified when `value` is not empty")
    elif len(sources) > 1:
        yield fields.invalid(at, "", _MANY)


def _name(text: str) -> list[str]:
    if all(" " <= char <= "~" and char != "=" for char in text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def _source(path: str, kind: str, source: Object, volumes: Mapping[str, Object]) -> Iterator[FieldError]:
    if kind == "fieldRef":
        yield from field_reference(path, source, ENV_FIELDS)
    elif kind == "resourceFieldRef":
        yield from resource_reference(path, source)
    elif kind == "fileKeyRef":
        yield from _file_key(path, source, volumes)
    else:
        yield from names.checked(f"{path}.name", source.get("name", ""), names.subdomain)
        if not source.get("key"):
            yield fields.required(f"{path}.key")
        else:
            yield from names.checked(f"{path}.key", source["key"], names.config_key)


def _file_key(path: str, source: Object, volumes: Mapping[str, Object]) -> Iterator[FieldError]:
    """Check a variable that an init container writes into a file of a volume (KEP-3721)."""
    if not source.get("key"):
        yield fields.required(f"{path}.key")
    else:
        yield from names.checked(f"{path}.key", source["key"], _name)
    if source.get("volumeName", "") not in volumes:
        yield fields.not_found(f"{path}.volumeName", source.get("volumeName", ""))
    if not source.get("path"):
        yield fields.required(f"{path}.path")
    else:
        yield from local_path(f"{path}.path", source["path"], not_reserved=True)


def env_from(path: str, sources: Sequence[Object]) -> Iterator[FieldError]:
    """Check each source of variables. That none or several are named is said of the whole list, as Kubernetes does."""
    for index, source in enumerate(sources):
        at = f"{path}[{index}]"
        if source.get("prefix"):
            yield from names.checked(f"{at}.prefix", source["prefix"], _name)
        named = [kind for kind in ("configMapRef", "secretRef") if kind in source]
        for kind in named:
            name = source[kind].get("name", "")
            if not name:
                yield fields.required(f"{at}.{kind}.name")
            else:
                yield from names.checked(f"{at}.{kind}.name", name, names.subdomain)
        if not named:
            yield fields.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(named) > 1:
            yield fields.invalid(path, "", _MANY)


# -- the downward API ----------------------------------------------------------------------------------------------------------------------


def field_reference(path: str, reference: Object, allowed: Collection[str]) -> Iterator[FieldError]:
    """Validates a reference to a field of the pod, or to one of its labels or annotations: `metadata.labels['app']`."""
    at, value = f"{path}.fieldPath", reference.get("fieldPath", "")
    if reference.get("apiVersion", "v1") != "v1":
        yield fields.invalid(at, value, f"error converting fieldPath: unsupported pod version: {reference['apiVersion']}")
        return
    if not value:
        yield fields.required(at)
        return
    holder, bracket, key = value.removesuffix("']").partition("['") if value.endswith("']") else (value, "", "")
    if bracket and holder:
        if holder not in ("metadata.annotations", "metadata.labels"):
            yield fields.invalid(at, value, f"error converting fieldPath: field label does not support subscript: {value}")
            return
        yield from names.checked(path, key.lower() if holder == "metadata.annotations" else key, key_errors)
    elif value not in _SELECTABLE:
        yield fields.invalid(at, value, f"error converting fieldPath: field label not supported: {value}")
    elif value not in allowed and value != "spec.host":
        yield fields.not_supported(at, value, allowed)


def resource_reference(path: str, reference: Object, *, volume: bool = False) -> Iterator[FieldError]:
    """Validates a reference to what a container asks for. In a volume, which belongs to no container, it must name one."""
    resource = reference.get("resource", "")
    if volume and not reference.get("containerName"):
        yield fields.required(f"{path}.containerName")
    elif not resource:
        yield fields.required(f"{path}.resource")
    elif resource not in _AMOUNTS and not resource.startswith(_HUGE_PAGES):
        yield fields.not_supported(f"{path}.resource", resource, _AMOUNTS)
    divisor = quantities.parse(reference.get("divisor") or 0)
    if not divisor:
        return
    kind = "hugepages" if resource.startswith(_HUGE_PAGES) else resource.partition(".")[2]
    if kind == "cpu" and divisor not in _DIVISORS_OF_CPU:
        yield fields.invalid(f"{path}.divisor", resource, "only divisor's values 1m and 1 are supported with the cpu resource")
    elif kind in ("memory", "ephemeral-storage", "hugepages") and divisor not in _DIVISORS_OF_BYTES:
        of = {"memory": "memory", "hugepages": "hugepages"}.get(kind, "local ephemeral storage")
        yield fields.invalid(f"{path}.divisor", resource, f"only divisor's values {', '.join(_BYTES)} are supported with the {of} resource")
