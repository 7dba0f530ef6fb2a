"""`/stats/summary` of a kubelet (type Summary, `k8s.io/kubelet/pkg/apis/stats/v1alpha1`): the figures that a minion's agent has, CPU and memory. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.api.streams.node_reading import Reading
from labctl.clock import rfc3339
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.usage import ContainerUse

_encode = msgspec.json.Encoder().encode


def encoded(reading: Reading) -> bytes:
    node = {"nodeName": reading.node, **_figures(reading.use.machine, reading)}
    return _encode({"node": node, "pods": [_pod(pod, reading) for pod in reading.pods]})


def _pod(pod: Pod, reading: Reading) -> dict[str, Any]:
    containers = [
        {"name": status.name, "startTime": status.state.running.started_at if status.state.running else "", **_figures(use, reading)}
        for status, use in reading.containers(pod)
    ]
    named = {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid}
    return {"podRef": named, "startTime": pod.status.start_time, "containers": containers, **_figures(reading.total(pod), reading)}


def _figures(use: ContainerUse, reading: Reading) -> dict[str, Any]:
    at = rfc3339(reading.use.at_s)
    return {
        "cpu": {"time": at, "usageNanoCores": use.nanocores, "usageCoreNanoSeconds": use.cpu_ns},
        "memory": {"time": at, "workingSetBytes": use.memory_bytes},
    }
