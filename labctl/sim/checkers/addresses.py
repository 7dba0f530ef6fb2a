"""Safety: an address has one owner. Two pods that run never share one, and no two Services have the same virtual address or node port."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from labctl.resources.client import Client
from labctl.sim.containers import Running
from labctl.sim.fleet import Fleet
from labctl.sim.hollow import HollowNode

NO_ADDRESS = ("", "None")


class Addresses:
    """Looks at each pod that begins to run. It remembers who had an address last, so a look costs the same in a lab of any size."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[HollowNode, Running]] = {}

    def begins(self, node: HollowNode, pod: Running) -> Iterator[str]:
        there, other = self._owners.get(pod.ip, (node, pod))
        self._owners[pod.ip] = (node, pod)
        if other.uid != pod.uid and other.uid in there.running:
            yield f"pods {pod.key} and {other.key} both have the address {pod.ip}"


def shared(client: Client, fleet: Fleet) -> Iterator[str]:
    """Yield each address and node port that two have."""
    owners: dict[str, list[str]] = defaultdict(list)
    for node in fleet.nodes.values():
        for pod in node.running.values():
            owners[f"address {pod.ip}"].append(f"pod {pod.key}")
    for service in client.list("services"):
        for address in {service.spec.cluster_ip, *service.spec.cluster_ips}.difference(NO_ADDRESS):
            owners[f"address {address}"].append(f"service {service.metadata.key}")
        for port in service.spec.ports:
            if port.node_port:
                owners[f"node port {port.node_port}/{port.protocol}"].append(f"service {service.metadata.key}")
    for what, names in sorted(owners.items()):
        if len(set(names)) > 1:
            yield f"{what} belongs to {' and '.join(sorted(set(names)))}"
