"""Containers of hollow nodes: they are killed, stopped and probed, and started again, as an agent and its runtime would do it.

A pod's containers are known by name only (`Running`). A container that is dead refuses connections; one that is stopped (SIGSTOP) accepts them and never
answers, so only a probe over HTTP or gRPC notices it: the kernel accepts TCP connections for it, and what `exec` starts is another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from labctl.reconcile.plan import Key
from labctl.resources.kinds.core_v1.pod_view import Pod

if TYPE_CHECKING:
    from labctl.sim.hollow import HollowNode

AGAIN_FIRST_S, AGAIN_MOST_S = 10.0, 300.0
"""A container that ended is started again at once, after its second end after 10 s, and so on, twice as long each time: the kubelet's back-off."""
KILLED = 137
NOTICED_BY = ("httpGet", "grpc")


class Running(msgspec.Struct):
    """A pod that really runs, and in what state its containers are."""

    key: Key
    uid: str
    ip: str
    restarts: tuple[str, ...] = ()  # the name of each container that was started again, in order
    dead: frozenset[str] = frozenset()  # containers that ended and do not run again yet
    stopped: frozenset[str] = frozenset()  # containers whose processes have got SIGSTOP
    failing: frozenset[str] = frozenset()  # containers whose readiness probe fails

    @property
    def ready(self) -> bool:
        return not self.dead and not self.failing


class Containers:
    """The containers of one hollow node."""

    def __init__(self, node: HollowNode) -> None:
        self._node = node

    def kill(self, uid: str, name: str) -> None:
        """Kill a container. It is started again where it is, if its pod's policy says so."""
        there = self._node.running.get(uid)
        if there is None or name in there.dead:
            return
        there.dead |= {name}
        there.stopped -= {name}
        there.failing -= {name}
        self._node.spawn(self._again(there, name))

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

    async def _again(self, there: Running, name: str) -> None:
        await self._node.wait(self._node.settings.noticed_s)
        pod: Pod | None = self._node.known(there.uid)
        if pod is not None and pod.spec.restart_policy == "Never":
            await self._node.end_pod(pod, KILLED)
            return
        await self._node.report(there.key, there.uid)
        ends = there.restarts.count(name)
        if ends:
            await self._node.wait((min(AGAIN_MOST_S, AGAIN_FIRST_S * 2 ** min(ends - 1, 10)),) * 2)
        await self._node.wait(self._node.settings.start_s)
        if self._node.running.get(there.uid) is not there:
            return
        there.restarts += (name,)
        there.dead -= {name}
        self._node.note(there, "started", f"Container started: {name}")
        await self._node.report(there.key, there.uid)

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
