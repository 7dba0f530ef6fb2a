"""Small objects as JSON, for tests and simulations: a pod, a node, a ReplicationController, a Service.

The caller gives only what matters.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def condition(type_: str, status: str, **more: str) -> Object:
    return {"type": type_, "status": status, **more}


def pod(
    name: str,
    *,
    node: str = "",
    ready: bool | None = None,
    phase: str = "",
    ip: str = "",
    labels: dict[str, str] | None = None,
    cpu: str = "",
    memory: str = "",
    owner: Any = None,
    **metadata: Any,
) -> Object:
    """Return a Pod. `owner` is the typed view of its controller."""
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    container: Object = {"name": "main", "image": "busybox", **({"resources": {"requests": requests}} if requests else {})}
    status: Object = {"phase": phase or ("Running" if ready is not None else "Pending")}
    if ready is not None:
        status["conditions"] = [condition("Ready", "True" if ready else "False")]
    if ip:
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    if owner is not None:
        metadata["ownerReferences"] = [reference(owner)]
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}, **metadata},
        "spec": {"containers": [container], **({"nodeName": node} if node else {})},
        "status": status,
    }


def reference(owner: Any, kind: str = "ReplicationController") -> Object:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def node(
    name: str, *, ready: str = "True", boot: str = "boot-1", cpu: str = "1", memory: str = "1Gi", pods: int = 110, **spec: Any
) -> Object:
    offered = {"cpu": cpu, "memory": memory, "pods": str(pods)}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {
            "capacity": offered,
            "allocatable": offered,
            "conditions": [condition("Ready", ready)] if ready else [],
            "nodeInfo": {"bootID": boot, "kubeletVersion": "v0", "architecture": "amd64", "operatingSystem": "linux"},
        },
    }


def replication_controller(name: str, replicas: int, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    labels = labels or {"name": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    return {
        "kind": "ReplicationController",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": labels, "template": template, **spec},
    }


def deployment(name: str, replicas: int, image: str = "busybox", **spec: Any) -> Object:
    labels = {"name": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
    }


def daemon_set(name: str, image: str = "busybox", **spec: Any) -> Object:
    whole = deployment(name, 0, image, **spec)
    del whole["spec"]["replicas"]
    return {**whole, "kind": "DaemonSet"}


def stateful_set(name: str, replicas: int, image: str = "busybox", **spec: Any) -> Object:
    return {**deployment(name, replicas, image, serviceName=name, **spec), "kind": "StatefulSet"}


def job(name: str, ends: str = "1 0", **spec: Any) -> Object:
    """Return a Job whose pods end as the annotation says (sim/hollow.py): after so many seconds, with this exit code."""
    annotations = {"sim.labctl.internal/ends": ends} if ends else {}
    containers = [{"name": "main", "image": "busybox"}]
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": containers, "restartPolicy": "Never"}}
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }


def service(name: str, selector: dict[str, str], *ports: Object, **spec: Any) -> Object:
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, "ports": list(ports) or [{"port": 80, "protocol": "TCP", "targetPort": 8080}], **spec},
    }
