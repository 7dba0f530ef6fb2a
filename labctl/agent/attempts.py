"""The containers of one pod, from attempt to attempt: what each waits for, when it is started again, and what is said of it meanwhile.

Used by the pod's worker, which asks it to `keep` a container each time it has a look. Remembered here is only what dies with the agent without harm: how long
an ended container backs off lies in its record on the machine.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from .backoff import should_restart
from .events import of_pod
from .images import Image
from .runtime.interface import Container, Pod, State
from .starting import ImagePull, NotStarted, start
from .times import duration
from .titles import pod_title
from .tools import Tools
from .wakeup import Wakeup

Object = Dict[str, Any]
NEARLY_S = 0.05  # an image that is in the store is here in milliseconds: worth a moment
JUST_AFTER_S = 0.005
ENDED_SHOWN_S = 5.0
"""How long, in seconds, a container that backs off is shown as ended, with its exit code, before it is shown as waiting. Clients ask every few seconds."""


class Attempts:
    """`pod` and `found` answer what the API and the machine say now; `look_again` is asked for a later look. `waiting`: container -> (reason, message)."""

    def __init__(
        self, tools: Tools, pod: Callable[[], Object], found: Callable[[], Pod], wakeup: Wakeup, look_again: Callable[[float], None]
    ) -> None:
        self._tools, self._pod, self._found, self._wakeup, self._look_again = tools, pod, found, wakeup, look_again
        self.waiting: Dict[str, Tuple[str, str]] = {}
        self._pulls: Dict[str, ImagePull] = {}
        self._retry_at: Dict[str, float] = {}  # container -> when a failed start may be tried again (monotonic)
        self._failed: Dict[str, int] = {}
        self._hooks: Dict[str, Tuple[str, str]] = {}  # container -> the id of the attempt whose postStart hook failed, and why
        self.prompt: Callable[[Container], bool] = lambda _ended: False  # whether it ended to begin again at once, whatever its policy
        self.held: Callable[[], bool] = lambda: False  # whether the pod's containers shall all begin again since the worker looked

    def pull(self, container: Object) -> None:
        """Begin to fetch its image, unless its start failed a moment ago."""
        if container["name"] not in self._retry_at:
            self._pull(container).begin()

    def cancel(self) -> None:
        """Stop fetching for the pod, because it is being deleted."""
        for pull in self._pulls.values():
            pull.cancel()

    def hook_failed(self, container: Container, why: str) -> None:
        """Remember why a container is killed that had only just begun: it is told until the container backs off."""
        self._hooks[container.name] = container.id, why

    def forget_waiting(self, found: Pod) -> None:
        """Nothing is started any more: a container that ended is shown as ended, not as waiting for its next attempt."""
        for name in [name for name in self.waiting if found.latest(name)]:
            del self.waiting[name]

    async def keep(self, container: Object, policy: str, volumes: Dict[str, str], after: Sequence[Object] = ()) -> Optional[Container]:
        """See to it that the container runs, or ended for good, or waits with a reason. The container, if it was started just now.

        It is not started while the image of one of those that it comes after is on its way.
        """
        name = container["name"]
        latest = self._found().latest(name)
        if latest and (latest.state is State.RUNNING or (latest.state is State.EXITED and not self._again(policy, latest))):
            self.waiting.pop(name, None)
            return None
        if self._void():
            return None
        attempt, delay_s = self._next(latest)
        if latest and latest.state is State.EXITED and self._backs_off(name, latest, delay_s):
            return None
        if any(each["name"] in self._pulls and self._pulls[each["name"]].under_way for each in after):
            self.pull(container)
            return None
        return await self._start(container, attempt, delay_s, volumes)

    def _void(self) -> bool:
        """Tell whether what the worker decided is void by now. Then it looks again."""
        void = self.held()
        if void:
            self._wakeup.wake()
        return void

    def _again(self, policy: str, ended: Container) -> bool:
        return self.prompt(ended) or should_restart(policy, ended.exit_code)

    def _next(self, latest: Optional[Container]) -> Tuple[int, float]:
        """Return the number of the attempt that is due, and the back-off before it in seconds."""
        if latest is None:
            return 0, 0.0
        if latest.state is State.CREATED:
            return latest.attempt, latest.delay_s
        ran_s = max(0.0, latest.finished_s - latest.started_s) if latest.started_s else 0.0
        at_once = latest.lost or latest.earlier_boot or self.prompt(latest)
        return latest.attempt + 1, 0.0 if at_once else self._tools.backoff.after(latest.attempt, latest.delay_s, ran_s)

    def _backs_off(self, name: str, latest: Container, delay_s: float) -> bool:
        left_s = latest.finished_s + delay_s - time.time()
        if left_s <= 0:
            return False
        shown_s = latest.finished_s + min(ENDED_SHOWN_S, delay_s / 2) - time.time()
        if shown_s > 0:
            if self._hooks.get(name, ("", ""))[0] == latest.id:
                self.waiting[name] = ("PostStartHookError", self._hooks[name][1])
            self._look_again(shown_s + JUST_AFTER_S)
            return True
        title = pod_title(self._pod())
        if self.waiting.get(name, ("", ""))[0] != "CrashLoopBackOff":
            message = f"Back-off restarting failed container {name} in pod {title}"
            self._tools.events.record(of_pod(self._pod(), name), "Warning", "BackOff", message)
        self.waiting[name] = ("CrashLoopBackOff", f"back-off {duration(delay_s)} restarting failed container={name} pod={title}")
        self._look_again(left_s + JUST_AFTER_S)
        return True

    async def _start(self, container: Object, attempt: int, delay_s: float, volumes: Dict[str, str]) -> Optional[Container]:
        name = container["name"]
        left_s = self._retry_at.get(name, 0.0) - time.monotonic()
        if left_s > 0:
            self._look_again(left_s + JUST_AFTER_S)
            return None
        image = await self._image(container)
        if image is None:
            return None
        if self._void():
            return None
        try:
            started = await start(self._tools, self._pod(), self._found(), container, attempt, delay_s, image, volumes)
        except NotStarted as why:
            if why.ended:
                self._start_refused(name, why)
            else:
                self._start_failed(name, why)
            return None
        for memory in (self.waiting, self._failed, self._retry_at):
            memory.pop(name, None)
        await self._forget_older(name, attempt)
        return started

    def _start_refused(self, name: str, why: NotStarted) -> None:
        """Record the attempt as one whose program has ended. The next look decides whether there is another attempt, and when."""
        self.waiting[name] = (why.reason, str(why))
        self._look_again(JUST_AFTER_S)

    def _start_failed(self, name: str, why: NotStarted) -> None:
        """Tried again soon, then ever later: what is missing (a ConfigMap, a file) often comes a moment after."""
        count = self._failed[name] = self._failed.get(name, 0) + 1
        settings = self._tools.settings
        wait_s = min(settings.backoff_most_s, settings.start_retry_s * 2 ** min(count - 1, 10))
        self.waiting[name] = (why.reason, str(why))
        self._retry_at[name] = time.monotonic() + wait_s
        self._look_again(wait_s + JUST_AFTER_S)

    async def _forget_older(self, name: str, attempt: int) -> None:
        """Forget all dead attempts but one, which is kept for lastState and `logs --previous`."""
        for each in self._found().containers:
            if each.name == name and each.attempt < attempt - 1 and each.created_s:
                await self._tools.runtime.remove(each.id)

    # -- images

    def _pull(self, container: Object) -> ImagePull:
        pull = self._pulls.get(container["name"])
        if pull is None:
            pull = self._pulls[container["name"]] = ImagePull(self._tools, self._pod(), container, self._wakeup.wake)
        return pull

    async def volume_image(self, volume: Object) -> Optional[Image]:
        """Return the image that is a volume of the pod, or None while it is not here. Then its containers wait, for that reason."""
        asked, name = volume["image"], f"volume {volume['name']}"
        image: Optional[Image] = await self._image(
            {"name": name, "image": asked.get("reference") or "", "imagePullPolicy": asked.get("pullPolicy")}
        )
        why = self.waiting.pop(name, None)
        if image is None and why is not None:
            spec = self._pod()["spec"]
            for each in (*(spec.get("initContainers") or ()), *spec["containers"]):
                if self._found().latest(each["name"]) is None:
                    self.waiting[each["name"]] = why
        return image

    async def _image(self, container: Object) -> Any:
        """Return the image, after a short wait for one that is nearly here, or None while it is not."""
        image = self._image_now(container)
        if image is None and self._pulls[container["name"]].waiting[0] == "ContainerCreating":
            await self._wakeup.wait(NEARLY_S)
            image = self._image_now(container)
        return image

    def _image_now(self, container: Object) -> Any:
        name = container["name"]
        pull = self._pull(container)
        image = pull.get()
        if image is not None:
            del self._pulls[name]
            return image
        self.waiting[name] = pull.waiting
        left_s = pull.look_at - time.monotonic()
        if left_s > 0:
            self._look_again(left_s + JUST_AFTER_S)
        return None
