"""This module finds the machine and the container of a stream, and raises a real server's errors if there is none."""

from __future__ import annotations

from typing import Any

from labctl.api import status
from labctl.api.call import Call
from labctl.errors import ApiError
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod
from labctl.resources.resources import Resources

AGENT = ("/usr/bin/python3", "/opt/labctl/agent")


def is_port(text: str) -> bool:
    """Tell whether a client's text is the number of a port. It may have any length, and `²` is a digit to Python, too."""
    return text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536


def pod_of(call: Call, resources: Resources) -> Pod:
    """Returns the typed view of the pod that a call names. Raises 404."""
    pod = resources.view(resources.get(call.kind, call.target.namespace, call.target.name))
    assert isinstance(pod, Pod)
    return pod


def machine_of(pod: Pod) -> str:
    """Returns the machine that the pod runs on. It does not check whether the machine is connected: `remote` does."""
    if not pod.spec.node_name:
        raise status.bad_request(f"pod {pod.metadata.name} does not have a host assigned")
    return pod.spec.node_name


def container_of(pod: Pod, requested: str) -> str:
    """Returns the requested container, or the only one if none is named. Raises 400."""
    names = [c.name for c in pod.spec.containers]
    init_names = [c.name for c in pod.spec.init_containers]
    if requested:
        if requested not in (*names, *init_names, *(c.name for c in pod.spec.ephemeral_containers)):
            raise status.bad_request(f"container {requested} is not valid for pod {pod.metadata.name}")
        return requested
    if len(names) == 1:
        return names[0]
    words = f"a container name must be specified for pod {pod.metadata.name}, choose one of: {_go_list(names)}"
    if init_names:
        words += f" or one of the init containers: {_go_list(init_names)}"
    raise status.bad_request(words)


def status_of(pod: Pod, container: str) -> ContainerStatus | None:
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses, *pod.status.ephemeral_container_statuses)
    return next((s for s in statuses if s.name == container), None)


def must_run(pod: Pod, container: str) -> None:
    """Raises the kubelet's errors for exec and attach if the container does not run."""
    if pod.finished:
        raise status.bad_request(f"cannot exec into a container in a completed pod; current phase is {pod.status.phase}")
    seen = status_of(pod, container)
    if seen is None or seen.state.running is None:
        raise ApiError(500, "InternalError", f'container not found ("{container}")')  # clients say before it what they could not do


def must_have_logs(pod: Pod, container: str, previous: bool) -> None:
    """Raises the errors of the kubelet's validateContainerLogStatus if the container has no log."""
    seen = status_of(pod, container)
    name = pod.metadata.name
    if seen is None:
        raise status.bad_request(f'container "{container}" in pod "{name}" is not available')
    if previous:
        if seen.last_state.terminated is None:
            raise status.bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        return
    if seen.state.running or seen.state.terminated or seen.last_state.terminated:
        return
    raise status.bad_request(f'container "{container}" in pod "{name}" is waiting to start{_waiting(seen)}')


def _waiting(seen: ContainerStatus) -> str:
    if seen.state.waiting is None:
        return " - no logs yet"
    reason = seen.state.waiting.reason
    return ": " + {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}.get(reason, reason)


def _go_list(names: Any) -> str:
    """Formats a slice of strings as Go prints it."""
    return f"[{' '.join(names)}]"
