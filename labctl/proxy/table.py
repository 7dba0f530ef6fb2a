"""What the table holds for one key: which objects it is read from, and what they come to.

The Proxy calls this for each key that changed. A key is one of these:

    BASE                  what belongs to no object
    namespace/name        a Service
    pods/namespace/name   a pod, for its host ports
    policies/namespace    a namespace, for all its NetworkPolicies together: the rules of a fenced pod name the rules of its policies
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from labctl.proxy import userspace
from labctl.proxy.frontends import frontends_of, is_ours, sparing, takes_machine_port
from labctl.proxy.hostports import host_ports
from labctl.proxy.policies import fences
from labctl.proxy.rules import Entry
from labctl.reconcile.plan import Seen, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.plurals import ENDPOINTS, NAMESPACES, NETWORK_POLICIES, NODES, PODS, SERVICES, SLICES

SLICES_BY_SERVICE = "proxy-service"
_API = "default/kubernetes"
_POD, _POLICIES = "pods/", "policies/"

Found = tuple[tuple[Entry, ...], int]
"""A key's entries, and the highest revision of the objects they were read from; 0 if there are none."""


def pod_key(pod: str) -> str:
    return _POD + pod


def policies_key(namespace: str) -> str:
    return _POLICIES + namespace


def about(key: str) -> tuple[str, str]:
    """Return the kind and key of the object that a table's key is about."""
    for prefix, kind in ((_POD, PODS), (_POLICIES, NAMESPACES)):
        if key.startswith(prefix):
            return kind, key.removeprefix(prefix)
    return SERVICES, key


def read(view: View, key: str, mode: str) -> Found:
    """Return the entries of a Service, a pod or a namespace."""
    kind, object_key = about(key)
    if kind == SERVICES:
        return _service(view, object_key, mode)
    return _pod(view, object_key) if kind == PODS else _policies(view, object_key)


def _service(view: View, key: str, mode: str) -> Found:
    service, plain = view.get(SERVICES, key), view.get(ENDPOINTS, key)
    slices = view.by(SLICES, SLICES_BY_SERVICE, key)
    ports = frontends_of(service, slices, plain) if service is not None and is_ours(service) else ()
    if any(one.external_addresses for one in ports):
        machines = {node.address() for node in view.all(NODES)} if any(map(takes_machine_port, ports)) else ()
        ports = sparing(ports, machines, _addresses_of_api(view))
    if service is not None and mode == "userspace":
        ports = userspace.with_local_ports(service, ports)
    return ports, max((o.metadata.revision for o in (service, plain, *slices) if o is not None), default=0)


def _addresses_of_api(view: View) -> set[tuple[str, int]]:
    """Return where the API is reached by agents: the endpoints of the Service `kubernetes`, which the master itself keeps."""
    service, plain = view.get(SERVICES, _API), view.get(ENDPOINTS, _API)
    ports = frontends_of(service, view.by(SLICES, SLICES_BY_SERVICE, _API), plain) if service is not None else ()
    return {(backend.address, backend.port) for port in ports for backend in port.serving}


def _pod(view: View, key: str) -> Found:
    pod = view.get(PODS, key)
    return host_ports(pod), pod.metadata.revision if pod is not None else 0


def _policies(view: View, namespace: str) -> Found:
    policies = list(view.all(NETWORK_POLICIES, namespace))
    entries = fences(policies, namespace, _Cluster(view)) if policies else ()
    return entries, max((policy.metadata.revision for policy in policies), default=0)


class _Cluster:
    """Pods and namespaces, as policies.py asks for them."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pods(self, namespace: str) -> Iterable[Pod]:
        return self._view.all(PODS, namespace)

    def namespaces(self) -> Iterable[tuple[str, dict[str, str]]]:
        return ((one.metadata.name, one.metadata.labels) for one in self._view.all(NAMESPACES))


def fenced_namespaces(view: View, change: Seen) -> Iterator[str]:
    """Yield the namespaces whose policies may mean something else after a pod or a namespace changed."""
    one = change.new or change.old
    if _meant(change.old) == _meant(change.new):
        return
    own = one.metadata.namespace or one.metadata.name
    found = {
        policy.metadata.namespace
        for policy in view.all(NETWORK_POLICIES)
        if policy.metadata.namespace == own or policy.names_other_namespaces
    }
    yield from sorted(found)


def _meant(one: Any) -> tuple[Any, ...]:
    """Return the fields of a pod or a namespace that policies use."""
    if one is None:
        return ()
    if not one.metadata.namespace:
        return (one.metadata.labels,)
    return one.metadata.labels, one.status.pod_ip, one.spec.node_name, one.finished


def slice_service(one: Any) -> Iterable[str]:
    """Return the Service that an EndpointSlice belongs to; it is an index of the view."""
    return (f"{one.metadata.namespace}/{one.service}",) if one.service else ()
