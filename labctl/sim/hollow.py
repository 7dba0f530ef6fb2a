"""Hollow nodes: agents and their machines, with no machine. They know the master only through Resources, as an agent does through the API.

What really runs on a node is `running`, kept apart from everything that is written into the API, and checkers compare the two. A node can lose power
(everything on it is gone at once), fall silent (it still runs, but nothing reaches it or comes from it) and come back. A fleet (fleet.py) keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labctl.clock import rfc3339, rfc3339_micro
from labctl.controllers.conditions import plain
from labctl.errors import LabctlError
from labctl.reconcile.plan import Key
from labctl.resources.conditions import with_condition
from labctl.resources.isolation import NETWORK_READY, in_force, pending
from labctl.resources.kinds.coordination_v1.lease import HEARD
from labctl.resources.kinds.core_v1.persistentvolume import LOCAL_DATA, PersistentVolume
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.resource_rules import extended
from labctl.resources.kinds.shared import condition_status
from labctl.resources.plurals import LEASES, VOLUMES
from labctl.sim import statuses
from labctl.sim.containers import KILLED, Began, Containers, Running
from labctl.sim.links import MASTER
from labctl.sim.objects import condition

if TYPE_CHECKING:
    from labctl.sim.fleet import Fleet
    from labctl.sim.settings import HollowSettings

ENDS = "sim.labctl.internal/ends"
"""An annotation of a pod: after how many seconds its only container ends, and with which exit code: `2.5 0`. Without it a pod runs until it is deleted."""


class HollowNode:
    """One machine with its agent."""

    def __init__(self, fleet: Fleet, name: str, number: int) -> None:
        self.name = name
        self.running: dict[str, Running] = {}  # by uid: what really runs
        self.powered = self.heard = True
        self.boots = 0
        self.fenced = False  # whether a proxy writes this machine's rules, so that pods wait for those of their policies
        self._networks: dict[str, str] = {}  # by uid: the addresses of pods that wait so
        self.containers = Containers(self)
        self._fleet = fleet
        self._number = number
        self._addresses = 0
        self._busy: set[str] = set()  # uids being started or stopped
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._reached = True  # whether it reached the master when the links changed last
        self._heard_at: dict[str, float] = {}  # peer -> when it was heard last

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    @property
    def address(self) -> str:
        return f"10.{64 + self._number // 250}.{self._number % 250 + 1}.1"

    @property
    def pod_prefix(self) -> str:
        """Return how the addresses of its pods begin."""
        return f"10.{128 + self._number // 256}.{self._number % 256}."

    @property
    def speaks(self) -> bool:
        return self.powered and self.heard and self._fleet.answered and self._fleet.links.open(self.name, MASTER)

    # -- the machine -------------------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        self.powered, self.heard = True, True
        self.boots += 1
        self.spawn(self._live(self.boots))

    def power_off(self) -> None:
        """Cut the machine's power: everything that runs on it ends at once. The provider reports it a moment later."""
        self.powered = False
        self.running.clear()
        self._networks.clear()
        self._busy.clear()
        for task in tuple(self._tasks):
            task.cancel()
        self._tasks.clear()

    def fall_silent(self) -> None:
        self.heard = False

    def speak_again(self) -> None:
        self.heard = True
        self.spawn(self._report_in())

    def links_changed(self) -> None:
        """Report in when the master can be reached again."""
        reached = self._fleet.answered and self._fleet.links.open(self.name, MASTER)
        if reached and not self._reached and self.speaks:
            self.spawn(self._report_in())
        self._reached = reached

    def hears(self, other: HollowNode) -> bool:
        """Tell whether the heartbeats of another node arrive here."""
        return self.powered and self.heard and other.powered and other.heard and self._fleet.links.open(self.name, other.name)

    # -- the agent ---------------------------------------------------------------------------------------------------------------------

    async def _live(self, boot: int) -> None:
        """Registers the node, looks which pods belong to it, then renews the lease until it is cancelled."""
        await self._report_in()
        while self.boots == boot:
            self._listen()
            await asyncio.sleep(self._fleet.settings.lease_s)
            if self._fleet.delay is not None:
                await asyncio.sleep(self._fleet.delay())
            self._listen()
            await self._write(self._renew)

    def _listen(self) -> None:
        """Note which peers are heard now. Heartbeats themselves are not simulated here: sim/detector.py does that."""
        fleet, now = self._fleet, self._fleet.clock.now()
        for peer in fleet.peers(self.name):
            if self.hears(fleet.nodes[peer]):
                self._heard_at[peer] = now

    def _heard(self) -> dict[str, str]:
        now, mine = self._fleet.clock.now(), self._fleet.peers(self.name)
        said = " ".join(f"{peer}={now - self._heard_at[peer]:.1f}" for peer in mine if peer in self._heard_at)
        return {HEARD: said} if said else {}

    async def _report_in(self) -> None:
        await self._write(self._register)
        await self._write(self._renew)
        self._look_again()

    async def _register(self) -> None:
        client = self._fleet.client
        if client.get("nodes", self.name) is None:
            await client.create("nodes", {"metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}}})
        await client.patch("nodes", self.name, {"status": self._status()}, "status")

    def _status(self) -> dict[str, Any]:
        return statuses.of_node(self.name, self.address, self.boot_id, self._fleet.settings, self.time())

    async def _renew(self) -> None:
        client, key = self._fleet.client, f"kube-node-lease/{self.name}"
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": rfc3339_micro(self._fleet.clock.wall())}
        if client.get(LEASES, key) is None:
            await client.create(LEASES, {"metadata": {"name": self.name, "namespace": "kube-node-lease"}, "spec": spec})
        else:
            heard = self._heard()
            await client.patch(LEASES, key, {"spec": spec, **({"metadata": {"annotations": heard}} if heard else {})})

    def node_seen(self, node: Any) -> None:
        """Reports the node's status again, because the API has another one. Extended resources of the capacity are for the pods, as an agent does it."""
        if not self.speaks or node is None or node.status.node_info.boot_id != self.boot_id:
            return
        if not node.ready:
            self.spawn(self._write(self._register))
            return
        wanted, given = (
            {name: amount for name, amount in of.items() if extended(name)} for of in (node.status.capacity, node.status.allocatable)
        )
        if wanted != given:
            told = {"status": {"allocatable": {**dict.fromkeys(given), **wanted}}}
            self.spawn(self._write(lambda: self._fleet.client.patch("nodes", self.name, told, "status")))

    def pod_seen(self, pod: Pod) -> None:
        """Handles a change of one of this node's pods."""
        uid = pod.metadata.uid
        if not self.speaks or uid in self._busy or pod.finished:
            return
        if pod.metadata.deletion_timestamp is not None:
            self._begin(uid, self._stop(pod))
        elif uid not in self.running:
            reported = uid in self._networks and self._networks[uid] == pod.status.pod_ip
            if not reported or self._may_start(pod, pod.status.pod_ip):
                self._begin(uid, self._start(pod))
        elif statuses.differs(pod, self.running[uid]):
            self._begin(uid, self.report(pod.metadata.key, uid))

    def pod_gone(self, uid: str) -> None:
        """Ends a pod that the API no longer has, because somebody forced its deletion."""
        if self.speaks:
            self.running.pop(uid, None)
            self._networks.pop(uid, None)

    def volume_seen(self, volume: PersistentVolume) -> None:
        """Removes the data of a volume on this node's disk that nobody needs any more, and says so."""
        if not self.speaks or volume.metadata.deletion_timestamp is None or volume.metadata.finalizers != (LOCAL_DATA,):
            return

        async def release() -> None:
            body: dict[str, Any] = {"metadata": {"finalizers": []}}
            await self._fleet.client.patch(VOLUMES, volume.metadata.name, body, revision=volume.metadata.revision)

        self.spawn(self._write(release))

    def _look_again(self) -> None:
        """Lists this node's pods and volumes, as after a lost watch, and ends what runs without being one of them."""
        for volume in self._fleet.client.list(VOLUMES):
            if volume.node_name == self.name:
                self.volume_seen(volume)
        mine = {pod.metadata.uid: pod for pod in self._fleet.client.list("pods") if pod.spec.node_name == self.name}
        for uid in [uid for uid in self.running if uid not in mine]:
            self.pod_gone(uid)
        for pod in mine.values():
            self.pod_seen(pod)

    async def _start(self, pod: Pod) -> None:
        uid, key = pod.metadata.uid, pod.metadata.key
        if uid not in self._networks:
            await self.wait(self._fleet.settings.start_s)
        there = self._fleet.client.get("pods", key)
        address = self._networks.pop(uid, "")
        if not self.speaks or there is None or there.metadata.uid != uid or there.metadata.deletion_timestamp is not None:
            return
        if not address:
            self._addresses = self._addresses % 250 + 1  # round-robin, so that an address is not used again at once
            address = f"{self.pod_prefix}{self._addresses + 1}"
        if not self._may_start(there, address):
            self._networks[uid] = address
            await self._report_address(there, address)
            return
        self.running[uid] = Running(key, uid, address, Began(self.now(), self.time()))
        self._fleet.started(self, self.running[uid])
        await self.report(key, uid)
        if ENDS in there.metadata.annotations:
            after_s, code = there.metadata.annotations[ENDS].split()
            self.spawn(self._run_to_end(pod, float(after_s), int(code)))

    def _may_start(self, pod: Pod, address: str) -> bool:
        """Tell whether the rules of a pod's NetworkPolicies are in force for this address."""
        said = condition_status(pod.status.conditions, NETWORK_READY) if self.fenced else ""
        return not said or (said == "True" and pod.status.pod_ip == address)

    async def _report_address(self, pod: Pod, address: str) -> None:
        """Report the address of a pod that may not start before its rules are in force."""
        if pod.status.pod_ip == address:
            return
        conditions = with_condition(map(plain, pod.status.conditions), pending(self.time()))
        status = {"podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
        body = {"metadata": {"uid": pod.metadata.uid}, "status": status}
        await self._write(lambda: self._fleet.client.patch("pods", pod.metadata.key, body, "status", pod.metadata.revision))

    async def _run_to_end(self, pod: Pod, after_s: float, code: int) -> None:
        await asyncio.sleep(after_s)
        await self.end_pod(pod, code)

    async def end_pod(self, pod: Pod, code: int, statuses: Sequence[dict[str, Any]] = ()) -> None:
        """Lets the pod end for good with this exit code: that of its only container, if nothing is said of its containers."""
        if pod.metadata.uid in self.running:
            del self.running[pod.metadata.uid]
            await self._report_end(pod, code, statuses)

    async def _report_end(self, pod: Pod, code: int, statuses: Sequence[dict[str, Any]] = ()) -> None:
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": self.time()}
        names = [container.name for container in pod.spec.containers]
        statuses = statuses or [{"name": name, "ready": False, "state": {"terminated": ended}} for name in names]
        conditions = [condition(type_, "False", lastTransitionTime=self.time()) for type_ in ("ContainersReady", "Ready")]
        status = {"phase": "Failed" if code else "Succeeded", "conditions": conditions, "containerStatuses": list(statuses)}

        async def patch() -> None:
            body = {"metadata": {"uid": pod.metadata.uid}, "status": status}
            await self._fleet.client.patch("pods", pod.metadata.key, body, "status")

        await self._write(patch)

    async def report(self, key: Key, uid: str) -> None:
        async def patch() -> None:
            if uid in self.running:
                status, revision = self._pod_status(key, uid)
                await self._fleet.client.patch("pods", key, {"metadata": {"uid": uid}, "status": status}, "status", revision)

        await self._write(patch)

    async def _stop(self, pod: Pod) -> None:
        await self.wait(self._fleet.settings.stop_s)
        self.running.pop(pod.metadata.uid, None)
        self._networks.pop(pod.metadata.uid, None)
        if pod.metadata.finalizers:  # the object stays for a while, so its end is reported first, as a kubelet does
            await self._report_end(pod, KILLED)

        async def delete() -> None:
            await self._fleet.client.delete("pods", pod.metadata.key, pod.metadata.uid, grace_s=0)

        await self._write(delete)

    def _pod_status(self, key: Key, uid: str) -> tuple[dict[str, Any], int]:
        """Return the status of a pod, and the revision that it must be written upon: 0 if it is the node's alone."""
        pod = self._fleet.client.get("pods", key)
        known = pod if pod is not None and pod.metadata.uid == uid else None
        others = statuses.others(known)
        if not self.fenced and any(each["type"] == NETWORK_READY for each in others):  # no packet is simulated here
            others = with_condition(others, in_force(self.name, self.time()))
        status = statuses.of_pod(self.running[uid], known, others, self.time(), containers=self._fleet.settings.container_statuses)
        return status, known.metadata.revision if known is not None and (others or known.spec.readiness_gates) else 0

    # -- what its containers ask for -----------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> HollowSettings:
        return self._fleet.settings

    def known(self, uid: str) -> Pod | None:
        """Return a pod as this node knows it from its watch."""
        return self._fleet.pod(uid)

    def raw_pod(self, key: Key) -> dict[str, Any] | None:
        return self._fleet.client.raw("pods", key)

    def note(self, pod: Running, did: str, text: str) -> None:
        """Tell what an agent would report in an Event."""
        if self.speaks:
            self._fleet.noted(self, pod, did, text)

    # -- helpers -----------------------------------------------------------------------------------------------------------------------

    def _begin(self, uid: str, work: Any) -> None:
        self._busy.add(uid)
        task = self.spawn(work)
        task.add_done_callback(lambda _: self._ended(uid))

    def _ended(self, uid: str) -> None:
        """Look at what changed while the pod was busy."""
        self._busy.discard(uid)
        pod = self._fleet.pod(uid)
        if pod is not None and pod.spec.node_name == self.name:
            self.pod_seen(pod)

    async def _write(self, write: Callable[[], Any]) -> None:
        """Repeats a write until it succeeds, is refused for good, or the node can't reach the API."""
        while self.speaks:
            try:
                await write()
                return
            except LabctlError as error:
                if getattr(error, "code", 500) in (404, 409):
                    return
                await asyncio.sleep(self._fleet.settings.retry_s)

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    async def wait(self, seconds: tuple[float, float]) -> None:
        """Wait for a time between these two, drawn by lot."""
        await asyncio.sleep(self._fleet.rng.uniform(*seconds))

    def now(self) -> float:
        """Return the virtual time, in seconds."""
        return self._fleet.clock.now()

    def time(self) -> str:
        """Return the time as the API writes it."""
        return rfc3339(self._fleet.clock.wall())
