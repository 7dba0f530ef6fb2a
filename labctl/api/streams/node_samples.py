"""`/metrics/resource` and `/metrics/cadvisor` of a kubelet, in Prometheus' text format, under the names and labels that Kubernetes gives them. Pure.

Of cAdvisor's many series these are the ones that dashboards and autoscalers read most: CPU time, the working set, the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labctl.api.streams.node_reading import Reading, started_s

_CONTAINER = ("container", "namespace", "pod")
_POD = ("namespace", "pod")
_CADVISOR = ("container", "id", "image", "name", "namespace", "pod")


def resource(reading: Reading) -> bytes:
    """Return the metrics of the node, its pods and containers (KEP-727)."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # 20 ms, for those who ask

    at_s, machine = reading.use.at_s, reading.use.machine
    cpu = CounterMetricFamily(
        "container_cpu_usage_seconds", "Cumulative cpu time consumed by the container in core-seconds", labels=_CONTAINER
    )
    memory = GaugeMetricFamily("container_memory_working_set_bytes", "Current working set of the container in bytes", labels=_CONTAINER)
    start = GaugeMetricFamily("container_start_time_seconds", "Start time of the container since unix epoch in seconds", labels=_CONTAINER)
    pod_cpu = CounterMetricFamily("pod_cpu_usage_seconds", "Cumulative cpu time consumed by the pod in core-seconds", labels=_POD)
    pod_memory = GaugeMetricFamily("pod_memory_working_set_bytes", "Current working set of the pod in bytes", labels=_POD)
    node_cpu = CounterMetricFamily("node_cpu_usage_seconds", "Cumulative cpu time consumed by the node in core-seconds")
    node_memory = GaugeMetricFamily("node_memory_working_set_bytes", "Current working set of the node in bytes")
    failed = GaugeMetricFamily("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", value=0)
    for pod in reading.pods:
        of_pod = (pod.metadata.namespace, pod.metadata.name)
        for status, use in reading.containers(pod):
            labels = (status.name, *of_pod)
            cpu.add_metric(labels, use.cpu_ns / 1e9, timestamp=at_s)
            memory.add_metric(labels, use.memory_bytes, timestamp=at_s)
            start.add_metric(labels, started_s(status))
        total = reading.total(pod)
        pod_cpu.add_metric(of_pod, total.cpu_ns / 1e9, timestamp=at_s)
        pod_memory.add_metric(of_pod, total.memory_bytes, timestamp=at_s)
    node_cpu.add_metric((), machine.cpu_ns / 1e9, timestamp=at_s)
    node_memory.add_metric((), machine.memory_bytes, timestamp=at_s)
    return _text((cpu, memory, start, node_cpu, node_memory, pod_cpu, pod_memory, failed))


def cadvisor(reading: Reading) -> bytes:
    """Return the containers' metrics as cAdvisor has them, with the pod's sum and the machine's under `id="/"`."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    at_s, machine = reading.use.at_s, reading.use.machine
    cpu = CounterMetricFamily("container_cpu_usage_seconds", "Cumulative cpu time consumed in seconds.", labels=(*_CADVISOR, "cpu"))
    memory = GaugeMetricFamily("container_memory_working_set_bytes", "Current working set in bytes.", labels=_CADVISOR)
    start = GaugeMetricFamily("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", labels=_CADVISOR)
    seen = GaugeMetricFamily("container_last_seen", "Last time a container was seen by the exporter", labels=_CADVISOR)

    def add(labels: tuple[str, ...], cpu_ns: int, memory_bytes: int) -> None:
        cpu.add_metric((*labels, "total"), cpu_ns / 1e9, timestamp=at_s)
        memory.add_metric(labels, memory_bytes, timestamp=at_s)
        seen.add_metric(labels, at_s, timestamp=at_s)

    add(("", "/", "", "", "", ""), machine.cpu_ns, machine.memory_bytes)
    for pod in reading.pods:
        of_pod = (pod.metadata.namespace, pod.metadata.name)
        total = reading.total(pod)
        add(("", f"/pods/{pod.metadata.uid}", "", "", *of_pod), total.cpu_ns, total.memory_bytes)
        for status, use in reading.containers(pod):
            number = status.container_id.rpartition("//")[2]
            labels = (status.name, f"/pods/{pod.metadata.uid}/{status.name}-{status.restart_count}", status.image, number, *of_pod)
            add(labels, use.cpu_ns, use.memory_bytes)
            start.add_metric(labels, started_s(status), timestamp=at_s)
    return _text((cpu, memory, start, seen))


def _text(families: Iterable[Any]) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest

    class _Families:
        def collect(self) -> Iterable[Any]:
            return families

    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(_Families())
    return generate_latest(collectors)
