"""The end of containers, in order: drained, preStop, the stop signal, and SIGKILL when the grace is over.

Who calls it: the pod's worker, for a pod that is deleted and for one container that failed its liveness probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import Any, Awaitable, Callable, Dict, List, Sequence, Tuple

from .deadlines import wait_for
from .events import of_pod
from .hooks import act
from .runtime.interface import Container, RuntimeFailure, State
from .signals import number_of
from .titles import pod_title
from .tools import Tools
from .wakeup import Wakeup

Object = Dict[str, Any]
DRAINED = "labctl.internal/Drained"
AFTER_KILL_S = 10.0
MINIMUM_S = 2.0


class Deadline:
    """A moment of the monotonic clock. A later request for less time moves it forward, and none moves it back."""

    def __init__(self, grace_s: float) -> None:
        self.at = time.monotonic() + grace_s
        self.forced = False  # no time at all was asked for later

    def shorten(self, grace_s: float) -> None:
        self.at = min(self.at, time.monotonic() + grace_s)
        self.forced = self.forced or grace_s <= 0

    @property
    def left_s(self) -> float:
        return max(0.0, self.at - time.monotonic())


def is_drained(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == DRAINED and each["status"] == "True" for each in conditions)


async def drained(pod: Callable[[], Object], wakeup: Wakeup, most_s: float) -> None:
    """Wait until no proxy leads to the pod any more, or for `most_s` seconds."""
    deadline = Deadline(most_s)
    while not is_drained(pod()) and deadline.left_s:
        await wakeup.wait(deadline.left_s)


async def stop(
    tools: Tools,
    pod: Object,
    spec: Object,
    container: Container,
    deadline: Deadline,
    wakeup: Wakeup,
    address: str,
    message: str,
    before: Sequence[asyncio.Event] = (),
) -> None:
    """Stop one container; it is dead on return. Its signal waits until all of `before` have come; its preStop hook does not.

    If waiting took the whole grace period, the program has 2 s to end after its signal, as the kubelet gives it; not if it must go at once.
    """
    had_s = deadline.left_s
    tools.events.record(of_pod(pod, container.name), "Normal", "Killing", message)
    await _pre_stop(tools, pod, spec, container, deadline, address)
    await _all_came(before, deadline)
    if await _gone(tools, container, wakeup, Deadline(0)):
        return
    if had_s and not deadline.left_s and not deadline.forced:
        deadline = Deadline(MINIMUM_S)
    with contextlib.suppress(asyncio.TimeoutError):  # it may wait for a program that only just began
        await wait_for(tools.runtime.signal(container.id, number_of(container.stop_signal)), deadline.left_s)
    if not await _gone(tools, container, wakeup, deadline):
        await tools.runtime.signal(container.id, signal.SIGKILL)
        await _gone(tools, container, wakeup, Deadline(AFTER_KILL_S))


async def _pre_stop(tools: Tools, pod: Object, spec: Object, container: Container, deadline: Deadline, address: str) -> None:
    action = (spec.get("lifecycle") or {}).get("preStop")
    if not action or not deadline.left_s:
        return

    async def run(command: List[str], timeout_s: float) -> Any:
        return await tools.runtime.run(container.id, command, timeout_s=timeout_s)

    try:
        good, why = await _within(act(action, spec, address, run, deadline.left_s), deadline)
    except (RuntimeFailure, OSError) as error:
        good, why = False, str(error)
    if not good:
        # what a hook said stays out of the Event, which more people may read than the pod
        tools.events.record(of_pod(pod, container.name), "Warning", "FailedPreStopHook", "PreStopHook failed")
        tools.say(f"preStop hook of {container.name} in pod {pod_title(pod)}: {why}")


async def _within(hook: Awaitable[Tuple[bool, str]], deadline: Deadline) -> Tuple[bool, str]:
    """Return the hook's result. It is given up at the deadline, which may be moved forward while the hook runs."""
    task = asyncio.ensure_future(hook)
    try:
        while not task.done() and deadline.left_s:
            await asyncio.wait({task}, timeout=min(deadline.left_s, 0.5))
        return task.result() if task.done() else (False, "the pod's time to end is over")
    finally:
        task.cancel()


async def _gone(tools: Tools, container: Container, wakeup: Wakeup, deadline: Deadline) -> bool:
    while True:
        found = tools.runtime.pods(container.pod_uid).get(container.pod_uid)
        if found is None or all(each.id != container.id or each.state is State.EXITED for each in found.containers):
            return True
        if not deadline.left_s:
            return False
        await wakeup.wait(min(deadline.left_s, 1.0))  # the wakeup tells; a look each second costs nothing, and an exit is never missed


async def stop_all(
    tools: Tools, pod: Callable[[], Object], running: List[Container], deadline: Deadline, wakeup: Wakeup, address: str, sidecars: List[str]
) -> None:
    """Stop a pod's containers together, then its sidecars, the last one first. All preStop hooks begin at once (KEP-753)."""
    specs = {each["name"]: each for each in (pod()["spec"].get("initContainers") or []) + pod()["spec"]["containers"]}

    async def one(container: Container) -> None:
        spec = specs.get(container.name, {})
        before = [ended[each.id] for each in running if rank[each.name] < rank[container.name]]
        try:
            await stop(tools, pod(), spec, container, deadline, wakeup, address, f"Stopping container {container.name}", before)
        finally:
            ended[container.id].set()

    ended = {each.id: asyncio.Event() for each in running}
    rank = {each.name: len(sidecars) - sidecars.index(each.name) if each.name in sidecars else 0 for each in running}
    await asyncio.gather(*(one(each) for each in running))


async def _all_came(events: Sequence[asyncio.Event], deadline: Deadline) -> None:
    """Wait until all events have come, or until the deadline, which may be moved forward meanwhile."""
    for event in events:
        while not event.is_set() and deadline.left_s:
            with contextlib.suppress(asyncio.TimeoutError):
                await wait_for(event.wait(), min(deadline.left_s, 0.5))
