"""Rules for pods/resize (KEP-1287): what `kubectl patch pod --subresource resize` may change of a pod, and a container's resizePolicy.

Everything but the pod's resources (KEP-5419) and the resources and resizePolicy of its containers stays as it was, whatever was sent. Kubernetes' words:
ValidatePodResize.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labctl.resources import fields, quantities
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds.core_v1 import pod_totals

RESIZABLE = ("cpu", "memory")
_CHANGING = ("resources", "resizePolicy")
_PARTS = ("containers", "initContainers")
_AMOUNTS = ("requests", "limits")
_POLICIES = ("NotRequired", "RestartContainer")
_MIRROR = "kubernetes.io/config.mirror"
_OTHER = "only cpu and memory resources are mutable"


def merged(sent: Object, old: Object) -> Object:
    """Returns the old spec of a pod with the resources of the spec that was sent: the pod's own, and container by container in the order that was sent.

    A container that is not of the pod stays as it was sent, for the rules to refuse it.
    """
    spec = dict(old)
    for part in _PARTS:
        known = {each["name"]: each for each in old.get(part) or ()}
        if part in old or sent.get(part):
            spec[part] = [_resized(each, known.get(each.get("name", ""))) for each in sent.get(part) or () if isinstance(each, dict)]
    spec.pop("resources", None)
    return spec | ({"resources": sent["resources"]} if sent.get("resources") else {})


def _resized(sent: Object, old: Object | None) -> Object:
    if old is None:
        return sent
    kept = {name: value for name, value in old.items() if name not in _CHANGING}
    return kept | {name: sent[name] for name in _CHANGING if sent.get(name)}


def resized(new: Object, old: Object) -> Iterator[FieldError]:
    """Validates a write of the subresource: `new` and `old` are pods that differ in resources and policies alone, but for containers that are not of `old`."""
    if _MIRROR in old["metadata"].get("annotations", {}):
        yield fields.forbidden("", "static pods cannot be resized")
        return
    if old.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        yield fields.forbidden("", "pods that have ended may not be resized")
        return
    spec, before = new["spec"], old["spec"]
    if pod_totals.qos_class(spec) != pod_totals.qos_class(before):
        yield fields.invalid("spec", pod_totals.qos_class(spec), "Pod QOS Class may not change as a result of resizing")
    yield from _own(spec.get("resources"), before.get("resources"))
    moved = [error for part in _PARTS for error in _order(f"spec.{part}", spec.get(part) or (), before.get(part) or ())]
    yield from moved
    if moved:
        return
    for part in reversed(_PARTS):
        for index, (now, was) in enumerate(zip(spec.get(part, ()), before.get(part, ()), strict=True)):
            yield from _container(f"spec.{part}[{index}]", now, was, init=part == "initContainers")


def _order(path: str, now: Sequence[Object], was: Sequence[Object]) -> Iterator[FieldError]:
    if len(now) != len(was):
        yield fields.forbidden(path, f"{path.removeprefix('spec.')} may not be added or removed on resize")
        return
    for index, (one, other) in enumerate(zip(now, was, strict=True)):
        if one.get("name") != other["name"]:
            yield fields.forbidden(f"{path}[{index}].name", f"{path.removeprefix('spec.')} may not be renamed or reordered on resize")


def _own(now: Object | None, was: Object | None) -> Iterator[FieldError]:
    """Validates a change of the pod's own resources (KEP-5419)."""
    if was and not now:
        yield fields.forbidden("spec.resources", "pod-level resources cannot be removed")
        return
    for part in _AMOUNTS:
        given, before = (now or {}).get(part) or {}, (was or {}).get(part) or {}
        if any(name not in given for name in before):
            yield fields.forbidden(f"spec.resources.{part}", f"pod-level resource {part} cannot be removed")
        elif _others(given) != _others(before):
            yield fields.forbidden("spec", f"{_OTHER} at pod-level")


def _container(path: str, new: Object, old: Object, *, init: bool) -> Iterator[FieldError]:
    now, was = new.get("resources") or {}, old.get("resources") or {}
    for part in _AMOUNTS:
        if any(name not in (now.get(part) or {}) for name in was.get(part) or {}):
            yield fields.forbidden(f"{path}.resources.{part}", f"resource {part} cannot be removed")
    if any(_others(now.get(part) or {}) != _others(was.get(part) or {}) for part in _AMOUNTS) or now.get("claims") != was.get("claims"):
        if init:
            yield fields.forbidden(path, "only cpu and memory resources for init or sidecar containers are mutable")
        else:
            yield fields.forbidden("spec", _OTHER)
    plain_init = init and old.get("restartPolicy") != "Always"
    if plain_init and new != old and any(each.get("restartPolicy") == "RestartContainer" for each in new.get("resizePolicy") or ()):
        yield fields.forbidden(path, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized")


def _others(resources: Object) -> Object:
    return {name: quantities.parse(value) for name, value in resources.items() if name not in RESIZABLE}


def policies(path: str, container: Object, pod_restart_policy: str) -> Iterator[FieldError]:
    """Validates a container's resizePolicy."""
    said: list[Any] = container.get("resizePolicy") or []
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
