"""Says where requests to a Service go, for whoever sends them: the API's proxy, aggregated API servers, webhooks.

A Service's request goes to one of its ready endpoints, from the machine that the endpoint's pod runs on; an address without a machine of its own is
reached from any machine that is connected. Each caller has its own words for what is missing, so that nothing here raises an ApiError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from labctl.resources.client import Client
from labctl.resources.plurals import NODES

if TYPE_CHECKING:
    from labctl.remote.interface import Remote


class Backend(msgspec.Struct, frozen=True):
    """The destination of a request: `machine` connects to `scheme://host:port`. No machine is this one.

    `target` is the key of the object that an endpoint says it is, which whoever wrote the endpoint chose.
    """

    machine: str
    host: str
    port: int
    scheme: str = "http"
    target: str = ""


def port_of(service: Any, number: int) -> Any:
    """Return the port of a Service (a view) that has this number, or None."""
    return next((port for port in service.spec.ports if port.port == number), None)


def ready(endpoints: Any, port_name: str) -> list[Backend]:
    """Return the ready addresses of an Endpoints object (a view, or None) that have a port of this name."""
    return [
        Backend(address.node_name or "", address.ip, port.port, target=address.target_ref.key if address.target_ref else "")
        for subset in (endpoints.subsets if endpoints else ())
        for port in subset.ports
        if port.name == port_name
        for address in subset.addresses
    ]


def any_machine(client: Client, remote: Remote | None) -> str:
    """Return a node that is connected, or "" if none is."""
    if remote is None:
        return ""
    return next((node.metadata.name for node in client.list(NODES) if remote.connected(node.metadata.name)), "")
