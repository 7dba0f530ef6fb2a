"""This module computes what one object uses of a ResourceQuota. The functions are pure; the admission step and the controller both use them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from labctl.resources import quantities
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.core_v1.pod import qos_class
from labctl.resources.kinds.core_v1.resourcequota import ScopeRequirement
from labctl.resources.quantities import QuantityValue

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
        for name, amount in pod_total(spec, part).items():
            used[f"{part}.{name}"] = amount
            if part == "requests" and name in _COMPUTE:
                used[name] = amount
    return used


def pod_total(spec: Object, part: str) -> Usage:
    """Adds up what the containers of a pod's spec have as `part` (requests or limits), since they run together.

    An init container runs before them, beside the sidecars that stand before it, so it counts only if these need more together.
    """
    total = _sum((spec.get("containers") or ()), part)
    beside: Usage = {}
    most: Usage = {}
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, part)
        now = {name: beside.get(name, Fraction(0)) + amounts.get(name, Fraction(0)) for name in (*beside, *amounts)}
        if container.get("restartPolicy") == "Always":
            beside = now
            total = {name: total.get(name, Fraction(0)) + amounts.get(name, Fraction(0)) for name in (*total, *amounts)}
        most = {name: max(most.get(name, Fraction(0)), amount) for name, amount in (*most.items(), *now.items())}
    return {name: max(total.get(name, Fraction(0)), most.get(name, Fraction(0))) for name in (*total, *most)}


def _sum(containers: Iterable[Object], part: str) -> Usage:
    total: Usage = {}
    for container in containers:
        for name, amount in _amounts(container, part).items():
            total[name] = total.get(name, Fraction(0)) + amount
    return total


def _amounts(container: Object, part: str) -> Usage:
    amounts: Mapping[str, Any] = (container.get("resources") or {}).get(part) or {}
    return {name: quantities.parse(value) for name, value in amounts.items()}


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
            return (qos_class(spec) == "BestEffort") == (scope == "BestEffort")
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


def missing(spec: Object, constrained: Iterable[str]) -> list[str]:
    """Return the quota's compute resources that some container of the pod does not request, so that the pod can't be counted."""
    found = set()
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        requests, limits = _amounts(container, "requests"), _amounts(container, "limits")
        for name in constrained:
            part, _, resource = name.rpartition(".") if name.startswith(("requests.", "limits.")) else ("requests", "", name)
            if resource in _COMPUTE and resource not in (limits if part == "limits" else requests):
                found.add(name)
    return sorted(found)


def text(amount: Fraction, like: QuantityValue = "0") -> str:
    """Formats an amount as a quantity, in the format (binary or decimal) of `like`. Fractions are rounded up to thousandths."""
    if amount.denominator == 1:
        if quantities.is_binary(like):
            return quantities.format_bytes(amount.numerator)
        return quantities.canonical(str(amount.numerator))
    return quantities.canonical(f"{-(-amount.numerator * 1000 // amount.denominator)}m")
