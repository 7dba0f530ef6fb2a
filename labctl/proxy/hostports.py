"""Host ports: which ports of its node a pod wants to be reached at, as its containers' `hostPort` and `hostIP` say.

The Proxy calls this for a pod that changed. Only the pod's own node forwards: packets to that port of the node's addresses go to the pod, whoever sends
them. A pod of the host's network needs none of this, because it listens on the node itself.
"""

from __future__ import annotations

import msgspec

from labctl.defaults import MACHINE_PORTS
from labctl.resources.addresses import is_ipv4
from labctl.resources.kinds.core_v1.pod_view import Pod

PROTOCOLS = ("TCP", "UDP")
EVERY_ADDRESS = ("", "0.0.0.0")


class HostPort(msgspec.Struct, frozen=True, order=True, gc=False):
    """One port of a node that leads to a port of a pod there."""

    pod: str  # namespace/name
    node: str
    protocol: str
    address: str  # the one address of the node that is meant; empty for all
    port: int
    pod_address: str
    pod_port: int


def host_ports(pod: Pod | None) -> tuple[HostPort, ...]:
    """Return a pod's host ports, sorted; () while it has no address, and when it has finished. The machine's own ports are none."""
    if pod is None or pod.finished or not is_ipv4(pod.status.pod_ip) or not pod.spec.node_name or pod.spec.host_network:
        return ()
    containers = (*pod.spec.containers, *(c for c in pod.spec.init_containers if c.restart_policy == "Always"))
    wanted = (
        port
        for container in containers
        for port in container.ports
        if port.host_port
        and port.protocol in PROTOCOLS
        and (port.protocol, port.host_port) not in MACHINE_PORTS
        and (port.host_ip in EVERY_ADDRESS or is_ipv4(port.host_ip))
    )
    return tuple(
        sorted(
            HostPort(
                pod.metadata.key,
                pod.spec.node_name,
                port.protocol,
                "" if port.host_ip in EVERY_ADDRESS else port.host_ip,
                port.host_port,
                pod.status.pod_ip,
                port.container_port,
            )
            for port in wanted
        )
    )
