"""One container's start, from the pod's spec to a running process: image, environment, volumes, the pod's files, the Runtime's `start`; Events on the way.

Who calls it: the pod's worker, one container at a time. What comes back is why it does not run yet, as a waiting reason and message, or nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from . import containers, environment, podfiles, volumes
from .client import Refused
from .environment import ConfigError, PodFacts
from .events import of_pod
from .hooks import act
from .http import Unreachable
from .images import Image, ImageFailure, default_policy
from .runtime.interface import BadMount, Container, ContainerSpec, Pod, RuntimeFailure, StartRefused
from .status import pod_address
from .times import duration
from .tools import Tools

Object = Dict[str, Any]
POST_START_MOST_S = 24 * 3600.0  # Kubernetes has no limit: its container, and those after it, wait for as long as the hook takes
FAILURE_SHOWN_S = 1.0
"""Why a pull failed is the reason of a container that waits for so long, or for half of the wait; then it is that the next pull is held back."""
HOPELESS = ("InvalidImageName", "ErrImageNeverPull")
"""What stays the reason of a container that waits: no later pull could go better, so none is said to be held back."""


class NotStarted(Exception):
    """A waiting reason (CreateContainerConfigError, ...) and its message. `ended`: the attempt is on record as one that ended."""

    def __init__(self, reason: str, message: str, ended: bool = False) -> None:
        super().__init__(message)
        self.reason, self.ended = reason, ended


class ImagePull:
    """One image that a pod waits for: pulled in the background, tried again with growing waits."""

    def __init__(self, tools: Tools, pod: Object, container: Object, done: "Any") -> None:
        self._tools, self._pod, self._container, self._done = tools, pod, container, done
        self._task: "asyncio.Task[Image] | None" = None
        self._wait_s = 0.0
        self._why = ""
        self._asked = False  # the API was asked, not just the disk
        self.again_at = self._shown_until = 0.0
        self.waiting: Tuple[str, str] = ("ContainerCreating", "")

    @property
    def under_way(self) -> bool:
        """Tell whether it was begun, and nobody has seen yet what became of it."""
        return self._task is not None

    @property
    def look_at(self) -> float:
        """Return when the next look is due, by the monotonic clock: something else is to be said then, or to be done."""
        return self._shown_until if time.monotonic() < self._shown_until else self.again_at

    def begin(self) -> None:
        """Start the pull, unless it is under way, done, or not yet due again."""
        if self._task is None and time.monotonic() >= self.again_at:
            self._ask()

    def get(self) -> Optional[Image]:
        """Return the image if it is here. Otherwise return None: `waiting` says why, and its wakeup comes when it is worth asking again."""
        held_back = self._task is None and self._wait_s and self._shown_until <= time.monotonic() < self.again_at
        if held_back and self.waiting[0] not in HOPELESS:
            self.waiting = ("ImagePullBackOff", f'Back-off pulling image "{self._container["image"]}": {self._why}')
        self.begin()
        if self._task is None or not self._task.done():
            return None
        task, self._task = self._task, None
        try:
            return self._pulled(task.result())
        except ImageFailure as failure:
            self._failed(failure)
        return None

    def _ask(self) -> None:
        image = self._container["image"]
        policy = self._container.get("imagePullPolicy") or default_policy(image)
        self._asked = policy != "Never" and not (policy == "IfNotPresent" and self._tools.images.local(image))
        if self._asked:
            self._say("Normal", "Pulling", f'Pulling image "{image}"')
        self._task = asyncio.ensure_future(self._tools.images.ensure(image, policy))
        self._task.add_done_callback(lambda _: self._done())

    def _pulled(self, image: Image) -> Image:
        name = self._container["image"]
        self._wait_s = 0.0
        if self._asked:
            took = duration(image.took_s)
            self._say(
                "Normal",
                "Pulled",
                f'Successfully pulled image "{name}" in {took} ({took} including waiting). Image size: {image.size_bytes} bytes.',
            )
        else:
            self._say("Normal", "Pulled", f'Container image "{name}" already present on machine and can be accessed by the pod')
        return image

    def _failed(self, failure: ImageFailure) -> None:
        settings, image = self._tools.settings, self._container["image"]
        self._wait_s = min(settings.backoff_most_s, self._wait_s * 2) if self._wait_s else settings.image_backoff_first_s
        now = time.monotonic()
        self.again_at, self._shown_until = now + self._wait_s, now + min(FAILURE_SHOWN_S, self._wait_s / 2)
        self._why = f"{failure.reason}: {failure}"
        self.waiting = (failure.reason, str(failure))
        self._say("Warning", "Failed", f'Failed to pull image "{image}": {failure}' if failure.reason == "ErrImagePull" else str(failure))
        self._say("Warning", "Failed", f"Error: {failure.reason}")
        if failure.reason == "ErrImagePull":
            self._say("Normal", "BackOff", f'Back-off pulling image "{image}"')

    def _say(self, kind: str, reason: str, message: str) -> None:
        self._tools.events.record(of_pod(self._pod, self._container["name"]), kind, reason, message)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def start(
    tools: Tools, pod: Object, found: Pod, container: Object, attempt: int, delay_s: float, image: Image, paths: Mapping[str, str]
) -> Container:
    """Raises NotStarted."""
    reference = of_pod(pod, container["name"])
    try:
        spec = await _spec(tools, pod, found, container, attempt, delay_s, image, paths)
    except (ConfigError, volumes.VolumeFailure, ValueError) as error:
        tools.events.record(reference, "Warning", "Failed", f"Error: {error}")
        raise NotStarted("CreateContainerConfigError", str(error)) from error
    except (Refused, Unreachable) as error:
        raise NotStarted("CreateContainerConfigError", str(error)) from error
    try:
        started = await tools.runtime.start(spec)
    except BadMount as error:
        tools.events.record(reference, "Warning", "Failed", f"Error: {error}")
        raise NotStarted("CreateContainerConfigError", str(error)) from error
    except StartRefused as error:
        tools.events.record(reference, "Normal", "Created", "Container created")
        tools.events.record(reference, "Warning", "Failed", f"Error: {error}")
        raise NotStarted("RunContainerError", str(error), ended=True) from error
    except RuntimeFailure as error:
        tools.events.record(reference, "Warning", "Failed", f"Error: {error}")
        raise NotStarted("CreateContainerError", str(error)) from error
    tools.events.record(reference, "Normal", "Created", "Container created")
    tools.events.record(reference, "Normal", "Started", "Container started")
    return started


async def _spec(
    tools: Tools, pod: Object, found: Pod, container: Object, attempt: int, delay_s: float, image: Image, paths: Mapping[str, str]
) -> ContainerSpec:
    """Return what the Runtime starts. Raises ConfigError, VolumeFailure or ValueError for what is wrong with it, Refused or Unreachable from the API."""
    uid, name = pod["metadata"]["uid"], container["name"]
    facts = PodFacts(pod_address(found, tools.host_ip), tools.host_ip, tools.allocatable)
    env = await environment.build(pod, container, facts, tools.fetch, await service_variables(tools, pod), paths)
    log_path = os.path.join(tools.logs_dir(pod), name, f"{attempt}.log")
    message = _message_file(tools, uid, name, attempt)
    files = podfiles.write(
        pod,
        os.path.join(tools.pod_dir(uid), "etc"),
        facts.pod_ip,
        _hostname(pod),
        tools.settings.cluster_dns,
        tools.settings.cluster_domain,
    )
    mounts = containers.mounts_of(
        container,
        paths,
        files,
        env,
        (message, container.get("terminationMessagePath") or containers.MESSAGE_PATH),
        volumes.read_only(pod),
        tools.recursive_read_only,
    )
    return containers.container_spec(
        pod,
        container,
        attempt,
        image,
        env,
        mounts,
        log_path=log_path,
        message_path=message,
        delay_s=delay_s,
        seccomp_default=tools.settings.seccomp_default,
        memory_bytes=tools.memory_bytes,
    )


def _hostname(pod: Object) -> str:
    return os.uname().nodename if pod["spec"].get("hostNetwork") else containers.hostname_of(pod)


def _message_file(tools: Tools, uid: str, name: str, attempt: int) -> str:
    path = os.path.join(tools.pod_dir(uid), "messages", f"{name}-{attempt}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w"):
        pass
    os.chmod(path, 0o666)
    return path


async def service_variables(tools: Tools, pod: Object) -> Dict[str, str]:
    """Return the variables for the Services that exist now. A pod that does not want them gets only the API's own. No answer is no failure."""
    namespace = pod["metadata"]["namespace"]
    found: List[Object] = []
    try:
        if pod["spec"].get("enableServiceLinks", True):
            found = (await tools.api.get(f"/api/v1/namespaces/{namespace}/services", timeout_s=2.0)).get("items") or []
        if not any(each["metadata"]["name"] == "kubernetes" for each in found) or namespace != "default":
            found = [await tools.api.get("/api/v1/namespaces/default/services/kubernetes", timeout_s=2.0), *found]
    except (Refused, Unreachable, KeyError):
        pass
    return environment.of_services(found)


async def post_start(tools: Tools, pod: Object, container: Object, started: Container, address: str) -> str:
    """Run the postStart hook. Return why it failed, and the container must be killed; "" if it went well."""
    action = (container.get("lifecycle") or {}).get("postStart")
    if not action:
        return ""

    async def run(command: List[str], timeout_s: float) -> Any:
        return await tools.runtime.run(started.id, command, timeout_s=timeout_s)

    try:
        good, why = await act(action, container, address, run, POST_START_MOST_S)
    except (RuntimeFailure, OSError) as error:
        good, why = False, str(error)
    if good:
        return ""
    # what a hook said stays out of the Event, which more people may read than the pod
    tools.events.record(of_pod(pod, container["name"]), "Warning", "FailedPostStartHook", "PostStartHook failed")
    return why or "the hook failed"
