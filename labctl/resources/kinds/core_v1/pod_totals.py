"""What a whole pod asks for and may use: its containers' resources added up, and what the pod's own `spec.resources` say instead (KEP-2837).

Defaults, validation, quotas and limit ranges all add up here. Pure; amounts are exact numbers, names those of the resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from labctl.resources import quantities
from labctl.resources.kind import Object

Usage = dict[str, Fraction]
HUGE_PAGES = "hugepages-"
POD_LEVEL = ("cpu", "memory")


def at_pod_level(name: str) -> bool:
    """True for a resource that `spec.resources` may name."""
    return name in POD_LEVEL or name.startswith(HUGE_PAGES)


def own(spec: Object, part: str) -> Mapping[str, Any]:
    """Returns what the pod itself has as `part` (requests or limits), beside its containers."""
    said = (spec.get("resources") or {}).get(part) or {}
    return {name: amount for name, amount in said.items() if at_pod_level(name)}


def has_own(spec: Object) -> bool:
    return bool(spec.get("resources")) and bool(own(spec, "requests") or own(spec, "limits"))


def total(spec: Object, part: str) -> Usage:
    """Returns what the pod has as `part` (requests or limits): what it says itself, and its containers' sum for all else."""
    summed = of_containers(spec, part)
    if spec.get("resources"):
        summed |= {name: quantities.parse(amount) for name, amount in own(spec, part).items()}
    return summed


def with_overhead(spec: Object, part: str) -> Usage:
    """Returns the total and what running the pod costs beside it, which its RuntimeClass says. A limit grows by it only where there is one."""
    summed = total(spec, part)
    for name, amount in (spec.get("overhead") or {}).items():
        if part == "requests" or name in summed:
            summed[name] = summed.get(name, Fraction(0)) + quantities.parse(amount)
    return summed


def of_containers(spec: Object, part: str) -> Usage:
    """Adds up what the containers of a pod's spec have as `part` (requests or limits), since they run together.

    An init container runs before them, beside the sidecars that stand before it, so it counts only if these need more together.
    """
    summed = _sum((spec.get("containers") or ()), part)
    beside: Usage = {}
    most: Usage = {}
    for container in spec.get("initContainers") or ():
        amounts = amounts_of(container, part)
        now = {name: beside.get(name, Fraction(0)) + amounts.get(name, Fraction(0)) for name in (*beside, *amounts)}
        if container.get("restartPolicy") == "Always":
            beside = now
            summed = {name: summed.get(name, Fraction(0)) + amounts.get(name, Fraction(0)) for name in (*summed, *amounts)}
        most = {name: max(most.get(name, Fraction(0)), amount) for name, amount in (*most.items(), *now.items())}
    return {name: max(summed.get(name, Fraction(0)), most.get(name, Fraction(0))) for name in (*summed, *most)}


def amounts_of(container: Object, part: str) -> Usage:
    return {name: quantities.parse(amount) for name, amount in ((container.get("resources") or {}).get(part) or {}).items()}


def _sum(containers: Iterable[Object], part: str) -> Usage:
    summed: Usage = {}
    for container in containers:
        for name, amount in amounts_of(container, part).items():
            summed[name] = summed.get(name, Fraction(0)) + amount
    return summed


def qos_class(spec: Object) -> str:
    """Returns the quality of service class, from the requests and limits of the containers, or of the pod if it has its own."""
    promised, bounded = False, True
    holders = (spec,) if has_own(spec) else (*spec.get("containers", ()), *spec.get("initContainers", ()))
    for holder in holders:
        resources = holder.get("resources")
        if not resources:
            bounded = False
            continue
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = quantities.parse(limits.get(name, 0)), quantities.parse(requests.get(name, 0))
            promised = promised or bool(limit or request)
            bounded = bounded and bool(limit) and limit == request
    return "BestEffort" if not promised else "Guaranteed" if bounded else "Burstable"


def fill(spec: Object) -> None:
    """Fills in what the pod itself requests, if it has resources of its own: its containers' sum, else its limit. For huge pages the limits, too."""
    resources = spec.get("resources")
    if not resources:
        return
    limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
    for name, amount in of_containers(spec, "limits").items():
        if name.startswith(HUGE_PAGES) and name not in limits:
            limits[name] = quantities.text(amount, "1Mi")
    for name, amount in of_containers(spec, "requests").items():
        if at_pod_level(name) and name not in requests:
            requests[name] = quantities.text(amount, _like(spec, name))
    for name, amount in limits.items():
        if at_pod_level(name):
            requests.setdefault(name, amount)
    resources |= {part: amounts for part, amounts in (("limits", limits), ("requests", requests)) if amounts}


def _like(spec: Object, name: str) -> Any:
    """Returns a quantity of that resource as its author wrote it: a sum is printed in the same format."""
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        said = ((container.get("resources") or {}).get("requests") or {}).get(name)
        if said is not None:
            return said
    return "0"
