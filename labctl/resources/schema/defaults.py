"""What Kubernetes fills in where a user said nothing: a table of our own, because the official definitions have no defaults.

apply_defaults() is called once per create, update and patch, between decoding and a kind's own `defaults` and `validate`. Keyed by definition, so a
pod template gets what a pod gets. Only what the type itself says belongs here; what the server owns (uid, VIP, phase) is the kind's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from labctl.resources.kind import Kind, Object
from labctl.resources.schema.definitions import Schema, Type

CORE = "io.k8s.api.core.v1."

# Go's zero values ("", 0) count as not said.
_WHERE_ZERO: Mapping[str, Object] = {
    CORE + "PodSpec": {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"},
    CORE + "Container": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    CORE + "EphemeralContainer": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    CORE + "ContainerPort": {"protocol": "TCP"},
    CORE + "Probe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    CORE + "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    CORE + "ObjectFieldSelector": {"apiVersion": "v1"},
    CORE + "ServiceSpec": {"sessionAffinity": "None", "type": "ClusterIP"},
    CORE + "ServicePort": {"protocol": "TCP"},
    CORE + "EndpointPort": {"protocol": "TCP"},
    CORE + "Secret": {"type": "Opaque"},
    CORE + "NamespaceStatus": {"phase": "Active"},
    "internal.labctl.v1.MachineSpec": {"power": "On"},
}
# Pointers in Go: a zero was said on purpose.
_WHERE_ABSENT: Mapping[str, Object] = {
    CORE + "PodSpec": {"terminationGracePeriodSeconds": 30, "securityContext": {}},
    CORE + "ReplicationControllerSpec": {"replicas": 1},
    CORE + "GRPCAction": {"service": ""},
    CORE + "SecretVolumeSource": {"defaultMode": 0o644},
    CORE + "ConfigMapVolumeSource": {"defaultMode": 0o644},
    CORE + "DownwardAPIVolumeSource": {"defaultMode": 0o644},
    CORE + "ProjectedVolumeSource": {"defaultMode": 0o644},
    CORE + "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    CORE + "HostPathVolumeSource": {"type": ""},
    CORE + "ResourceFieldSelector": {"divisor": "0"},
    CORE + "Namespace": {"status": {}},
    CORE + "Service": {"spec": {}},
    "io.k8s.api.discovery.v1.EndpointPort": {"name": "", "protocol": "TCP"},
}


def apply_defaults(schema: Schema, kind: Kind, obj: Object) -> None:
    """Fills `obj` in place. Doing it twice changes nothing."""
    plan = _plan_of(schema, schema.type_of(kind.group, kind.version, kind.kind))
    if plan is not None:
        _fill(plan, obj)


def pull_policy(image: str) -> str:
    """Always for `:latest`, said or meant; else IfNotPresent."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    return "Always" if tag == "latest" or (not colon and not digest) else "IfNotPresent"


# ---- what no table can say


def _container(container: Object) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image", ""))


def _volume(volume: Object) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}


def _pod(pod: Object) -> None:
    """A pod's alone, not a template's: requests follow limits; on the host's network a port is the host's port."""
    spec = pod.setdefault("spec", {})
    spec.setdefault("enableServiceLinks", True)
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        resources = container.get("resources")
        if resources and resources.get("limits"):
            resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
        if spec.get("hostNetwork"):
            for port in container.get("ports", ()):
                port["hostPort"] = port.get("hostPort") or port.get("containerPort", 0)


def _replication_controller(controller: Object) -> None:
    spec = controller.setdefault("spec", {})
    labels = spec.get("template", {}).get("metadata", {}).get("labels")
    if labels:
        spec["selector"] = spec.get("selector") or dict(labels)
        metadata = controller.setdefault("metadata", {})
        metadata["labels"] = metadata.get("labels") or dict(labels)


def _service_port(port: Object) -> None:
    if not port.get("targetPort") and "port" in port:
        port["targetPort"] = port["port"]


def _service_spec(spec: Object) -> None:
    if spec["sessionAffinity"] == "ClientIP":
        client_ip = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client_ip.setdefault("timeoutSeconds", 10800)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    if spec["type"] in ("NodePort", "LoadBalancer") or (spec["type"] == "ClusterIP" and spec.get("externalIPs")):
        spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def _namespace(namespace: Object) -> None:
    metadata = namespace.setdefault("metadata", {})
    if metadata.get("name"):
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]


def _node_status(status: Object) -> None:
    if status.get("capacity") and "allocatable" not in status:
        status["allocatable"] = dict(status["capacity"])


_FUNCTIONS: Mapping[str, Callable[[Object], None]] = {
    CORE + "Container": _container,
    CORE + "EphemeralContainer": _container,
    CORE + "Volume": _volume,
    CORE + "Pod": _pod,
    CORE + "ReplicationController": _replication_controller,
    CORE + "ServicePort": _service_port,
    CORE + "ServiceSpec": _service_spec,
    CORE + "Namespace": _namespace,
    CORE + "NodeStatus": _node_status,
}


# ---- the walk: a plan per type, so that only what can have a default is looked at


@dataclass(slots=True, eq=False)
class _Plan:
    where_zero: Object
    where_absent: Object
    function: Callable[[Object], None] | None
    below: dict[str, tuple[str, _Plan]] = field(default_factory=dict)  # field -> (shape, plan)


_plans: WeakKeyDictionary[Schema, dict[Type, _Plan | None]] = WeakKeyDictionary()


def _plan_of(schema: Schema, type_: Type) -> _Plan | None:
    """The plan of a struct; None if nothing in it or below has a default."""
    plans = _plans.setdefault(schema, {})
    if type_ not in plans:
        plan = _Plan(_WHERE_ZERO.get(type_.name, {}), _WHERE_ABSENT.get(type_.name, {}), _FUNCTIONS.get(type_.name))
        plans[type_] = plan  # before going down: a type may hold itself
        for name, child in type_.fields.items():
            target = child.item if child.shape in ("list", "map") else child
            if target is not None and target.shape == "struct" and (below := _plan_of(schema, target)):
                plan.below[name] = (child.shape, below)
        if not (plan.where_zero or plan.where_absent or plan.function or plan.below):
            plans[type_] = None
    return plans[type_]


def _fill(plan: _Plan, obj: Object) -> None:
    for key, value in plan.where_zero.items():
        if not obj.get(key):
            obj[key] = value
    for key, value in plan.where_absent.items():
        if key not in obj:
            obj[key] = deepcopy(value) if isinstance(value, dict) else value
    if plan.function is not None:
        plan.function(obj)
    for key, (shape, below) in plan.below.items():
        value = obj.get(key)
        if value is None:
            continue
        if shape == "struct":
            _fill(below, value)
        else:
            for item in value if shape == "list" else value.values():
                _fill(below, item)
