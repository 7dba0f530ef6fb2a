"""Objects that the API figures are made with. Sizes are those of everyday ones."""

from __future__ import annotations

import time
from typing import Any

CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "1000"}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def pod(name: str = "") -> dict[str, Any]:
    """A pod that nobody schedules; without a name, one of many."""
    named = {"name": name} if name else {"generateName": "p-"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**named, "labels": {"a": "b"}}, "spec": {**_spec(), "schedulerName": "nobody"}}


def _spec() -> dict[str, Any]:
    return {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "x"}]}


def config_map() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "c-"}, "data": {"k": "v" * 200}}


def controller(name: str, replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"x": name}}, "spec": _spec()}
    return {"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"x": name}, "template": template}}


def running_status(number: int) -> dict[str, Any]:
    """What an agent reports of a pod that runs."""
    address, at = f"10.246.{number % 200 + 1}.{number // 200 + 2}", now()
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": at}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    container = {
        "name": "c",
        "image": "x",
        "imageID": "sha256:" + "0123456789abcdef" * 4,
        "containerID": "crun://" + "0123456789abcdef" * 4,
        "ready": True,
        "started": True,
        "restartCount": 0,
        "lastState": {},
        "state": {"running": {"startedAt": at}},
    }
    return {
        "status": {
            "phase": "Running",
            "hostIP": "10.245.1.11",
            "hostIPs": [{"ip": "10.245.1.11"}],
            "podIP": address,
            "podIPs": [{"ip": address}],
            "qosClass": "BestEffort",
            "startTime": at,
            "conditions": conditions,
            "containerStatuses": [container],
        }
    }


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, **node_status()}


def node_status() -> dict[str, Any]:
    at = now()
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "ok",
        "lastHeartbeatTime": at,
        "lastTransitionTime": at,
    }
    return {"status": {"capacity": CAPACITY, "allocatable": CAPACITY, "conditions": [ready]}}
