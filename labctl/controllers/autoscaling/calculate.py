"""How many replicas a metric asks for: Kubernetes' replica calculator, on what the pods use and what they requested.

Pods that only began, or whose reading is missing, count in the way that changes least: as using nothing before growing, as using all they may before shrinking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from labctl.clock import parse_rfc3339
from labctl.resources.kinds.autoscaling_v2.horizontalpodautoscaler import ResourceMetric
from labctl.resources.kinds.core_v1.pod_view import Container, Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.quantities import to_bytes, to_milli
from labctl.resources.usage import ContainerUse, UsageReader

INITIALIZATION_S = 300.0  # --horizontal-pod-autoscaler-cpu-initialization-period
FIRST_READINESS_S = 30.0  # --horizontal-pod-autoscaler-initial-readiness-delay


class NoCount(Exception):
    """The number can't be calculated; the message says why, in Kubernetes' words."""


class Tolerance(NamedTuple):
    up: float = 0.1
    down: float = 0.1

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Count(NamedTuple):
    """What is asked for, and what is shown of the metric: an average per pod (CPU in thousandths), and the share of the request if that is the target."""

    replicas: int
    average: int
    share: int | None = None


class _Groups(NamedTuple):
    ready: int
    used: Mapping[str, int]  # of pods that count, by name
    unready: Sequence[str]
    missing: Sequence[str]


def count(metric: ResourceMetric, pods: Sequence[Pod], current: int, usage: UsageReader, tolerance: Tolerance, wall_s: float) -> Count:
    """Raises NoCount."""
    if not pods:
        raise NoCount("no pods returned by selector while calculating replica count")
    groups = _grouped(pods, lambda pod: _reading(metric, pod, usage), lambda pod: metric.name == "cpu" and _only_began(pod, usage, wall_s))
    if not groups.used:
        if any(_reading(metric, pod, usage) is not None for pod in pods):
            raise NoCount("did not receive metrics for targeted pods (pods might be unready)")
        raise NoCount(f"unable to get metrics for resource {metric.name}: no metrics returned from resource metrics API")
    average = sum(groups.used.values()) // len(groups.used)
    if metric.target.average_value is not None:
        target = _amount(metric.name, metric.target.average_value)
        wanted = {pod.metadata.name: 1 for pod in pods}
        ratio = average / target
        return Count(_replicas(groups, current, ratio, tolerance, wanted, target, at_most=target), average)
    requests = _requests(metric, pods)
    share = metric.target.average_utilization or 100
    used, asked = sum(groups.used.values()), sum(requests[name] for name in groups.used)
    if not asked:
        raise NoCount("no metrics returned matched known pods")
    now = used * 100 // asked
    replicas = _replicas(groups, current, now / share, tolerance, requests, share / 100, at_most=max(100, share) / 100)
    return Count(replicas, average, now)


def plain(values: Mapping[str, int], pods: Sequence[Pod], current: int, target: int, tolerance: Tolerance) -> Count:
    """Return what a number of each pod asks for (in thousandths, by the pod's name), whose average is to be `target`. Raises NoCount."""
    if not pods:
        raise NoCount("no pods returned by selector while calculating replica count")
    groups = _grouped(pods, lambda pod: values.get(pod.metadata.name))
    if not groups.used:
        raise NoCount("did not receive metrics for targeted pods (pods might be unready)")
    average, weights = sum(groups.used.values()) // len(groups.used), {pod.metadata.name: 1 for pod in pods}
    return Count(_replicas(groups, current, average / target, tolerance, weights, target, at_most=target), average)


def _replicas(
    groups: _Groups, current: int, ratio: float, tolerance: Tolerance, weights: Mapping[str, int], target: float, at_most: float
) -> int:
    """Return the number of replicas.

    `weights` is what each pod's use is divided by, `target` the wanted use per weight, `at_most` the use that is assumed for a missing pod.
    """
    grows_with_unready = bool(groups.unready) and ratio > 1.0
    if not grows_with_unready and not groups.missing:
        return current if tolerance.covers(ratio) else math.ceil(ratio * groups.ready)
    used: dict[str, float] = dict(groups.used)
    for name in groups.missing:
        if ratio < 1.0:
            used[name] = weights[name] * at_most
        elif ratio > 1.0:
            used[name] = 0
    if grows_with_unready:
        used.update(dict.fromkeys(groups.unready, 0))
    anew = sum(used.values()) / (sum(weights[name] for name in used) * target)
    if tolerance.covers(anew) or (ratio < 1.0 < anew) or (anew < 1.0 < ratio):
        return current
    replicas = math.ceil(anew * len(used))
    if (anew < 1.0 and replicas > current) or (anew > 1.0 and replicas < current):
        return current
    return replicas


def _grouped(
    pods: Sequence[Pod], reading: Callable[[Pod], int | None], says_nothing: Callable[[Pod], bool] = lambda _pod: False
) -> _Groups:
    """`reading` returns a pod's number; `says_nothing` tells of one that has a number whether it counts as unready all the same."""
    ready, used, unready, missing = 0, {}, [], []
    for pod in pods:
        name = pod.metadata.name
        if pod.metadata.deletion_timestamp is not None or pod.status.phase == "Failed":
            continue
        if pod.status.phase == "Pending":
            unready.append(name)
            continue
        amount = reading(pod)
        if amount is None:
            missing.append(name)
        elif says_nothing(pod):
            unready.append(name)
        else:
            ready += 1
            used[name] = amount
    return _Groups(ready, used, unready, missing)


def _only_began(pod: Pod, usage: UsageReader, wall_s: float) -> bool:
    """Tell whether a pod's use says nothing yet: it is not ready, and has only begun or was never ready."""
    seen = condition(pod.status.conditions, "Ready")
    if seen is None or not pod.status.start_time:
        return True
    started_s, changed_s = parse_rfc3339(pod.status.start_time), parse_rfc3339(seen.last_transition_time)
    if started_s + INITIALIZATION_S > wall_s:
        read = usage.node(pod.spec.node_name)
        return seen.status == "False" or (read is not None and read.at_s < changed_s + read.window_s)
    return seen.status == "False" and started_s + FIRST_READINESS_S > changed_s


def _reading(metric: ResourceMetric, pod: Pod, usage: UsageReader) -> int | None:
    """Return what the pod, or one container of it, uses. None if it is not known of each of its containers."""
    read = usage.node(pod.spec.node_name) if pod.spec.node_name else None
    containers = read.pods.get(pod.metadata.uid) if read else None
    if not containers:
        return None
    if metric.container:
        found = containers.get(metric.container)
        return None if found is None else _of(metric.name, found)
    if any(each.name not in containers for each in pod.spec.containers):
        return None
    return sum(_of(metric.name, each) for each in containers.values())


def _of(resource: str, used: ContainerUse) -> int:
    return used.nanocores // 1_000_000 if resource == "cpu" else used.memory_bytes if resource == "memory" else 0


def _amount(resource: str, quantity: str | int | float) -> int:
    return to_milli(quantity) if resource == "cpu" else to_bytes(quantity)


def _requests(metric: ResourceMetric, pods: Sequence[Pod]) -> dict[str, int]:
    """Return what each pod requested. Raises NoCount if neither it nor each of its containers requested anything."""
    found = {}
    for pod in pods:
        containers: list[Container] = [
            *pod.spec.containers,
            *(each for each in pod.spec.init_containers if each.restart_policy == "Always"),
        ]
        own = None if metric.container else pod.spec.resources.requests.get(metric.name)
        if own is not None:  # the whole pod's own request (KEP-2837)
            found[pod.metadata.name] = _amount(metric.name, own)
            continue
        total = 0
        for container in containers:
            if metric.container and container.name != metric.container:
                continue
            asked = container.resources.requests.get(metric.name)
            if asked is None:
                raise NoCount(f"missing request for {metric.name} in container {container.name} of Pod {pod.metadata.name}")
            total += _amount(metric.name, asked)
        found[pod.metadata.name] = total
    return found
