"""A container's environment, as the kubelet makes it: services, envFrom, env with $(VAR) expansion, ConfigMaps, Secrets, the pod's own fields.

Pure, but for objects that are fetched and files of volumes.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional

from . import envfiles, quantities

Object = Dict[str, Any]
Fetch = Callable[[str, str, str], Awaitable[Optional[Object]]]
"""("configmaps" | "secrets", namespace, name) -> the object, or None if there is none."""

_VARIABLE = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


class ConfigError(Exception):
    """The container can't be configured as asked: CreateContainerConfigError, with Kubernetes' message."""


@dataclass(frozen=True)
class PodFacts:
    """What fieldRef may ask besides the pod itself."""

    pod_ip: str = ""
    host_ip: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace $(NAME) where NAME is known; otherwise it stays as written. $$ is a dollar sign."""
    return _VARIABLE.sub(lambda match: "$" if match[0] == "$$" else values.get(match[1], match[0]), text)


def referenced(text: str) -> List[str]:
    """Return the names of the variables that a text wants to have replaced."""
    return [match[1] for match in _VARIABLE.finditer(text) if match[0] != "$$"]


def pod_field(pod: Object, path: str, facts: PodFacts) -> str:
    """Return the value of a downward fieldRef."""
    meta, spec = pod["metadata"], pod.get("spec", {})
    match = _SUBSCRIPT.fullmatch(path)
    if match:
        return (meta.get(match[1]) or {}).get(match[2], "")
    if path in ("metadata.labels", "metadata.annotations"):
        return "\n".join(f'{key}="{_go_quoted(value)}"' for key, value in sorted((meta.get(path[9:]) or {}).items()))
    known = {
        "metadata.name": meta.get("name", ""),
        "metadata.namespace": meta.get("namespace", ""),
        "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path not in known:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return known[path]


def _go_quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_field(pod: Object, container: Object, reference: Object, facts: PodFacts) -> str:
    """Return limits.cpu and the like, divided and rounded up. Without a limit it is the whole pod's, else all that the node has."""
    name = reference.get("containerName")
    chosen = next((each for each in pod["spec"]["containers"] if each["name"] == name), container) if name else container
    kind, _, resource = reference["resource"].partition(".")
    resources = chosen.get("resources") or {}
    value = (resources.get(kind) or {}).get(resource)
    if value is None and kind == "limits":
        value = ((pod["spec"].get("resources") or {}).get("limits") or {}).get(resource)
    if value is None:
        value = facts.allocatable.get(resource, "0") if kind == "limits" else (resources.get("limits") or {}).get(resource, "0")
    divisor = quantities.parse(reference.get("divisor") or "1") or 1
    return str(-(-quantities.parse(value) // divisor))


def decoded(found: Object, kind: str) -> Dict[str, bytes]:
    """Return the keys of a ConfigMap or Secret, as bytes."""
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    plain = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    return {**plain, **{key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}}


async def build(
    pod: Object, container: Object, facts: PodFacts, fetch: Fetch, services: Mapping[str, str], volumes: Mapping[str, str]
) -> Dict[str, str]:
    """Name -> value, in order. `volumes` has the folder of each of the pod's volumes. Raises ConfigError."""
    namespace = pod["metadata"]["namespace"]
    values: Dict[str, str] = dict(services)
    for source in container.get("envFrom") or ():
        values.update(await _from_object(source, namespace, fetch))
    for entry in container.get("env") or ():
        file = (entry.get("valueFrom") or {}).get("fileKeyRef")
        value = await _of_file(file, volumes) if file else await _value(entry, pod, container, facts, fetch, values)
        if value is not None:
            values[entry["name"]] = value
    return values


async def _from_object(source: Object, namespace: str, fetch: Fetch) -> Dict[str, str]:
    kind, reference = ("configmaps", source["configMapRef"]) if source.get("configMapRef") else ("secrets", source["secretRef"])
    found = await fetch(kind, namespace, reference["name"])
    if found is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{kind[:-1]} "{reference["name"]}" not found')
    prefix = source.get("prefix", "")
    return {prefix + key: value for key, value in _texts(found, kind).items()}


def _texts(found: Object, kind: str) -> Dict[str, str]:
    """Return what may become variables: every key, by whatever name (KEP-4369), but for a ConfigMap's binary ones."""
    if kind == "secrets":
        return {key: value.decode(errors="replace") for key, value in decoded(found, kind).items()}
    return dict(found.get("data") or {})


async def _value(entry: Object, pod: Object, container: Object, facts: PodFacts, fetch: Fetch, values: Mapping[str, str]) -> Optional[str]:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value", ""), values)
    if source.get("fieldRef"):
        return pod_field(pod, source["fieldRef"]["fieldPath"], facts)
    if source.get("resourceFieldRef"):
        return resource_field(pod, container, source["resourceFieldRef"], facts)
    if source.get("configMapKeyRef") or source.get("secretKeyRef"):
        return await _key(source, pod["metadata"]["namespace"], fetch)
    raise ConfigError(f"env {entry['name']}: this source of a value is not supported")


async def _of_file(source: Object, volumes: Mapping[str, str]) -> Optional[str]:
    volume, path, key = source["volumeName"], source["path"], source["key"]
    if volume not in volumes:
        raise ConfigError(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    try:
        value = await envfiles.read(volumes[volume], path, key)
    except (OSError, ValueError) as error:
        raise ConfigError(f"couldn't parse env file: {error}") from error
    if value is None and not source.get("optional"):
        raise ConfigError(f'environment variable key "{key}" not found in file "{path}"')
    return value


async def _key(source: Object, namespace: str, fetch: Fetch) -> Optional[str]:
    kind, title, reference = (
        ("configmaps", "ConfigMap", source["configMapKeyRef"])
        if source.get("configMapKeyRef")
        else ("secrets", "Secret", source["secretKeyRef"])
    )
    found = await fetch(kind, namespace, reference["name"])
    if found is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{kind[:-1]} "{reference["name"]}" not found')
    keys = _texts(found, kind)
    if reference["key"] not in keys:
        if reference.get("optional"):
            return None
        raise ConfigError(f"couldn't find key {reference['key']} in {title} {namespace}/{reference['name']}")
    return keys[reference["key"]]


def of_services(services: List[Object]) -> Dict[str, str]:
    """Return NAME_SERVICE_HOST, NAME_SERVICE_PORT and Docker's link variables, for Services with a virtual IP."""
    values: Dict[str, str] = {}
    for service in services:
        spec = service.get("spec", {})
        host, ports = spec.get("clusterIP", ""), spec.get("ports") or []
        if host in ("", "None") or not ports:
            continue
        base = service["metadata"]["name"].upper().replace("-", "_")
        values[f"{base}_SERVICE_HOST"] = host
        values[f"{base}_SERVICE_PORT"] = str(ports[0]["port"])
        values[f"{base}_PORT"] = f"{ports[0].get('protocol', 'TCP').lower()}://{host}:{ports[0]['port']}"
        for port in ports:
            protocol, number = port.get("protocol", "TCP"), port["port"]
            if port.get("name"):
                values[f"{base}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(number)
            link = f"{base}_PORT_{number}_{protocol}"
            values[link] = f"{protocol.lower()}://{host}:{number}"
            values.update({f"{link}_PROTO": protocol.lower(), f"{link}_PORT": str(number), f"{link}_ADDR": host})
    return values
