"""What the table holds for one key: which objects it is read from, and what they come to.

The Proxy calls this for each key that changed. A key is BASE, a Service's (`namespace/name`), or a pod's (`pods/namespace/name`) for its host ports.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labctl.proxy import userspace
from labctl.proxy.frontends import frontends_of
from labctl.proxy.hostports import host_ports
from labctl.proxy.rules import Entry
from labctl.reconcile.plan import View
from labctl.resources.plurals import ENDPOINTS, PODS, SERVICES, SLICES

SLICES_BY_SERVICE = "proxy-service"
_POD = "pods/"

Found = tuple[tuple[Entry, ...], int]
"""A key's entries, and the highest revision of the objects they were read from; 0 if there are none."""


def pod_key(pod: str) -> str:
    return _POD + pod


def about(key: str) -> tuple[str, str]:
    """The kind and key of the object that a table's key is about."""
    return (PODS, key.removeprefix(_POD)) if key.startswith(_POD) else (SERVICES, key)


def read(view: View, key: str, mode: str) -> Found:
    """The entries of a Service or of a pod."""
    kind, object_key = about(key)
    return _service(view, object_key, mode) if kind == SERVICES else _pod(view, object_key)


def _service(view: View, key: str, mode: str) -> Found:
    service, plain = view.get(SERVICES, key), view.get(ENDPOINTS, key)
    slices = view.by(SLICES, SLICES_BY_SERVICE, key)
    ports = frontends_of(service, slices, plain) if service is not None else ()
    if service is not None and mode == "userspace":
        ports = userspace.with_local_ports(service, ports)
    return ports, max((o.metadata.revision for o in (service, plain, *slices) if o is not None), default=0)


def _pod(view: View, key: str) -> Found:
    pod = view.get(PODS, key)
    return host_ports(pod), pod.metadata.revision if pod is not None else 0


def slice_service(one: Any) -> Iterable[str]:
    """An index: the Service an EndpointSlice belongs to."""
    return (f"{one.metadata.namespace}/{one.service}",) if one.service else ()
