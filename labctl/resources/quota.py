"""This module computes what one object uses of a ResourceQuota. The functions are pure; the admission step and the controller both use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from labctl.resources import quantities
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.core_v1 import pod_totals
from labctl.resources.kinds.core_v1.resourcequota import ScopeRequirement

Usage = dict[str, Fraction]
_COUNTED = {  # the short names of Kubernetes' quotas; everything else is count/RESOURCE.GROUP
    "pods": "pods",
    "services": "services",
    "secrets": "secrets",
    "configmaps": "configmaps",
    "persistentvolumeclaims": "persistentvolumeclaims",
    "replicationcontrollers": "replicationcontrollers",
    "resourcequotas": "resourcequotas",
}
_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def usage(kind: Kind, obj: Object) -> Usage:
    """Returns how much of each resource the object uses."""
    used: Usage = {f"count/{kind.resource}": Fraction(1)}
    if kind.resource == "pods":
        return used | _of_pod(obj)
    if kind.resource in _COUNTED:
        used[_COUNTED[kind.resource]] = Fraction(1)
    if kind.resource == "services":
        used |= _of_service(obj.get("spec") or {})
    if kind.resource == "persistentvolumeclaims":
        used |= _of_claim(obj.get("spec") or {})
    return used


def _of_pod(pod: Object) -> Usage:
    """Returns what a pod uses. A pod that has ended counts only as one object."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    used: Usage = {"pods": Fraction(1)}
    spec = pod.get("spec") or {}
    for part in ("requests", "limits"):
        for name, amount in pod_totals.with_overhead(spec, part).items():
            used[f"{part}.{name}"] = amount
            if part == "requests" and name in _COMPUTE:
                used[name] = amount
    return used


def _of_service(spec: Object) -> Usage:
    ports = len(spec.get("ports") or ())
    node_ports = ports if spec.get("type") in ("NodePort", "LoadBalancer") else 0
    return {"services.nodeports": Fraction(node_ports), "services.loadbalancers": Fraction(spec.get("type") == "LoadBalancer")}


def _of_claim(spec: Object) -> Usage:
    size = quantities.parse((spec.get("resources") or {}).get("requests", {}).get("storage", 0))
    used: Usage = {"requests.storage": size}
    if spec.get("storageClassName"):
        stem = f"{spec['storageClassName']}.storageclass.storage.k8s.io"
        used |= {f"{stem}/requests.storage": size, f"{stem}/persistentvolumeclaims": Fraction(1)}
    return used


def in_scope(kind: Kind, obj: Object, requirements: Iterable[ScopeRequirement]) -> bool:
    """True if an object counts in a quota with these scopes. Scopes apply only to pods, but for VolumeAttributesClass, which applies to claims."""
    wanted = list(requirements)
    if not wanted:
        return True
    if kind.resource == "persistentvolumeclaims":
        name = (obj.get("spec") or {}).get("volumeAttributesClassName") or ""
        return all(one.scope_name == "VolumeAttributesClass" and _name_is(name, one) for one in wanted)
    return kind.resource == "pods" and all(_has(obj.get("spec") or {}, one) for one in wanted)


def _has(spec: Object, wanted: ScopeRequirement) -> bool:
    match wanted.scope_name:
        case "Terminating" | "NotTerminating" as scope:
            return (spec.get("activeDeadlineSeconds") is not None) == (scope == "Terminating")
        case "BestEffort" | "NotBestEffort" as scope:
            return (pod_totals.qos_class(spec) == "BestEffort") == (scope == "BestEffort")
        case "PriorityClass":
            return _name_is(spec.get("priorityClassName", ""), wanted)
        case "CrossNamespacePodAffinity":
            return any(_crosses(term) for term in _affinity_terms(spec))
    return False


def _name_is(name: str, wanted: ScopeRequirement) -> bool:
    match wanted.operator:
        case "In":
            return name in wanted.values
        case "NotIn":
            return name not in wanted.values
        case "DoesNotExist":
            return not name
    return bool(name)


def _affinity_terms(spec: Object) -> Iterator[Object]:
    affinity = spec.get("affinity") or {}
    for name in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(name) or {}
        yield from terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for preferred in terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield preferred.get("podAffinityTerm") or {}


def _crosses(term: Object) -> bool:
    """True if a term of pod affinity may look into other namespaces."""
    return bool(term.get("namespaces")) or term.get("namespaceSelector") is not None


def missing(spec: Object, constrained: Iterable[str]) -> str:
    """Say which of the quota's compute resources which containers don't ask for, so that the pod can't be counted; with resources of its own it can."""
    found: dict[str, set[str]] = {}
    if any(pod_totals.own(spec, part) for part in ("requests", "limits")):
        return ""
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        for name in constrained:
            part, _, resource = name.rpartition(".") if name.startswith(("requests.", "limits.")) else ("requests", "", name)
            if resource in _COMPUTE and resource not in pod_totals.amounts_of(container, part):
                found.setdefault(name, set()).add(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(found[name]))}" for name in sorted(found))
