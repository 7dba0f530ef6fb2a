"""What Endpoints and EndpointSlices agree on: which pods are behind a Service, at which ports, and which changes matter to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labctl.controllers.indexes import SERVICES, selecting
from labctl.reconcile.plan import Key, Plan, Seen, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.service import Service, ServicePort

HEADLESS_LABEL = "service.kubernetes.io/headless"


SMALL = 20  # what has more endpoints or pods than this
BETWEEN_S = 0.0005  # ... is written at most once in so long for each of those beyond
FEW = 8  # endpoints that only become more are written at once up to here,
ADDED_BETWEEN_S = 0.005  # ... and then at most once in so long for each beyond that serves already
COUNTED_BETWEEN_S = 0.002  # an owner's counts, for each pod beyond SMALL
BETWEEN_MAX_S = 1.0


def pause_s(pods: int, written_at: float, now: float, between_s: float = BETWEEN_S, small: int = SMALL) -> float:
    """Return how long a Service's endpoints, or an owner's counts, wait for further changes; 0 if they are written now.

    Each write costs as much as there are pods. If each of 1,000 pods that start wrote something about them all, the cost would be quadratic. So the first
    change is written at once, and those that follow soon after it together. What is small never waits.
    """
    wait_s = min(BETWEEN_MAX_S, max(0, pods - small) * between_s)
    return max(0.0, wait_s - (now - written_at))


class Departures:
    """Remembers which Services a pod has stopped serving, until their endpoints are planned without it.

    An endpoint that is gone costs requests as long as it is written, so it hardly waits. One that is new costs nothing where others serve: those that come
    soon after each other are written together, the more, the more there are. So a Service that grows from none to 1,000 is written about ten times.
    """

    def __init__(self) -> None:
        self._services: set[Key] = set()

    def concerned(self, view: View, seen: Seen) -> Iterator[Key]:
        """Yield the Services that a pod's change concerns: only what an endpoint shows of a pod matters."""
        old, new = seen.old, seen.new
        if _shown(old) == _shown(new):
            return
        left = old is not None and _serves(old) and (new is None or not _serves(new) or _where(old) != _where(new))
        for pod in (old, new):
            for key in selecting(view, SERVICES, pod.metadata.namespace, pod.metadata.labels) if pod is not None else ():
                if left:
                    self._services.add(key)
                yield key

    def pause_s(self, key: Key, serving: int, written_at: float, now: float) -> float:
        """Return how long a Service's endpoints, `serving` of which are written as ready, wait for further changes."""
        if key in self._services:
            return pause_s(serving, written_at, now)
        return pause_s(serving, written_at, now, ADDED_BETWEEN_S, FEW)

    def planned(self, key: Key, plan: Plan) -> None:
        if plan.again_s is None:
            self._services.discard(key)


def _serves(pod: Pod) -> bool:
    return pod.ready and pod.metadata.deletion_timestamp is None and bool(pod.status.pod_ip) and not pod.finished


def _where(pod: Pod) -> tuple[Any, ...]:
    return pod.status.pod_ip, pod.metadata.uid, pod.metadata.labels


def _shown(pod: Pod | None) -> tuple[Any, ...]:
    """Return what endpoints show of a pod: nothing as long as it has no address, so its creation and its binding concern no Service."""
    if pod is None or not pod.status.pod_ip or pod.finished:
        return ()
    return pod.status.pod_ip, pod.metadata.uid, pod.ready, pod.metadata.deletion_timestamp is None, pod.metadata.labels, pod.spec.node_name


def target_port(pod: Pod, port: ServicePort) -> int | None:
    """Return the pod's own port behind a Service's port, or None if the pod has no port of that name."""
    target = port.target_port or port.port
    if isinstance(target, int):
        return target
    for container in (*pod.spec.containers, *(c for c in pod.spec.init_containers if c.restart_policy == "Always")):
        for candidate in container.ports:
            if candidate.name == target and candidate.protocol == port.protocol:
                return candidate.container_port
    return None


Port = tuple[tuple[str, Any], ...]
"""A port as both kinds write it, in a form that can be a key: its fields and their values."""


class Ports:
    """At which ports each pod serves a Service. Only ports with a name of the pod's own differ from pod to pod."""

    def __init__(self, service: Service) -> None:
        self._service = service
        named = any(isinstance(port.target_port, str) and port.target_port for port in service.spec.ports)
        self._same = None if named else _keys(Pod(), service)

    def of(self, pod: Pod) -> tuple[Port, ...]:
        return _keys(pod, self._service) if self._same is None else self._same


def _keys(pod: Pod, service: Service) -> tuple[Port, ...]:
    return tuple([tuple(port.items()) for port in ports_of(pod, service)])


def ports_of(pod: Pod, service: Service) -> tuple[dict[str, Any], ...]:
    """Return the ports at which this pod serves a Service, as both kinds write them."""
    found = ((port, target_port(pod, port)) for port in service.spec.ports)
    return tuple(_port(port, number) for port, number in found if number is not None)


def _port(port: ServicePort, number: int) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": port.name, "port": number, "protocol": port.protocol, "appProtocol": port.app_protocol}
    return {key: value for key, value in plain.items() if value != ""}


def target_ref(pod: Pod) -> dict[str, Any]:
    return {"kind": "Pod", "namespace": pod.metadata.namespace, "name": pod.metadata.name, "uid": pod.metadata.uid}


def hostname(pod: Pod, service: Service) -> dict[str, str]:
    """Return the pod's name below a headless Service, if it asked for one."""
    named = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    return {"hostname": pod.spec.hostname} if named else {}


def labels_of(service: Service, **own: str) -> dict[str, str]:
    """Return the Service's labels, which its endpoints carry too."""
    headless = {HEADLESS_LABEL: ""} if service.spec.headless else {}
    return {**service.metadata.labels, **headless, **own}
