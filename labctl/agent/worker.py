"""One pod on this node, from its first sight to its last: a task that makes the machine hold what the pod asks, and nothing once it is gone.

It is woken when the API's object changes, when a container ends, when an image arrived, and when a back-off is over. Each time it looks at the machine (through
the Runtime) and does what is missing. What it remembers beside that is only what dies with the agent without harm: probes, waits, why something does not run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from . import containers, history, isolation, stopping
from .attempts import Attempts
from .client import Refused
from .ending import Ending
from .environment import PodFacts
from .events import of_pod
from .health import Health
from .hooks import unless
from .http import Unreachable
from .mounting import Mounting
from .reporter import Reporter
from .resizing import Resizing
from .restarting import RestartAll
from .runtime.interface import Container, Pod, RuntimeFailure, State
from .starting import post_start
from .status import (
    TERMINAL,
    Seen,
    build,
    exit_code_of,
    has_begun,
    has_succeeded,
    is_done,
    is_sidecar,
    just_creating,
    pod_address,
    restart_policy,
)
from .termination_message import termination_message
from .times import parse
from .titles import pod_title
from .tools import Tools
from .wakeup import Wakeup

Object = Dict[str, Any]
RETRY_S = 2.0
DEADLINE_EXCEEDED = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
EVICTED, EVICTION_GRACE_S = "Evicted", 1.0
FIRST_REPORT_S = 0.15  # a start that takes longer shows itself as ContainerCreating


class PodWorker:
    """`done` is called once, when nothing of the pod is left here. Until a pod is `confirmed` by the API it is kept going, and nothing is reported."""

    def __init__(
        self, tools: Tools, pod: Object, done: Callable[[], None], confirmed: bool = True, refused: Optional[Tuple[str, str]] = None
    ) -> None:
        self.uid: str = pod["metadata"]["uid"]
        self._tools, self.pod, self._done, self._seen_s = tools, pod, done, time.time()
        self._wakeup = Wakeup()
        self._confirmed = confirmed
        self._deleted = False  # the API's object is gone: no grace, nobody to report to
        self._failed: Optional[Tuple[str, str]] = None  # reason and message, once it was ended here for good
        self._disrupted = False  # it was ended because the machine is short of something
        self._refused = refused  # reason and message, if this node does not take it
        self._leaving: Optional[stopping.Deadline] = None
        self._ended = False  # of a pod that is leaving: nothing of it runs any more
        self._attempts = Attempts(tools, lambda: self.pod, self._found, self._wakeup, self._look_again)
        self._resizing = Resizing(tools, lambda: self.pod, self._look_again)
        self._restarting = RestartAll(tools, lambda: self.pod, self._look_again)
        self._turn = self._restarting.turn
        self._attempts.held = lambda: self._restarting.turn is not self._turn
        self._attempts.prompt = lambda ended: ended.again or ended.id in self._resizing.restarting
        self._mounting = Mounting(tools, lambda: self.pod, self._attempts.volume_image, self._look_again)
        self._network_anew = False  # made since the API says that its rules are in force
        self._again_s: Optional[float] = None
        self._side: Set["asyncio.Task[None]"] = set()
        self._beginning: Set[str] = set()  # containers that are started now, with their postStart hooks
        self._health = Health(tools, lambda: self.pod, self._changed, self._probe_failed)
        self._reporter = Reporter(tools.api, lambda: self.pod if self._confirmed else None, self._status, self._learn, tools.say)
        self._ending = Ending(tools, lambda: self.pod, self._reporter, self._wakeup, lambda: self._deleted)

    @property
    def admitted(self) -> bool:
        """Tell whether the pod takes a share of this node: it was not refused, has not ended, and the API still has it."""
        return not (self._refused or self._failed or self._deleted or self._over())

    # -- told from outside

    def update(self, pod: Object) -> None:
        if self._confirmed and _revision(pod) < _revision(self.pod):
            return  # older than the answer to our own write
        self._confirmed = True
        self._take(pod)
        grace_s = pod["metadata"].get("deletionGracePeriodSeconds")
        if self._leaving and grace_s is not None:
            self._leaving.shorten(grace_s)
        self.wake()

    def _take(self, pod: Object) -> None:
        self.pod = pod
        self._network_anew = self._network_anew and isolation.said(pod) == "True"

    def gone(self) -> None:
        self._deleted = True
        if self._leaving:
            self._leaving.shorten(0)
        self.wake()

    def wake(self) -> None:
        self._wakeup.wake()

    def _changed(self) -> None:
        """React to a probe's verdict: report it, and start what may start now."""
        self._reporter.wakeup.wake()
        self.wake()

    # -- the task

    async def run(self) -> None:
        reporting = asyncio.ensure_future(self._reporter.run())
        try:
            while not await self._once():
                await self._wakeup.woken(self._again_s)
        finally:
            reporting.cancel()
            for task in list(self._side):
                task.cancel()
            self._health.stop()
            self._resizing.forget()
        self._done()

    async def _once(self) -> bool:
        """Do what is due. Return True when nothing will ever be left to do."""
        self._again_s = None
        try:
            if self._deleted:
                await self._vanish()
                return True
            if self.pod["metadata"].get("deletionTimestamp"):
                await self._leave()
                return True
            if self._refused or self._over() or self._out_of_time():
                await self._finish()
            else:
                await self._make_true()
        except (RuntimeFailure, OSError, Refused, Unreachable) as error:
            self._tools.say(f"pod {pod_title(self.pod)}: {error}")
            self._look_again(RETRY_S)
        except Exception:  # a mistake of ours must not leave the pod to itself
            self._tools.say(f"pod {pod_title(self.pod)}: {traceback.format_exc()}")
            self._look_again(RETRY_S)
        return False

    def _look_again(self, delay_s: float) -> None:
        self._again_s = delay_s if self._again_s is None else min(self._again_s, delay_s)

    def _aside(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._side.add(task)
        task.add_done_callback(self._side.discard)

    # -- seeing

    def _found(self) -> Pod:
        """Return what the machine has, completed by what the API saw before this machine's records began."""
        found = history.completed(self._tools.runtime.pods(self.uid).get(self.uid) or Pod(self.uid), self.pod)
        return found if self._over() or self._failed else self._restarting.seen(found)

    def _status(self, found: Optional[Pod] = None) -> Object:
        found = found or self._found()
        return build(self.pod, found, self._seen(found), time.time())

    def _seen(self, found: Pod) -> Seen:
        leaving = self._leaving is not None or bool(self.pod["metadata"].get("deletionTimestamp"))
        specs = {each["name"]: each for each in (*self._specs(), *self._ephemeral())}
        messages = {
            each.id: termination_message(each, specs.get(each.name, {}), len(specs))
            for each in found.containers
            if each.state is State.EXITED
        }
        opened = self._mounting.paths is not None or bool(found.containers)
        ready, started = dict(self._health.ready), dict(self._health.started)
        failed = self._failed or self._refused
        told = (self._resizing.statuses(found), self._resizing.conditions())
        return Seen(
            self._tools.host_ip,
            dict(self._attempts.waiting),
            ready,
            started,
            messages,
            leaving,
            self._ended,
            failed,
            self._disrupted,
            opened,
            *told,
            self._seen_s,
            self._network_anew,
            self._tools.recursive_read_only,
            tuple(self._beginning),
            self._restarting.condition(found),
        )

    def _specs(self) -> List[Object]:
        """Return the pod's own containers. Ephemeral ones come beside them: they have no probes, and their start waits for nothing."""
        return [*(self.pod["spec"].get("initContainers") or []), *self.pod["spec"]["containers"]]

    def _ephemeral(self) -> List[Object]:
        return list(self.pod["spec"].get("ephemeralContainers") or ())

    def _learn(self, answer: Object) -> None:
        """Take in the API's answer to a status write. It is the newest we know of the pod, unless the watch was quicker."""
        if _revision(answer) > _revision(self.pod):
            left = not self.pod["metadata"].get("deletionTimestamp") and answer["metadata"].get("deletionTimestamp")
            self._take(answer)
            if left:
                self.wake()

    def _over(self) -> bool:
        return (self.pod.get("status") or {}).get("phase") in TERMINAL

    def _out_of_time(self) -> bool:
        """Tell whether activeDeadlineSeconds have passed since the pod's startTime. Then the pod has failed for good; until then, look again in time."""
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None or self._failed:
            return self._failed is not None
        began_s = parse((self.pod.get("status") or {}).get("startTime")) or self._seen_s
        left_s = began_s + seconds - time.time()
        if left_s > 0:
            self._look_again(left_s)
            return False
        self._fail("Normal", *DEADLINE_EXCEEDED)
        return True

    def _ends(self) -> bool:
        return self._deleted or bool(self.pod["metadata"].get("deletionTimestamp")) or self._out_of_time()

    def evict(self, message: str, *, disrupted: bool = False) -> None:
        """End the pod for good, at once: it took more than it may, or (`disrupted`) the machine needs what it has."""
        if not self._failed and not self._leaving and self.admitted:
            self._disrupted = disrupted
            self._fail("Warning", EVICTED, message)
            self.wake()

    def _fail(self, kind: str, reason: str, message: str) -> None:
        self._failed = reason, message
        self._tools.events.record(of_pod(self.pod), kind, reason, message)
        self._attempts.cancel()

    # -- living

    async def _make_true(self) -> None:
        found = self._found()
        self._turn = self._restarting.turn  # if it is another one later, what is decided upon `found` is void
        if found.containers and is_done(self.pod, found, self._seen(found), time.time()):
            await self._finish()  # before anything else: its sidecars may be stopped, and are not to be started again
            return
        self._resizing.decide()
        self._health.forget_ended(found)
        if self._lost_a_ready_one(found):
            await self._reporter.sent_soon()  # nobody shall send requests to it while its successor is made
        if not await self._restarting.cleared(found):
            self._reporter.wakeup.wake()
            return
        self._reporter.later(FIRST_REPORT_S)
        for container in self._first_wanted(found):
            self._attempts.pull(container)  # the pull runs while the sandbox is made
        if self._mounting.paths is None:
            self._tools.tokens.ask(self.pod)  # and so do these requests
            self._tools.certificates.ask(self.pod)
        found = await self._opened(found)
        if not self._may_start(found):
            self._reporter.wakeup.wake()  # the proxy needs its address, and writes its rules while the volumes are made
        if not await self._mounting.done(self._facts(found)) or not self._may_start(found):
            self._reporter.wakeup.wake()
            return
        for container in self._ephemeral():
            await self._attempts.keep(
                container, "Never", self._mounting.paths or {}
            )  # before the others, so that one can look into a start that fails
        if await self._initialized(found):
            mains = self._resizing.given()["spec"]["containers"]
            for number, container in enumerate(mains):
                await self._keep(
                    container, restart_policy(self.pod, container, exit_code_of(found.latest(container["name"]))), mains[:number]
                )
        await self._resizing.apply(self._found(), lambda *what: self._aside(self._stop_one(*what)))
        found = self._found()
        self._health.watch(self._specs(), found, self._reported())
        status = self._status(found)
        if is_done(self.pod, found, self._seen(found), time.time()):
            await self._finish()
        elif not just_creating(status):
            self._reporter.wakeup.wake()

    def _lost_a_ready_one(self, found: Pod) -> bool:
        """Tell whether a container of this boot has ended that the API still takes for ready."""
        latest = {each["name"]: found.latest(each["name"]) for each in self._reported() if each.get("ready")}
        return any(each and each.state is State.EXITED and not each.earlier_boot for each in latest.values())

    def _first_wanted(self, found: Pod) -> List[Object]:
        fresh = [each for each in self._specs() if found.latest(each["name"]) is None]
        inits = {each["name"] for each in self.pod["spec"].get("initContainers") or ()}
        return fresh[:1] if fresh and fresh[0]["name"] in inits else fresh

    async def _opened(self, found: Pod) -> Pod:
        if found.sandbox and found.sandbox.ready and self._mounting.paths is not None:
            return found
        try:
            settings = self._tools.settings
            own_users = self.pod["spec"].get("hostUsers") is False and await self._tools.own_users.found()
            spec = containers.sandbox_spec(self._resizing.given(), settings.cluster_domain, settings.pod_pids, own_users)
            sandbox = await self._tools.runtime.open(spec)
            if found.sandbox is None or found.sandbox.created_s != sandbox.created_s:
                self._network_anew = isolation.said(self.pod) == "True"
        except Exception as error:
            self._tools.events.record(of_pod(self.pod), "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise RuntimeFailure(str(error)) from error
        return dataclasses.replace(found, sandbox=sandbox)

    def _may_start(self, found: Pod) -> bool:
        return not self._network_anew and isolation.may_start(self.pod, pod_address(found, self._tools.host_ip))

    async def renew_volumes(self) -> None:
        if not self._over():
            await self._mounting.renew(lambda: self._facts(self._found()))

    def certified(self) -> None:
        """The answer to a request for one of its certificates is here: it may start now, or its files are to be written anew."""
        self.wake()
        self._aside(self.renew_volumes())

    def _facts(self, found: Pod) -> PodFacts:
        return PodFacts(pod_address(found, self._tools.host_ip), self._tools.host_ip, self._tools.allocatable)

    async def _initialized(self, found: Pod) -> bool:
        """Init containers, one after the other; a sidecar is done when it has started. After a boot of the machine all of them run again."""
        begun = has_begun(self.pod, found)
        for container in self._resizing.given()["spec"].get("initContainers") or ():
            latest = found.latest(container["name"])
            if is_sidecar(container):
                await self._keep(container, "Always")
                now = self._found().latest(container["name"])
                if begun or (now and now.state is State.RUNNING and self._health.started.get(container["name"], True)):
                    continue
                return False
            if begun or has_succeeded(latest):
                continue
            await self._keep(container, self._init_policy(container, latest))
            return False
        return True

    def _init_policy(self, container: Object, latest: Optional[Container]) -> str:
        """Return when a container that did not succeed is run again. One that ran before the machine's boot is run again whatever the pod's policy."""
        if latest and latest.earlier_boot and latest.exit_code == 0:
            return "Always"
        return "Never" if restart_policy(self.pod, container, exit_code_of(latest)) == "Never" else "OnFailure"

    async def _keep(self, container: Object, policy: str, after: Sequence[Object] = ()) -> None:
        """Keep one container as it should be: running, or ended for good, or waiting with a reason. Those of `after` are started before it."""
        latest, name = self._found().latest(container["name"]), container["name"]
        if (container.get("lifecycle") or {}).get("postStart") and not (latest and latest.state is State.RUNNING):
            self._beginning.add(name)
        try:
            started = await self._attempts.keep(container, policy, self._mounting.paths or {}, after)
            if started is None or (name in self._beginning and not await self._hooked(container, started)):
                return
        finally:
            self._beginning.discard(name)
        self._health.begin(container, started, self._facts(self._found()).pod_ip)

    async def _hooked(self, container: Object, started: Container) -> bool:
        """Run the postStart hook. If it fails, the container is killed. Return False if the pod is to end, which does not wait for it."""
        hook = post_start(self._tools, self.pod, container, started, self._facts(self._found()).pod_ip)
        why = await unless(self._ends, hook, self._wakeup)
        if why:
            self._attempts.hook_failed(started, why)
            self._aside(self._stop_one(container, started, f"Container {container['name']} failed postStartHook, will be restarted"))
        return why is not None

    def _probe_failed(self, spec: Object, container: Container, kind: str) -> None:
        if self._leaving is None:
            self._aside(self._stop_one(spec, container, f"Container {spec['name']} failed {kind} probe, will be restarted", kind))

    async def _stop_one(self, spec: Object, container: Container, message: str, probe: str = "") -> None:
        """Stops a container that is to be restarted. The probe that failed may have a grace period of its own."""
        probe_grace = (spec.get(f"{probe}Probe") or {}).get("terminationGracePeriodSeconds")
        grace_s = probe_grace if probe_grace is not None else self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        address = pod_address(self._found(), self._tools.host_ip)
        await stopping.stop(self._tools, self.pod, spec, container, stopping.Deadline(grace_s), self._wakeup, address, message)
        self.wake()

    def _reported(self) -> List[Object]:
        status = self.pod.get("status") or {}
        return (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])

    # -- ending

    async def _finish(self) -> None:
        """Clean up when every container has ended for good. Records and logs stay until the object is deleted."""
        self._resizing.forget()
        await self._mounting.end()
        self._tools.certificates.forget(self.uid)  # nobody is left whom a fresh one could serve
        found = self._tools.runtime.pods(self.uid).get(self.uid)
        if found and found.sandbox and found.sandbox.ready:
            self._health.stop()
            evicted = self._failed is not None and self._failed[0] == EVICTED
            grace_s = EVICTION_GRACE_S if evicted else self.pod["spec"].get("terminationGracePeriodSeconds", 30)
            await self._ending.stop_all(found, stopping.Deadline(grace_s))
            self._attempts.forget_waiting(self._found())
            await self._reporter.now(self._status())
            await self._tools.runtime.close(self.uid, keep_records=True)
        self._reporter.wakeup.wake()

    async def _leave(self) -> None:
        """End the pod in order because its object has a deletionTimestamp, report the end, then let the API forget the pod."""
        grace_s = float(self.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        self._leaving = stopping.Deadline(grace_s)
        self._attempts.cancel()
        self._reporter.wakeup.wake()
        found = self._tools.runtime.pods(self.uid).get(self.uid) or Pod(self.uid)
        if found.running() and grace_s and any(each.get("ready") for each in self._reported()):
            await stopping.drained(lambda: self.pod, self._wakeup, min(self._tools.settings.drain_s, grace_s))
        await self._ending.stop_all(found, self._leaving)
        self._health.stop()
        self._attempts.waiting.clear()
        self._ended = True
        last = self._status()
        await self._mounting.end()
        await asyncio.gather(self._tools.runtime.close(self.uid), self._ending.report(last))
        await self._ending.delete()

    async def _vanish(self) -> None:
        """Kill at once what still runs, because the object is gone."""
        self._health.stop()
        await self._mounting.end()
        await self._tools.runtime.close(self.uid)


def _revision(pod: Object) -> int:
    return int(pod["metadata"].get("resourceVersion") or 0)
