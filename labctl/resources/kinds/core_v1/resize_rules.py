"""Rules for pods/resize (KEP-1287): what `kubectl patch pod --subresource resize` may change of a pod, and a container's resizePolicy.

Everything but the resources and resizePolicy of its containers and sidecars stays as it was, whatever was sent. Kubernetes' words: ValidatePodResize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from labctl.resources import fields, quantities
from labctl.resources.kind import FieldError, Object

RESIZABLE = ("cpu", "memory")
_CHANGING = ("resources", "resizePolicy")
_POLICIES = ("NotRequired", "RestartContainer")
_MIRROR = "kubernetes.io/config.mirror"
_OTHER = "only cpu and memory resources are mutable"


def merged(sent: Object, old: Object) -> Object:
    """Returns the old spec of a pod with the resources of the spec that was sent, container by container."""
    spec = dict(old)
    for part in ("containers", "initContainers"):
        named = {each.get("name"): each for each in sent.get(part) or () if isinstance(each, dict)}
        if part in old:
            spec[part] = [_resized(named.get(each["name"]), each) for each in old[part]]
    return spec


def _resized(sent: Object | None, old: Object) -> Object:
    if sent is None:
        return old
    kept = {name: value for name, value in old.items() if name not in _CHANGING}
    return kept | {name: sent[name] for name in _CHANGING if sent.get(name)}


def resized(new: Object, old: Object, qos_class: Callable[[Object], str]) -> Iterator[FieldError]:
    """Validates a write of the subresource: `new` and `old` are pods that differ in resources and policies alone."""
    if _MIRROR in old["metadata"].get("annotations", {}):
        yield fields.forbidden("", "static pods may not be resized")
        return
    if old.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        yield fields.forbidden("", "pods that have ended may not be resized")
        return
    spec, before = new["spec"], old["spec"]
    for part in ("containers", "initContainers"):
        for index, (now, was) in enumerate(zip(spec.get(part, ()), before.get(part, ()), strict=True)):
            yield from _container(
                f"spec.{part}[{index}]", now, was, fixed=part == "initContainers" and was.get("restartPolicy") != "Always"
            )
    if qos_class(spec) != qos_class(before):
        yield fields.invalid("spec", qos_class(spec), "Pod QOS Class may not change as a result of resizing")


def _container(path: str, new: Object, old: Object, *, fixed: bool) -> Iterator[FieldError]:
    now, was = new.get("resources") or {}, old.get("resources") or {}
    if fixed and now != was:
        yield fields.forbidden("spec", f"{_OTHER}, and those of init containers only if they are sidecars")
        return
    for part in ("limits", "requests"):
        given, before = now.get(part) or {}, was.get(part) or {}
        if any(name in RESIZABLE and name not in given for name in before):
            yield fields.forbidden(f"{path}.resources.{part}", f"resource {part} cannot be removed")
        if _others(given) != _others(before):
            yield fields.forbidden("spec", _OTHER)
    if now.get("claims") != was.get("claims"):
        yield fields.forbidden("spec", _OTHER)


def _others(resources: Object) -> Object:
    return {name: quantities.parse(value) for name, value in resources.items() if name not in RESIZABLE}


def policies(path: str, container: Object, pod_restart_policy: str, *, plain_init: bool) -> Iterator[FieldError]:
    """Validates a container's resizePolicy."""
    said: list[Any] = container.get("resizePolicy") or []
    if said and plain_init:
        yield fields.invalid(path, said, "must not be set for init containers")
        return
    seen: set[str] = set()
    for each in said:
        name, policy = each.get("resourceName", ""), each.get("restartPolicy", "")
        if name in seen:
            yield fields.duplicate(path, name)
        seen.add(name)
        if name not in RESIZABLE:
            yield fields.not_supported(path, name, RESIZABLE)
        if policy not in _POLICIES:
            yield fields.not_supported(path, policy, _POLICIES)
        elif policy == "RestartContainer" and pod_restart_policy == "Never":
            yield fields.invalid(path, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'")


def default_policies(container: Object) -> None:
    """Fills in that a change of what the container asks for needs no restart, for each resource of which nothing is said."""
    resources = container.get("resources") or {}
    asked = {name for part in ("limits", "requests") for name in resources.get(part) or ()}
    said = container.get("resizePolicy") or []
    told = {each.get("resourceName") for each in said if isinstance(each, dict)}
    added = [{"resourceName": name, "restartPolicy": "NotRequired"} for name in RESIZABLE if name in asked - told]
    if added:
        container["resizePolicy"] = [*said, *added]
