"""How controllers find objects: the index functions that they share, and which objects a change concerns.

Each controller declares the indexes that it uses, with the same functions. The selectors that match a pod are found without reading
every Service: a selector is indexed by its first pair only, and a pod is looked up by each of its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from labctl.reconcile.plan import Index, Key, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.plurals import (
    CLAIMS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINTS,
    EVENTS,
    JOBS,
    LEASES,
    MACHINES,
    NAMESPACES,
    NODES,
    POD_SIGNING_REQUESTS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    REVISIONS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    SIGNING_REQUESTS,
    SLICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    VOLUMES,
)

__all__ = [  # for controllers, which need names and indexes together
    "CLAIMS", "CLUSTER_ROLES", "CONFIG_MAPS", "CRON_JOBS", "DAEMON_SETS", "DEPLOYMENTS", "ENDPOINTS", "EVENTS", "JOBS", "LEASES", "MACHINES",
    "NAMESPACES", "NODES", "PODS", "POD_SIGNING_REQUESTS", "REPLICATION_CONTROLLERS", "REPLICA_SETS", "REVISIONS", "SECRETS", "SERVICES", "SERVICE_ACCOUNTS", "SIGNING_REQUESTS",
    "SLICES", "STATEFUL_SETS", "STORAGE_CLASSES", "VOLUMES",
]  # fmt: skip

READY = "ready"


def _labels_of_serving(pod: Pod) -> Iterable[str]:
    """Index a pod that may serve a Service, which has an address and is not finished, by each of its labels."""
    if not pod.status.pod_ip or pod.finished:
        return ()
    metadata = pod.metadata
    return [f"{metadata.namespace}/{key}={value}" for key, value in metadata.labels.items()]


def _node(pod: Pod) -> Iterable[str]:
    return (pod.spec.node_name,) if pod.spec.node_name else ()


def _ready(view: Any) -> Iterable[str]:
    return (READY,) if view.ready else ()


def _selector(view: Any) -> Iterable[str]:
    selector = view.spec.selector
    return (f"{view.metadata.namespace}/{_first(selector)}",) if selector else ()


PODS_SERVING: dict[tuple[str, str], Index] = {(PODS, "serving"): _labels_of_serving}
PODS_BY_NODE: dict[tuple[str, str], Index] = {(PODS, "node"): _node}
PODS_READY: dict[tuple[str, str], Index] = {(PODS, "ready"): _ready}
NODES_READY: dict[tuple[str, str], Index] = {(NODES, "ready"): _ready}


def by_selector(kind: str) -> dict[tuple[str, str], Index]:
    """Return the index of Services by the first pair of their selectors."""
    return {(kind, "selector"): _selector}


def _first(selector: Mapping[str, str]) -> str:
    key = min(selector)
    return f"{key}={selector[key]}"


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether every pair of the selector is among the labels. An empty selector matches nothing, as for Services and controllers."""
    return bool(selector) and selector.items() <= labels.items()


def selected_pods(view: View, namespace: str, selector: Mapping[str, str]) -> Iterator[Pod]:
    """Return the pods that a selector matches, in key order. It reads every pod of the namespace; people ask for it, controllers don't."""
    return (pod for pod in view.all(PODS, namespace) if matches(selector, pod.metadata.labels))


def serving_pods(view: View, namespace: str, selector: Mapping[str, str]) -> Sequence[Pod]:
    """Return the pods behind a Service, in key order: its selector matches them, they have an address, and they are not finished."""
    if not selector:
        return ()
    found = view.by(PODS, "serving", f"{namespace}/{_first(selector)}")
    return [pod for pod in found if matches(selector, pod.metadata.labels)] if len(selector) > 1 else found


def selecting(view: View, kind: str, namespace: str, labels: Mapping[str, str]) -> Iterator[Key]:
    """Yield the keys of the objects of `kind` whose selector matches these labels."""
    for key, value in labels.items():
        for found in view.by(kind, "selector", f"{namespace}/{key}={value}"):
            if matches(found.spec.selector, labels):
                yield found.metadata.key
