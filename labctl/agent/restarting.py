"""RestartAllContainers (KEP-5532): one container's end makes all containers of its pod begin again, init containers first, in the sandbox and with the volumes
that the pod has.

    a container ends, and a rule of its says so ─► the attempts up to now are void (written down) ─► those that run are killed ─► the pod starts as if it were new

Used by the pod's worker. The file is what an agent that was killed in between goes on from. Void attempts stay on record, for `logs --previous`.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from .backoff import RESTART_ALL, matches
from .runtime.interface import Container, Pod, State
from .runtime.records import read_json, write_json
from .tools import Tools

Object = Dict[str, Any]
_FILE = "restart.json"


class RestartAll:
    """Of one pod. `pod` answers what the API says now; `look_again` is asked for a later look."""

    def __init__(self, tools: Tools, pod: Callable[[], Object], look_again: Callable[[float], None]) -> None:
        self._tools, self._pod, self._look_again = tools, pod, look_again
        self._path = os.path.join(tools.pod_dir(pod()["metadata"]["uid"]), _FILE)
        self._last: Object = read_json(self._path) or {}

    def seen(self, found: Pod) -> Pod:
        """Returns what the machine has, with the void attempts marked as to begin again. This is where an end is noticed that makes them void."""
        if not self._possible():
            return found
        ended = next(self._ended(found), None)
        if ended is not None:
            self._begin(found, ended)
        void = self._last.get("void") or {}
        marked = tuple(
            dataclasses.replace(each, again=True) if each.attempt <= void.get(each.name, -1) else each for each in found.containers
        )
        return dataclasses.replace(found, containers=marked)

    @property
    def turn(self) -> Object:
        """What all containers began again for last: another object when they shall begin again. Who decided before that must look again."""
        return self._last

    def _possible(self) -> bool:
        pod = self._pod()
        return not pod["metadata"].get("deletionTimestamp") and any(_asks(each) for each in _containers(pod))

    def _ended(self, found: Pod) -> Iterator[Container]:
        """Yields containers of the pod's present life whose end asks for a new one."""
        void = self._last.get("void") or {}
        for spec in _containers(self._pod()):
            latest = found.latest(spec["name"])
            if latest and latest.state is State.EXITED and not latest.earlier_boot and latest.attempt > void.get(latest.name, -1):
                rule = next((each for each in spec.get("restartPolicyRules") or () if matches(each, latest.exit_code)), None)
                if rule is not None and rule["action"] == RESTART_ALL:
                    yield latest

    def _begin(self, found: Pod, ended: Container) -> None:
        ran_s = max(0.0, ended.finished_s - ended.started_s) if ended.started_s else 0.0
        delay_s = self._tools.backoff.after(ended.attempt, self._last.get("delay_s", 0.0), ran_s)
        latest = [found.latest(each["name"]) for each in _containers(self._pod())]
        self._last = {
            "void": {each.name: each.attempt for each in latest if each},
            "delay_s": delay_s,
            "until_s": ended.finished_s + delay_s,
            "why": f"Container {ended.name} exited with code {ended.exit_code}, triggering pod restart",
        }
        write_json(self._path, self._last)

    async def cleared(self, found: Pod) -> bool:
        """Kills void attempts that still run, without hooks or grace. Returns True when the containers may begin again."""
        running = _void(found)
        for each in running:
            await self._tools.runtime.signal(each.id, signal.SIGKILL)
        left_s = self._last.get("until_s", 0.0) - time.time()
        if not running and left_s > 0 and any(each.again for each in found.containers):
            self._look_again(left_s)
            return False
        return not running

    def condition(self, found: Pod) -> Optional[Tuple[bool, str, str]]:
        """The pod's condition, which only pods have that may be restarted so: True while void attempts run."""
        if not any(_asks(each) for each in _containers(self._pod())):
            return None
        return (True, "ContainerExited", self._last.get("why", "")) if _void(found) else (False, "", "")


def _containers(pod: Object) -> List[Object]:
    return [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]


def _asks(container: Object) -> bool:
    return any(rule.get("action") == RESTART_ALL for rule in container.get("restartPolicyRules") or ())


def _void(found: Pod) -> List[Container]:
    return [each for each in found.containers if each.again and each.state is State.RUNNING]
