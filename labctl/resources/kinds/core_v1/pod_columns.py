"""What `kubectl get pods` shows: one word for how a pod is, made of what its containers say."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.cells import AGE, NAME, NONE, since
from labctl.resources.kind import Column
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod, Terminated
from labctl.resources.kinds.shared import condition, condition_status

_UNREACHABLE = "NodeLost"  # what the node controller writes as the reason of a pod it lost sight of


def ready(pod: Pod, _now_s: float) -> str:
    total = len(pod.spec.containers) + len(_sidecars(pod))
    running = sum(1 for status in _relevant(pod) if status.ready and (status.state.running or status.started))
    return f"{running}/{total}"


def status(pod: Pod, _now_s: float) -> str:
    word = pod.status.reason or pod.status.phase
    scheduled = condition(pod.status.conditions, "PodScheduled")
    if scheduled and scheduled.reason == "SchedulingGated":
        word = "SchedulingGated"
    initializing = _initializing(pod)
    if initializing and not _initialized(pod):
        word = initializing
    else:
        word = _running(pod, word)
    if pod.metadata.deletion_timestamp is not None:
        if pod.status.reason == _UNREACHABLE:
            return "Unknown"
        if not pod.finished:
            return "Terminating"
    return word


def _initializing(pod: Pod) -> str:
    """Return the word for the first init container that is not done, or "" when all are done."""
    sidecars = _sidecars(pod)
    for position, container in enumerate(pod.status.init_container_statuses):
        state = container.state
        if state.terminated and state.terminated.exit_code == 0:
            continue
        if container.name in sidecars and container.started:
            continue
        if state.terminated:
            return f"Init:{_ended(state.terminated)}"
        if state.waiting and state.waiting.reason not in ("", "PodInitializing"):
            return f"Init:{state.waiting.reason}"
        return f"Init:{position}/{len(pod.spec.init_containers)}"
    return ""


def _running(pod: Pod, word: str) -> str:
    """Return the word for the containers; if several have one, that of the first container."""
    has_running = False
    for container in reversed(pod.status.container_statuses):
        state = container.state
        if state.waiting and state.waiting.reason:
            word = state.waiting.reason
        elif state.terminated:
            word = _ended(state.terminated)
        elif container.ready and state.running:
            has_running = True
    if word == "Completed" and has_running:
        return "Running" if pod.ready else "NotReady"
    return word


def _ended(terminated: Terminated) -> str:
    if terminated.reason:
        return terminated.reason
    return f"Signal:{terminated.signal}" if terminated.signal else f"ExitCode:{terminated.exit_code}"


def restarts(pod: Pod, now_s: float) -> str:
    count, last = 0, ""
    for container in _relevant(pod):
        count += container.restart_count
        ended = container.last_state.terminated
        if ended:
            last = max(last, ended.finished_at)
    return f"{count} ({since(last, now_s)} ago)" if count and last else str(count)


def _relevant(pod: Pod) -> Iterator[ContainerStatus]:
    """Init containers while the pod is initializing; then the containers and the sidecars."""
    if _initializing(pod) and not _initialized(pod):
        yield from pod.status.init_container_statuses
        return
    sidecars = _sidecars(pod)
    yield from (container for container in pod.status.init_container_statuses if container.name in sidecars)
    yield from pod.status.container_statuses


def _initialized(pod: Pod) -> bool:
    return condition_status(pod.status.conditions, "Initialized") == "True"


def _sidecars(pod: Pod) -> set[str]:
    return {container.name for container in pod.spec.init_containers if container.restart_policy == "Always"}


def gates(pod: Pod, _now_s: float) -> str:
    wanted = pod.spec.readiness_gates
    if not wanted:
        return NONE
    true = sum(1 for gate in wanted if condition_status(pod.status.conditions, gate.condition_type) == "True")
    return f"{true}/{len(wanted)}"


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Ready", ready, description="The aggregate readiness state of this pod for accepting traffic."),
    Column("Status", status, description="The aggregate status of the containers in this pod."),
    Column(
        "Restarts", restarts, description="The number of times the containers in this pod have been restarted and when the last one was."
    ),
    AGE,
    Column("IP", lambda pod, _now: pod.status.pod_ip or NONE, priority=1, description="The pod's address."),
    Column("Node", lambda pod, _now: pod.spec.node_name or NONE, priority=1, description="The node this pod runs on."),
    Column("Nominated Node", lambda pod, _now: pod.status.nominated_node_name or NONE, priority=1, description="The node it may get next."),
    Column("Readiness Gates", gates, priority=1, description="How many of its readiness gates are true."),
)
