"""What may stand in a pod's spec, and what of it may change: for Pods, and for the templates that make them.

Works on dicts after defaults, answers field errors in Kubernetes' words and order. An unchanged spec is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import container_rules, name_rules, placement_rules, resize_rules, resource_rules
from labctl.resources.labels import key_errors, value_errors

_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_SYSCTL_MAX = 253  # characters
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?", re.ASCII)
_NOT_NEGATIVE = "must be greater than or equal to 0"
_UPDATABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


def spec(path: str, said: Object) -> Iterator[FieldError]:
    volumes = said.get("volumes", ())
    if volumes:
        yield from _volumes(f"{path}.volumes", volumes)
    yield from _containers(path, said, {volume.get("name", "") for volume in volumes})
    if said["restartPolicy"] not in _RESTART_POLICIES:
        yield fields.not_supported(f"{path}.restartPolicy", said["restartPolicy"], _RESTART_POLICIES)
    if said["dnsPolicy"] not in _DNS_POLICIES:
        yield fields.not_supported(f"{path}.dnsPolicy", said["dnsPolicy"], _DNS_POLICIES)
    for key, value in said.get("nodeSelector", {}).items():
        yield from names.checked(f"{path}.nodeSelector", key, key_errors)
        yield from names.checked(f"{path}.nodeSelector", value, value_errors)
    yield from name_rules.hostnames(path, said)
    for name in ("nodeName", "serviceAccountName"):
        if said.get(name):
            yield from names.checked(f"{path}.{name}", said[name], names.subdomain)
    if said.get("hostPID") and said.get("shareProcessNamespace"):
        yield fields.invalid(f"{path}.shareProcessNamespace", True, "ShareProcessNamespace and HostPID cannot both be enabled")
    if "securityContext" in said:
        yield from container_rules.user_ids(f"{path}.securityContext", said["securityContext"])
        yield from _sysctls(f"{path}.securityContext.sysctls", said["securityContext"].get("sysctls") or ())
    if said.get("terminationGracePeriodSeconds", 0) < 0:
        yield fields.invalid(f"{path}.terminationGracePeriodSeconds", said["terminationGracePeriodSeconds"], _NOT_NEGATIVE)
    deadline = said.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        yield fields.invalid(f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    for index, toleration in enumerate(said.get("tolerations", ())):
        yield from _toleration(f"{path}.tolerations[{index}]", toleration)
    yield from name_rules.host_aliases(f"{path}.hostAliases", said)
    yield from name_rules.dns_config(f"{path}.dnsConfig", said)
    yield from placement_rules.placement(path, said)
    yield from resource_rules.of_pod(path, said)


def _sysctls(path: str, sysctls: Sequence[Object]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, each in enumerate(sysctls):
        at, name = f"{path}[{index}].name", each.get("name", "")
        if not name:
            yield fields.required(at)
        elif len(name) > _SYSCTL_MAX or not _SYSCTL.fullmatch(name):
            yield fields.invalid(at, name, f"must have at most {_SYSCTL_MAX} characters and match regex ^{_SYSCTL.pattern}$")
        elif name.replace("/", ".") in seen:
            yield fields.duplicate(at, name)
        seen.add(name.replace("/", "."))


def _containers(path: str, said: Object, volumes: set[str]) -> Iterator[FieldError]:
    if not said.get("containers"):
        yield fields.required(f"{path}.containers")
    seen: set[str] = set()
    for part in ("containers", "initContainers"):
        for index, c in enumerate(said.get(part, ())):
            at = f"{path}.{part}[{index}]"
            yield from container_rules.container(at, c, volumes, init=part == "initContainers")
            yield from resize_rules.policies(f"{at}.resizePolicy", c, said["restartPolicy"])
            name = c.get("name", "")
            if name and name in seen:
                yield fields.duplicate(f"{at}.name", name)
            seen.add(name)
    yield from container_rules.host_ports(f"{path}.containers", said.get("containers", ()))
    if said.get("hostNetwork"):
        yield from _host_network(f"{path}.containers", said.get("containers", ()))


def _host_network(path: str, containers: Sequence[Object]) -> Iterator[FieldError]:
    for position, c in enumerate(containers):
        for index, port in enumerate(c.get("ports", ())):
            if port.get("hostPort") != port.get("containerPort"):
                why = "must match `hostPort` when `hostNetwork` is true"
                yield fields.invalid(f"{path}[{position}].ports[{index}].containerPort", port.get("containerPort", 0), why)


def _volumes(path: str, volumes: Sequence[Object]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        at, name = f"{path}[{index}]", volume.get("name", "")
        if not name:
            yield fields.required(f"{at}.name")
        else:
            yield from names.checked(f"{at}.name", name, names.label)
        if name in seen:
            yield fields.duplicate(f"{at}.name", name)
        seen.add(name)
        sources = [kind for kind in volume if kind != "name"]
        for extra in sources[1:]:
            yield fields.forbidden(f"{at}.{extra}", "may not specify more than 1 volume type")
        if sources:
            yield from _volume_source(f"{at}.{sources[0]}", sources[0], volume[sources[0]])


def _volume_source(path: str, kind: str, source: Object) -> Iterator[FieldError]:
    needed = {"hostPath": "path", "configMap": "name", "secret": "secretName", "persistentVolumeClaim": "claimName"}.get(kind)
    if needed and not source.get(needed):
        yield fields.required(f"{path}.{needed}")
    if kind == "hostPath" and ".." in source.get("path", "").split("/"):
        yield fields.invalid(f"{path}.path", source["path"], "must not contain '..'")
    if kind == "ephemeral" and not source.get("volumeClaimTemplate"):
        yield fields.required(f"{path}.volumeClaimTemplate")
    if kind in ("configMap", "secret"):
        yield from _items(f"{path}.items", source.get("items", ()))


def _items(path: str, items: Sequence[Object]) -> Iterator[FieldError]:
    for index, item in enumerate(items):
        if not item.get("key"):
            yield fields.required(f"{path}[{index}].key")
        where = item.get("path", "")
        if not where:
            yield fields.required(f"{path}[{index}].path")
        elif where.startswith("/"):
            yield fields.invalid(f"{path}[{index}].path", where, "must be a relative path")
        elif ".." in where.split("/"):
            yield fields.invalid(f"{path}[{index}].path", where, "must not contain '..'")


def _toleration(path: str, toleration: Object) -> Iterator[FieldError]:
    key, operator, effect = toleration.get("key", ""), toleration.get("operator", ""), toleration.get("effect", "")
    if key:
        yield from names.checked(f"{path}.key", key, key_errors)
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield fields.invalid(f"{path}.operator", operator, why)
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        yield fields.invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator not in ("", "Equal", "Exists"):
        yield fields.not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    elif operator == "Exists" and toleration.get("value"):
        yield fields.invalid(f"{path}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'")
    if effect and effect not in _EFFECTS:
        yield fields.not_supported(f"{path}.effect", effect, _EFFECTS)


def changed(new: Object, old: Object) -> Iterator[FieldError]:
    """Check that only the few mutable fields of a pod's spec change."""
    for part, words in (("containers", "containers"), ("initContainers", "init containers")):
        if len(new.get(part, ())) != len(old.get(part, ())):
            yield fields.forbidden(f"spec.{part}", f"pod updates may not add or remove {words}")
            return
    deadline, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if before is not None and deadline is None:
        yield fields.invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    elif before is not None and deadline > before:
        yield fields.invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")
    if not _encoded(old.get("tolerations", ())) <= _encoded(new.get("tolerations", ())):
        yield fields.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    yield from placement_rules.changed(new, old)
    if _fixed(new, old) != _fixed(old, old):
        yield fields.forbidden("spec", f"pod updates may not change fields other than {','.join(_UPDATABLE)}")


def _encoded(items: Iterable[Object]) -> set[bytes]:
    """Objects as a set, so that each is looked up and not searched for: a list may have tens of thousands."""
    return {msgspec.json.encode(item, order="deterministic") for item in items}


def _fixed(said: Object, old: Object) -> Object:
    """Return the spec without what may change."""
    changing = ("activeDeadlineSeconds", "tolerations", "schedulingGates")
    kept = {name: value for name, value in said.items() if name not in changing}
    if old.get("schedulingGates"):
        kept = placement_rules.without_nodes(kept)
    for part in ("containers", "initContainers"):
        if part in kept:
            kept[part] = [{name: value for name, value in c.items() if name != "image"} for c in kept[part]]
    if kept.get("terminationGracePeriodSeconds", 0) < 0:
        kept["terminationGracePeriodSeconds"] = 1
    return kept


def warnings(path: str, said: Object) -> Iterator[str]:
    """Yield Kubernetes' own warnings about what is legal but probably a mistake."""
    for index, c in enumerate(said.get("containers", ())):
        seen: set[str] = set()
        for position, env in enumerate(c.get("env", ())):
            name = env.get("name", "")
            if name in seen:
                at = f"{path}.containers[{index}].env[{position}]"
                yield f'{at}: hides previous definition of "{name}", which may be dropped when using apply'
            seen.add(name)
        ports: dict[tuple[int, str], int] = {}
        for position, port in enumerate(c.get("ports", ())):
            key = (port.get("containerPort", 0), port.get("protocol", ""))
            if key in ports:
                at = f"{path}.containers[{index}].ports"
                yield f"{at}[{position}]: duplicate port definition with {at}[{ports[key]}]"
            ports.setdefault(key, position)
