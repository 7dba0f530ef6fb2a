"""Containers of hollow nodes: they are killed, end by themselves, are stopped and probed, and started again, as an agent and its runtime would do it.

A pod's containers are known by name only (`Running`). A container that is dead refuses connections; one that is stopped (SIGSTOP) accepts them and never
answers, so only a probe over HTTP or gRPC notices it: the kernel accepts TCP connections for it, and what `exec` starts is another process.
Whether and when one that ended is started again is the agent's own rule (agent/backoff.py). What its status says meanwhile is held together with the agent's
by a contract test (tests/contract/test_container_faults.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.agent.attempts import ENDED_SHOWN_S
from labctl.agent.backoff import Backoff, should_restart
from labctl.agent.status import restart_policy
from labctl.agent.times import duration
from labctl.agent.titles import pod_title
from labctl.reconcile.plan import Key
from labctl.resources.kinds.core_v1.pod_view import Pod

if TYPE_CHECKING:
    from labctl.sim.hollow import HollowNode

BACKOFF = Backoff()
KILLED = 137
NOTICED_BY = ("httpGet", "grpc")


class End(msgspec.Struct, frozen=True, gc=False):
    """How one run of a container ended."""

    code: int
    began: str  # as the API writes times
    finished: str
    delay_s: float  # the back-off before its next run
    container_id: str

    def state(self) -> dict[str, Any]:
        reason = "Error" if self.code else "Completed"
        times = {"startedAt": self.began, "finishedAt": self.finished}
        return {"terminated": {"exitCode": self.code, "reason": reason, "containerID": self.container_id, **times}}


class Began(msgspec.Struct, frozen=True, gc=False):
    """When a container's last run began."""

    at_s: float
    time: str  # as the API writes times


_NONE: Mapping[str, Any] = MappingProxyType({})


class Running(msgspec.Struct):
    """A pod that really runs, and in what state its containers are."""

    key: Key
    uid: str
    ip: str
    began: Began = Began(0.0, "")  # when its containers were started first
    restarts: tuple[str, ...] = ()  # the name of each container that was started again, in order
    dead: frozenset[str] = frozenset()  # containers that ended and do not run again yet
    over: frozenset[str] = frozenset()  # those of them that are never started again
    stopped: frozenset[str] = frozenset()  # containers whose processes have got SIGSTOP
    failing: frozenset[str] = frozenset()  # containers whose readiness probe fails
    again: Mapping[str, Began] = _NONE  # when those began that were started again
    ends: Mapping[str, tuple[End, ...]] = _NONE  # of each container that ended, the last two ends
    waits: Mapping[str, str] = _NONE  # why a container that ended waits

    @property
    def ready(self) -> bool:
        return not self.dead and not self.failing

    def statuses(self, pod: Pod | None) -> list[dict[str, Any]]:
        """Return the statuses of its containers, as an agent writes them."""
        return [self._status(each.name, each.image) for each in (pod.spec.containers if pod is not None else ())]

    def container_id(self, name: str) -> str:
        return f"hollow://{self.uid}/{name}/{self.restarts.count(name)}"

    def began_of(self, name: str) -> Began:
        return self.again.get(name, self.began)

    def _status(self, name: str, image: str) -> dict[str, Any]:
        ends, dead = self.ends.get(name, ()), name in self.dead
        state: dict[str, Any] = {"running": {"startedAt": self.began_of(name).time}}
        last = ends[-1:]
        if name in self.waits:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": self.waits[name]}}
        elif dead:
            state, last = ends[-1].state(), ends[:-1]
        return {
            "name": name,
            "image": image,
            "imageID": "",
            "containerID": self.container_id(name),
            "ready": not dead and name not in self.failing,
            "started": not dead,
            "restartCount": self.restarts.count(name),
            "state": state,
            "lastState": last[0].state() if last else {},
        }


class Containers:
    """The containers of one hollow node."""

    def __init__(self, node: HollowNode) -> None:
        self._node = node

    def kill(self, uid: str, name: str) -> None:
        """Kill a container. It is started again where it is, if its policy says so."""
        self.end(uid, name, KILLED)

    def end(self, uid: str, name: str, code: int) -> None:
        """Let a container's first process end with this exit code."""
        there = self._node.running.get(uid)
        if there is None or name in there.dead:
            return
        before, began = there.ends.get(name, ())[-1:], there.began_of(name)
        kept_s = before[0].delay_s if before else 0.0
        delay_s = BACKOFF.after(there.restarts.count(name), kept_s, self._node.now() - began.at_s)
        ended = End(code, began.time, self._node.time(), delay_s, there.container_id(name))
        there.ends = {**there.ends, name: (*before, ended)}
        there.dead |= {name}
        there.stopped -= {name}
        there.failing -= {name}
        self._node.spawn(self._again(there, name, ended))

    def stop(self, uid: str, name: str) -> None:
        """Stop a container's processes. Nothing but its probes notices that."""
        there = self._node.running.get(uid)
        if there is None or name in there.dead or name in there.stopped:
            return
        there.stopped |= {name}
        container = self._spec(there.key, name)
        readiness, liveness = container.get("readinessProbe") or {}, container.get("livenessProbe") or {}
        if _is_noticed(readiness):
            self._node.spawn(self._probe_readiness(there, name, readiness))
        if _is_noticed(liveness):
            self._node.spawn(self._probe_liveness(there, name, liveness))

    def go_on(self, uid: str, name: str) -> None:
        """Let a stopped container's processes go on."""
        if uid in self._node.running:
            self._node.running[uid].stopped -= {name}

    async def _again(self, there: Running, name: str, ended: End) -> None:
        ended_s = self._node.now()
        await self._node.wait(self._node.settings.noticed_s)
        pod = self._node.raw_pod(there.key) or {}
        if pod and not should_restart(restart_policy(pod, self._spec(there.key, name), ended.code), ended.code):
            await self._is_over(there, name)
            return
        await self._node.report(there.key, there.uid)
        if ended.delay_s and pod:
            await self._wait_until(ended_s + min(ENDED_SHOWN_S, ended.delay_s / 2))
            why = f"back-off {duration(ended.delay_s)} restarting failed container={name} pod={pod_title(pod)}"
            there.waits = {**there.waits, name: why}
            await self._node.report(there.key, there.uid)
            await self._wait_until(ended_s + ended.delay_s)
        await self._node.wait(self._node.settings.start_s)
        if self._node.running.get(there.uid) is not there:
            return
        there.restarts += (name,)
        there.dead -= {name}
        there.again = {**there.again, name: Began(self._node.now(), self._node.time())}
        there.waits = {other: why for other, why in there.waits.items() if other != name}
        self._node.note(there, "started", f"Container started: {name}")
        await self._node.report(there.key, there.uid)

    async def _is_over(self, there: Running, name: str) -> None:
        """A container is never started again. The pod has ended with the last of them."""
        there.over |= {name}
        pod: Pod | None = self._node.known(there.uid)
        if pod is None or any(each.name not in there.over for each in pod.spec.containers):
            await self._node.report(there.key, there.uid)
            return
        codes = [there.ends[each.name][-1].code for each in pod.spec.containers]
        await self._node.end_pod(pod, next(filter(None, codes), 0), there.statuses(pod))

    async def _wait_until(self, moment_s: float) -> None:
        await self._node.wait((max(0.0, moment_s - self._node.now()),) * 2)

    async def _probe_readiness(self, there: Running, name: str, probe: dict[str, Any]) -> None:
        """Ask as the agent does until the container answers as often as the probe wants; meanwhile it may have become not ready."""
        needed, failed, good = probe.get("successThreshold", 1), 0, 0
        await self._node.wait((0.0, _period_s(probe)))
        while self._holds(there, name):
            answered = await self._answers(there, name, probe)
            failed, good = (0, good + 1) if answered else (failed + 1, 0)
            if good >= needed:
                break
            if not answered:
                self._node.note(there, "probe", f"Readiness probe failed: {name} did not answer in time")
            if failed >= probe.get("failureThreshold", 3) and name not in there.failing:
                there.failing |= {name}
                await self._node.report(there.key, there.uid)
            await self._until_next(answered, probe)
        if name in there.failing and self._holds(there, name):
            there.failing -= {name}
            await self._node.report(there.key, there.uid)

    async def _probe_liveness(self, there: Running, name: str, probe: dict[str, Any]) -> None:
        """Kill the container after as many failures as the probe allows. SIGTERM says nothing to a stopped process, so the grace period passes first."""
        await self._node.wait((0.0, _period_s(probe)))
        for left in reversed(range(probe.get("failureThreshold", 3))):
            if not self._holds(there, name) or await self._answers(there, name, probe):
                return
            if left:
                await self._until_next(False, probe)
        pod = self._node.known(there.uid)
        grace = probe.get("terminationGracePeriodSeconds") or (pod.spec.termination_grace_period_seconds if pod is not None else None)
        await self._node.wait((float(30 if grace is None else grace),) * 2)
        if self._holds(there, name) and name in there.stopped:
            self.kill(there.uid, name)

    async def _answers(self, there: Running, name: str, probe: dict[str, Any]) -> bool:
        """Probe once: a stopped container does not answer, unless it goes on before the probe's timeout."""
        if name in there.stopped:
            await self._node.wait((_timeout_s(probe),) * 2)
        return name not in there.stopped

    async def _until_next(self, answered: bool, probe: dict[str, Any]) -> None:
        """Wait until the next probe begins. The period counts from one begin to the next."""
        await self._node.wait((max(0.001, _period_s(probe) - (0.0 if answered else _timeout_s(probe))),) * 2)

    def _holds(self, there: Running, name: str) -> bool:
        return self._node.running.get(there.uid) is there and name not in there.dead

    def _spec(self, key: Key, name: str) -> dict[str, Any]:
        pod = self._node.raw_pod(key) or {}
        found: list[dict[str, Any]] = [each for each in pod.get("spec", {}).get("containers", ()) if each.get("name") == name]
        return found[0] if found else {}


def _is_noticed(probe: dict[str, Any]) -> bool:
    return any(kind in probe for kind in NOTICED_BY)


def _period_s(probe: dict[str, Any]) -> float:
    return float(probe.get("periodSeconds", 10))


def _timeout_s(probe: dict[str, Any]) -> float:
    return float(probe.get("timeoutSeconds", 1))
