"""What a pod asks of a node, in plain numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import msgspec

from labctl.resources.kinds.core_v1.pod_view import Container, Pod
from labctl.resources.kinds.shared import Quantity
from labctl.resources.quantities import to_bytes, to_int, to_millicores
from labctl.scheduler.terms import Terms, terms_of

HostPort = tuple[str, str, int]  # address, protocol, port
ANY_ADDRESS = "0.0.0.0"

# What a container that asks for nothing counts as when nodes are compared (not when it is seen whether it fits): Kubernetes' own numbers.
ASSUMED_MILLICORES = 100
ASSUMED_BYTES = 200 << 20
_COUNTED = {"cpu", "memory"}
RESTART_ALL = "RestartAllContainersOnContainerExits"


class Demand(msgspec.Struct, frozen=True, gc=False):
    """`group` names its replicas: pods of the same controller, or with the same labels where there is none (the pods of a Service).

    None for a pod that is leaving: it needs its share until it is gone, but its successor may well come to where it was (kubernetes#87621).
    """

    millicores: int
    bytes: int
    weight_millicores: int  # as above, with a share for containers that ask for nothing
    weight_bytes: int
    host_ports: tuple[HostPort, ...]
    group: Hashable
    priority: int
    others: tuple[tuple[str, int], ...] = ()  # resources beside CPU and memory: `example.com/gpu`, ephemeral-storage
    terms: Terms | None = None
    features: tuple[str, ...] = ()  # that a node must declare (KEP-5328)
    devices: bool = False  # it has claims for devices (KEP-4381)


def demand_of(pod: Pod) -> Demand:
    """Containers run together, so they add up; an init container runs alone before them, a sidecar beside everything after it."""
    millicores = bytes_ = weight_millicores = weight_bytes = 0
    for container in pod.spec.containers:
        cpu, memory = _asked(container)
        millicores += cpu
        bytes_ += memory
        weight_millicores += cpu or ASSUMED_MILLICORES
        weight_bytes += memory or ASSUMED_BYTES
    if pod.spec.init_containers:
        millicores, bytes_ = _with_init(pod, millicores, bytes_)
        weight_millicores, weight_bytes = max(weight_millicores, millicores), max(weight_bytes, bytes_)
    own = pod.spec.resources.requests  # of the whole pod (KEP-2837): in the place of its containers' sum
    if "cpu" in own:
        millicores = weight_millicores = to_millicores(own["cpu"])
    if "memory" in own:
        bytes_ = weight_bytes = to_bytes(own["memory"])
    if pod.spec.overhead:
        cpu, memory = _one(pod.spec.overhead, {}, "cpu"), _one(pod.spec.overhead, {}, "memory")
        millicores, bytes_, weight_millicores, weight_bytes = (
            millicores + cpu,
            bytes_ + memory,
            weight_millicores + cpu,
            weight_bytes + memory,
        )
    ports, priority = _host_ports(pod), pod.spec.priority or 0
    said = _others(pod), terms_of(pod), _features(pod), bool(pod.spec.resource_claims)
    return Demand(millicores, bytes_, weight_millicores, weight_bytes, ports, _group(pod), priority, *said)


def _features(pod: Pod) -> tuple[str, ...]:
    """Return what the pod's node must declare: of what nodes of this release may declare, only one thing is said in a pod."""
    rules = (rule for each in (*pod.spec.containers, *pod.spec.init_containers) for rule in each.restart_policy_rules)
    return (RESTART_ALL,) if any(rule.action == "RestartAllContainers" for rule in rules) else ()


def _with_init(pod: Pod, millicores: int, bytes_: int) -> tuple[int, int]:
    sidecars_cpu = sidecars_memory = peak_cpu = peak_memory = 0
    for container in pod.spec.init_containers:
        cpu, memory = _asked(container)
        if container.restart_policy == "Always":
            sidecars_cpu += cpu
            sidecars_memory += memory
            cpu = memory = 0
        peak_cpu, peak_memory = max(peak_cpu, sidecars_cpu + cpu), max(peak_memory, sidecars_memory + memory)
    return max(peak_cpu, millicores + sidecars_cpu), max(peak_memory, bytes_ + sidecars_memory)


def _asked(container: Container) -> tuple[int, int]:
    resources = container.resources
    if not resources.requests and not resources.limits:
        return 0, 0
    return _one(resources.requests, resources.limits, "cpu"), _one(resources.requests, resources.limits, "memory")


def _one(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity], name: str) -> int:
    value = requests.get(name, limits.get(name, 0))
    return to_millicores(value) if name == "cpu" else to_bytes(value)


def _others(pod: Pod) -> tuple[tuple[str, int], ...]:
    """Return what the containers request of every other resource, by the same rule as CPU and memory."""
    names: set[str] = set()
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        resources = container.resources
        if resources.requests or resources.limits:
            names |= {*resources.requests, *resources.limits} - _COUNTED
    names |= {*pod.spec.resources.requests} - _COUNTED
    if not names:
        return ()
    return tuple((name, amount) for name in sorted(names) if (amount := _peak(pod, name)))


def _peak(pod: Pod, name: str) -> int:
    overhead = to_int(pod.spec.overhead.get(name, 0)) if pod.spec.overhead else 0
    if name in pod.spec.resources.requests:
        return to_int(pod.spec.resources.requests[name]) + overhead
    sidecars = peak = 0
    for container in pod.spec.init_containers:
        amount = _amount(container, name)
        if container.restart_policy == "Always":
            sidecars, amount = sidecars + amount, 0
        peak = max(peak, sidecars + amount)
    return max(peak, sidecars + sum(_amount(container, name) for container in pod.spec.containers)) + overhead


def _amount(container: Container, name: str) -> int:
    return to_int(container.resources.requests.get(name, container.resources.limits.get(name, 0)))


def _host_ports(pod: Pod) -> tuple[HostPort, ...]:
    return tuple(
        (port.host_ip or ANY_ADDRESS, port.protocol, port.host_port or port.container_port)
        for container in pod.spec.containers
        for port in container.ports
        if port.host_port or pod.spec.host_network
    )


def _group(pod: Pod) -> Hashable:
    if not pod.active:
        return None
    owner = pod.metadata.controller
    return owner.uid if owner else (pod.metadata.namespace, *sorted(pod.metadata.labels.items()))
