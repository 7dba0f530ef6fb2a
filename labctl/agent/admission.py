"""Whether this node takes a pod that the API gave to it. The scheduler saw to it that there is room; who names a node himself did not.

Who calls it: `pods.py`, when it sees a pod for the first time. Pure. A pod that is refused has failed, in the kubelet's words, and its owner makes another one.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from . import quantities
from .containers import forbidden_sysctl
from .resizing import amount

Object = Dict[str, Any]
ANY_ADDRESS = "0.0.0.0"
MACHINE_PORTS = (("TCP", 22), ("TCP", 179), ("TCP", 10053), ("UDP", 10053), ("UDP", 10054), ("UDP", 8472))
"""Ports at which a machine itself is spoken to, as `labctl.defaults` has them: what comes to them is never sent to a pod."""
COUNTED = ("cpu", "memory")
"""What is compared, in thousandths of a processor and in bytes."""


def refusal(pod: Object, others: Iterable[Object], allocatable: Mapping[str, str]) -> Optional[Tuple[str, str]]:
    """Return why the pod can't run beside the `others` of this node, as a reason and a message, or None if it can. What a node does not say it has is not limited."""
    if (pod["spec"].get("os") or {}).get("name", "linux") != "linux":
        return "PodOSNotSupported", "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"
    if outside := forbidden_sysctl(pod):
        return "SysctlForbidden", f'Pod was rejected: forbidden sysctl: "{outside}" not allowlisted'
    admitted = list(others)
    most = quantities.whole(allocatable["pods"]) if allocatable.get("pods") else None
    if most is not None and len(admitted) + 1 > most:
        return _lack("pods", 1, len(admitted), most)
    for name in COUNTED:
        asked = demand(pod, name)
        if asked and allocatable.get(name):
            used, capacity = sum(demand(each, name) for each in admitted), amount(name, allocatable[name])
            if asked + used > capacity:
                return _lack(name, asked, used, capacity)
    taken = [port for each in admitted for port in host_ports(each)]
    own = MACHINE_PORTS if not pod["spec"].get("hostNetwork") else ()
    if any(port[1:] in own or any(_collide(port, other) for other in taken) for port in host_ports(pod)):
        why = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        return "NodePorts", f"Pod was rejected: {why}"
    return None


def _lack(name: str, asked: int, used: int, capacity: int) -> Tuple[str, str]:
    why = f"Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", f"Pod was rejected: {why}"


def demand(pod: Object, name: str) -> int:
    """Return what a pod asks of its node. Containers run together; an init container runs alone before them, a sidecar beside all that come after it."""
    spec = pod["spec"]
    sidecars = peak = 0
    for container in spec.get("initContainers") or ():
        asked = _asked(container, name)
        if container.get("restartPolicy") == "Always":
            sidecars, asked = sidecars + asked, 0
        peak = max(peak, sidecars + asked)
    total = max(peak, sidecars + sum(_asked(each, name) for each in spec["containers"]))
    own = (spec.get("resources") or {}).get("requests") or {}
    if name in own:  # the whole pod's own request (KEP-2837) stands in the place of its containers' sum
        total = amount(name, own[name])
    return total + amount(name, (spec.get("overhead") or {}).get(name))


def _asked(container: Object, name: str) -> int:
    resources = container.get("resources") or {}
    return amount(name, (resources.get("requests") or {}).get(name, (resources.get("limits") or {}).get(name)))


def host_ports(pod: Object) -> List[Tuple[str, str, int]]:
    """Return the pod's ports of this machine, each as address, protocol and number."""
    spec = pod["spec"]
    inits = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return [
        (port.get("hostIP") or ANY_ADDRESS, port.get("protocol") or "TCP", int(port["hostPort"]))
        for container in (*inits, *spec["containers"])
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _collide(one: Tuple[str, str, int], other: Tuple[str, str, int]) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or ANY_ADDRESS in (one[0], other[0]))
