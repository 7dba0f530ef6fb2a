"""What NetworkPolicies mean: which pods are fenced, and what each policy lets through. Nothing here knows iptables.

The Proxy calls this for one namespace at a time: its policies, its pods, and the pods that peers of its policies name in other namespaces. Frozen
Openings and Fences go out. The meaning is Kubernetes':

- A pod that no policy selects for a direction has no Fence there: everything passes.
- A fenced pod is reached by what one of its policies lets through, and by itself. Its own node always reaches it, and it reaches its own node,
  because those packets are not forwarded.
- Only new connections are judged. Answers pass, and so do connections that are older than the policy.
- Peers are pods by their own addresses (not those that share their node's), or blocks of addresses. A named port is looked up in the pod that is
  asked: the fenced one for ingress, each peer for egress, also one whose address is in a block.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, collapse_addresses, ip_network
from typing import Protocol

import msgspec

from labctl.resources.addresses import is_ipv4
from labctl.resources.kinds.core_v1.pod_view import ContainerPort, Pod
from labctl.resources.kinds.networking_v1.networkpolicy import (
    CARRIED,
    EGRESS,
    INGRESS,
    IPBlock,
    NetworkPolicy,
    Peer,
    PolicyPort,
)

EVERYBODY = ("0.0.0.0/0",)
Range = tuple[str, int, int]
"""A protocol, and the first and last port; 0 and 0: all ports."""


class Opening(msgspec.Struct, frozen=True, gc=False):
    """Connections that a policy lets through: between a peer and a fenced pod, to these ports."""

    peers: tuple[str, ...]  # ranges of addresses
    ports: tuple[Range, ...] = ()  # none: all ports of all protocols
    pod: str = ""  # the address of the one fenced pod that it is about; empty: all that the policy selects


class Side(msgspec.Struct, frozen=True, gc=False):
    """One direction of one policy, on the nodes where it has pods."""

    policy: str  # namespace/name
    direction: str  # Ingress or Egress
    nodes: frozenset[str]
    openings: tuple[Opening, ...]


class Fence(msgspec.Struct, frozen=True, gc=False):
    """One pod in one direction: what its policies don't let through is dropped."""

    pod: str  # namespace/name
    node: str
    address: str
    direction: str
    policies: tuple[str, ...]


class Cluster(Protocol):
    """What is asked about the objects of other namespaces."""

    def pods(self, namespace: str) -> Iterable[Pod]: ...

    def namespaces(self) -> Iterable[tuple[str, dict[str, str]]]:
        """Return each namespace's name and labels."""


def fences(policies: Sequence[NetworkPolicy], namespace: str, cluster: Cluster) -> tuple[Side | Fence, ...]:
    """Return the fences that the policies of one namespace make."""
    own = [pod for pod in cluster.pods(namespace) if _fenceable(pod)]
    sides: list[Side | Fence] = []
    fencing: dict[tuple[str, str], list[str]] = {}
    for policy in sorted(policies, key=lambda policy: policy.metadata.name):
        selector = policy.pods()
        selected = [pod for pod in own if selector.matches(pod.metadata.labels)]
        for direction in (INGRESS, EGRESS):
            if direction not in policy.spec.policy_types or not selected:
                continue
            nodes = frozenset(pod.spec.node_name for pod in selected)
            sides.append(Side(policy.metadata.key, direction, nodes, tuple(_openings(policy, direction, selected, cluster))))
            for pod in selected:
                fencing.setdefault((pod.metadata.name, direction), []).append(policy.metadata.key)
    by_name = {pod.metadata.name: pod for pod in own}
    for (name, direction), keys in sorted(fencing.items()):
        pod = by_name[name]
        sides.append(Fence(pod.metadata.key, pod.spec.node_name, pod.status.pod_ip, direction, tuple(keys)))
    return tuple(sides)


def _fenceable(pod: Pod) -> bool:
    """Tell whether policies can apply to a pod. One of the host's network has its node's address, so its packets look like the node's own."""
    return bool(is_ipv4(pod.status.pod_ip) and pod.spec.node_name) and not pod.finished and not pod.spec.host_network


def _openings(policy: NetworkPolicy, direction: str, selected: Sequence[Pod], cluster: Cluster) -> Iterator[Opening]:
    rules = policy.spec.ingress if direction == INGRESS else policy.spec.egress
    asked: dict[PolicyPort, set[str]] = {}  # named ports -> the blocks of addresses in which pods are asked for their numbers
    for rule in rules:
        carried = [port for port in rule.ports if port.protocol in CARRIED]
        named = [port for port in carried if isinstance(port.port, str)]
        numbered = tuple(_range(port) for port in carried if not isinstance(port.port, str))
        pods = list(_peer_pods(rule.peers, policy.metadata.namespace, cluster))
        blocks = {each for peer in rule.peers for each in _blocks(peer.ip_block)}
        addresses = tuple(sorted({f"{pod.status.pod_ip}/32" for pod in pods} | blocks))
        peers = addresses if rule.peers else EVERYBODY
        if not rule.ports or numbered:
            yield Opening(peers, numbered)
        if not named:
            continue
        if direction == INGRESS:
            found = ((pod, _named(pod, named)) for pod in selected)
            yield from (Opening(peers, ports, pod.status.pod_ip) for pod, ports in found if ports)
        else:
            for port in named:
                asked.setdefault(port, set()).update(blocks if rule.peers else EVERYBODY)
            found = ((pod, _named(pod, named)) for pod in pods)
            yield from (Opening((f"{pod.status.pod_ip}/32",), ports) for pod, ports in found if ports)
    yield from _asked(asked, cluster)


def _peer_pods(peers: Iterable[Peer], namespace: str, cluster: Cluster) -> Iterator[Pod]:
    for peer in peers:
        if peer.ip_block is not None:
            continue
        chosen, selector = peer.namespaces(), peer.pods()
        names = [namespace] if chosen is None else [name for name, labels in cluster.namespaces() if chosen.matches(labels)]
        for name in names:
            yield from (pod for pod in cluster.pods(name) if _fenceable(pod) and selector.matches(pod.metadata.labels))


def _asked(asked: Mapping[PolicyPort, Collection[str]], cluster: Cluster) -> Iterator[Opening]:
    """Yield openings to the pods in these blocks that have a port of that name. Each pod is looked at once for each of its own ports."""
    if not any(asked.values()):
        return
    blocks = {
        port: {(int(IPv4Address(at)), int(bits)) for at, _, bits in (each.partition("/") for each in of)} for port, of in asked.items()
    }
    lengths = {port: sorted({bits for _, bits in of}) for port, of in blocks.items()}
    by_name: dict[int | str | None, list[PolicyPort]] = {}
    for port in blocks:
        by_name.setdefault(port.port, []).append(port)
    for name, _ in cluster.namespaces():
        for pod in cluster.pods(name):
            if not _fenceable(pod):
                continue
            mine = [each for own in _ports(pod) for each in by_name.get(own.name, ())]
            address = int(IPv4Address(pod.status.pod_ip))
            named = [port for port in dict.fromkeys(mine) if any((_first(address, bits), bits) in blocks[port] for bits in lengths[port])]
            if ports := _named(pod, named):
                yield Opening((f"{pod.status.pod_ip}/32",), ports)


def _first(address: int, bits: int) -> int:
    """Return the first address of the block of that length in which an address is."""
    return address >> (32 - bits) << (32 - bits)


def _blocks(block: IPBlock | None) -> Iterator[str]:
    """Yield a block without its exceptions, as ranges. A lab has no IPv6, so a block of IPv6 is empty."""
    network = ip_network(block.cidr, strict=False) if block is not None else None
    if block is None or not isinstance(network, IPv4Network):
        return
    out = [each for text in block.except_ if isinstance(each := ip_network(text, strict=False), IPv4Network)]
    first, last = int(network.network_address), int(network.broadcast_address)
    for hole in collapse_addresses(out):  # in order; each is looked at once, as there may be thousands
        yield from _between(first, min(int(hole.network_address) - 1, last))
        first = max(first, int(hole.broadcast_address) + 1)
    yield from _between(first, last)


def _between(first: int, last: int) -> Iterator[str]:
    """Yield the ranges that hold the addresses from `first` to `last`."""
    while first <= last:
        bits = min((first & -first).bit_length() - 1 if first else 32, (last - first + 1).bit_length() - 1)
        yield f"{IPv4Address(first)}/{32 - bits}"
        first += 1 << bits


def _range(port: PolicyPort) -> Range:
    first = port.port if isinstance(port.port, int) else 0
    return port.protocol, first, port.end_port or first


def _ports(pod: Pod) -> Iterator[ContainerPort]:
    """Yield the ports of the containers that run as long as the pod."""
    containers = (*pod.spec.containers, *(each for each in pod.spec.init_containers if each.restart_policy == "Always"))
    return (port for container in containers for port in container.ports)


def _named(pod: Pod, ports: Iterable[PolicyPort]) -> tuple[Range, ...]:
    """Return those ports of a pod that have these names."""
    there = {(port.name, port.protocol): port.container_port for port in _ports(pod)}
    found = ((port.protocol, there.get((str(port.port), port.protocol), 0)) for port in ports)
    return tuple((protocol, number, number) for protocol, number in found if number)
