"""One pod's life on the fake machine: starts, restarts, probes, ends, and an agent that is new or whose API is away."""

import asyncio
import dataclasses
import os
import signal
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from labctl.agent import mounting, starting, worker
from labctl.agent.environment import ConfigError
from labctl.agent.events import Recorder
from labctl.agent.images import Image, ImageFailure
from labctl.agent.ownusers import OwnUsers
from labctl.agent.runtime.interface import State
from labctl.agent.settings import Settings
from labctl.agent.times import parse, rfc3339
from labctl.agent.tools import Tools
from labctl.agent.worker import PodWorker
from labctl.sim import runtime
from labctl.sim.runtime import FakeMachine, FakeRuntime
from tests.agent.fakeapi import FakeApi

PATH = "/api/v1/namespaces/default/pods/web"


class FakeImages:
    """Every image is here, but those that are `missing`."""

    def __init__(self):
        self.missing, self.reason = {}, "ErrImagePull"
        self.slow = {}  # an image that is on its way: the event that ends that

    def local(self, name):
        return None if name in self.missing else Image(name, "sha256:1", ("/layer",))

    async def ensure(self, name, policy):
        if name in self.slow:
            await self.slow[name].wait()
        if name in self.missing:
            raise ImageFailure(self.reason, self.missing[name])
        return self.local(name)


def pod(argv=("sleep", "9"), policy="Always", inits=(), grace_s=30, **container):
    spec = {"restartPolicy": policy, "terminationGracePeriodSeconds": grace_s}
    spec["containers"] = [{"name": "c", "image": "tiny:1", "command": list(argv), **container}]
    if inits:
        spec["initContainers"] = [{"name": name, "image": "tiny:1", "command": [program]} for name, program in inits]
    return {"metadata": {"name": "web", "namespace": "default", "uid": "u1"}, "spec": spec, "status": {}}


class Node:
    """A machine, an API, and an agent's worker for the one pod; `again` is an agent's restart."""

    def __init__(self, folder, own_users=False, **settings):
        self.own_users = OwnUsers(lambda: own_users)
        values = {"start_retry_s": 0.05, "backoff_first_s": 0.05, "image_backoff_first_s": 0.05, "drain_s": 0.05, **settings}
        self.settings = Settings("minion-1", "", "", "", "", state_dir=str(folder), pod_logs_dir=str(folder / "logs"), **values)
        self.machine = FakeMachine(wall=time.time)
        self.api, self.images, self.said = FakeApi(), FakeImages(), []
        self.gone = asyncio.Event()
        self.tasks = []

    def see(self, the_pod, confirmed=True):
        runtime = FakeRuntime(self.machine)
        events = Recorder(self.api, "minion-1")
        tools = Tools(self.settings, self.api, runtime, self.images, events, self.said.append, "10.245.1.11", own_users=self.own_users)
        self.worker = PodWorker(tools, self.api.put(PATH, the_pod), self.gone.set, confirmed)
        self.tasks = [asyncio.ensure_future(each) for each in (self.worker.run(), events.run(), self._exits(runtime, self.worker))]

    async def _exits(self, runtime, worker):
        async for _ in runtime.exits():
            worker.wake()

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def boot(self):
        """The machine's power goes, and comes back with nothing that ran."""
        await self.stop()
        self.machine.sandboxes.clear()
        self.machine.containers.clear()
        self.see(self.api.objects[PATH])

    @property
    def status(self):
        return self.api.objects[PATH]["status"]

    def container(self, name="c"):
        found = FakeRuntime(self.machine).pods().get("u1")
        return found.latest(name) if found else None

    def delete(self, grace_s):
        the_pod = self.api.objects[PATH]
        meta = {**the_pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
        self.worker.update(self.api.put(PATH, {**the_pod, "metadata": meta}))

    def drained(self):
        the_pod = self.api.objects[PATH]
        conditions = [*the_pod["status"].get("conditions", []), {"type": "labctl.internal/Drained", "status": "True"}]
        self.worker.update(self.api.put(PATH, {**the_pod, "status": {**the_pod["status"], "conditions": conditions}}))


async def until(condition, why="", deadline_s=5.0):
    """Real time, but never longer than it takes."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, why or "it did not come true"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def running(folder, the_pod, **settings):
    node = Node(folder, **settings)
    node.see(the_pod)
    try:
        yield node
    finally:
        await node.stop()


def is_folder(path):
    return os.path.isdir(path)


def state(node, index=0):
    return node.status["containerStatuses"][index]["state"]


async def test_a_pod_is_opened_started_and_reported(tmp_path):
    async with running(tmp_path, pod()) as node:
        await until(lambda: node.status.get("phase") == "Running")
        assert node.status["podIP"] == node.machine.sandboxes["u1"].address == "10.246.1.2"
        assert "running" in state(node)
        await until(lambda: node.api.reasons() == ["Pulled", "Created", "Started"])


@pytest.mark.parametrize("ended", ["deleted", "gone"])
async def test_volumes_are_not_renewed_beyond_the_pods_end(tmp_path, ended):
    """A renewal that waited for the API meanwhile wrote the pod's folder anew, and nobody ever removed that."""
    config = "/api/v1/namespaces/default/configmaps/c"
    the_pod = pod(grace_s=0)
    the_pod["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "c"}}]
    node = Node(tmp_path)
    node.api.put(config, {"metadata": {"name": "c"}, "data": {"k": "old"}})
    node.see(the_pod)
    try:
        await until(lambda: node.status.get("phase") == "Running")
        asked, answer, get = asyncio.Event(), asyncio.Event(), node.api.get

        async def slow(path, **query):
            if path == config:
                asked.set()
                await answer.wait()
            return await get(path, **query)

        node.api.put(config, {"metadata": {"name": "c"}, "data": {"k": "new"}})
        node.api.get = slow
        renewing = asyncio.ensure_future(node.worker.renew_volumes())
        await asyncio.wait_for(asked.wait(), 5)
        node.delete(0) if ended == "deleted" else node.worker.gone()
        await until(node.gone.is_set)
        answer.set()
        await asyncio.wait_for(renewing, 5)
        await node.worker.renew_volumes()
        [there] = [each for each in (tmp_path / "pods" / "u1").rglob("k") if each.is_symlink()]
        assert there.read_text() == "old"
    finally:
        await node.stop()


async def test_a_pod_that_starts_at_once_is_reported_once(tmp_path):
    async with running(tmp_path, pod()) as node:
        await until(lambda: node.status.get("phase") == "Running")
        await asyncio.sleep(0.2)
        assert len(node.api.writes) == 1


async def test_a_container_that_dies_is_restarted_with_back_off(tmp_path):
    async with running(tmp_path, pod(["false"])) as node:
        await until(lambda: node.container() and node.container().attempt >= 3)
        waiting = [
            w["status"]["containerStatuses"][0] for _, w in node.api.writes if "waiting" in w["status"]["containerStatuses"][0]["state"]
        ]
        crashed = [each for each in waiting if each["state"]["waiting"]["reason"] == "CrashLoopBackOff"][-1]
        assert crashed["state"]["waiting"]["message"].endswith("restarting failed container=c pod=web_default(u1)")
        assert crashed["lastState"]["terminated"]["exitCode"] == 1
        assert "BackOff" in node.api.reasons()
        assert {each.attempt for each in node.machine.containers.values()} <= {node.container().attempt, node.container().attempt - 1}


@pytest.mark.parametrize(("argv", "phase"), [(["true"], "Succeeded"), (["false"], "Failed")])
async def test_a_pod_that_is_never_restarted_ends_and_gives_its_address_back(tmp_path, argv, phase):
    async with running(tmp_path, pod(argv, "Never")) as node:
        await until(lambda: node.status.get("phase") == phase)
        await until(lambda: not node.machine.sandboxes["u1"].ready)
        assert node.container().exit_code == (0 if phase == "Succeeded" else 1)
        assert node.status["podIP"] == "10.246.1.2"


async def test_on_failure_is_restarted_until_it_succeeds(tmp_path):
    async with running(tmp_path, pod(policy="OnFailure")) as node:
        await until(lambda: node.container())
        node.machine.finish(node.container().id, 5)
        await until(lambda: node.container().attempt == 1)
        node.machine.finish(node.container().id, 0)
        await until(lambda: node.status.get("phase") == "Succeeded")


async def test_init_containers_run_one_after_the_other_first(tmp_path):
    async with running(tmp_path, pod(inits=[("i1", "true"), ("i2", "sleep")])) as node:
        await until(lambda: node.container("i2"))
        assert node.container("c") is None
        await until(lambda: node.status.get("phase") == "Pending" and "initContainerStatuses" in node.status)
        node.machine.finish(node.container("i2").id, 0)
        await until(lambda: node.status.get("phase") == "Running")


async def test_an_image_that_is_not_to_be_had_is_waited_for(tmp_path):
    node = Node(tmp_path)
    node.images.missing["tiny:1"] = "no such image"
    node.see(pod())
    await until(lambda: "ErrImagePull" in str(node.status) or "ImagePullBackOff" in str(node.status))
    await until(lambda: state(node)["waiting"]["reason"] == "ImagePullBackOff")
    assert state(node)["waiting"]["message"] == 'Back-off pulling image "tiny:1": ErrImagePull: no such image'
    node.images.missing.clear()
    await until(lambda: node.status.get("phase") == "Running")
    await node.stop()


async def test_a_failed_pull_says_why_and_then_that_the_next_one_is_held_back(monkeypatch):
    """Also if nothing else has the worker look in the meantime: when to look is the pull's to say."""
    now, woken, images = [100.0], asyncio.Event(), FakeImages()
    monkeypatch.setattr(starting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    images.missing["tiny:1"] = "no such image"
    events, settings = SimpleNamespace(record=lambda *_: None), SimpleNamespace(backoff_most_s=300.0, image_backoff_first_s=10.0)
    tools = SimpleNamespace(images=images, events=events, settings=settings)
    pull = starting.ImagePull(tools, pod(), pod()["spec"]["containers"][0], woken.set)
    told = []
    for _ in range(2):
        woken.clear()
        assert pull.get() is None
        await woken.wait()
        for _ in range(2):
            assert pull.get() is None
            told.append(pull.waiting[0])
            assert now[0] < pull.look_at <= pull.again_at
            now[0] = pull.look_at
    assert told == ["ErrImagePull", "ImagePullBackOff"] * 2


async def test_a_missing_config_map_is_said_and_waited_for(tmp_path):
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}]
    async with running(tmp_path, pod(env=env), backoff_first_s=600.0) as node:  # it did not crash: that back-off is not its
        await until(lambda: node.status.get("containerStatuses"))
        assert state(node) == {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "cm" not found'}}
        node.api.put("/api/v1/namespaces/default/configmaps/cm", {"metadata": {"name": "cm"}, "data": {"a": "1"}})
        await until(lambda: node.status.get("phase") == "Running")
        assert "A=1" in node.machine.specs[node.container().id].env


async def test_a_container_that_backs_off_is_shown_as_ended_first(tmp_path):
    async with running(tmp_path, pod(["false"]), backoff_first_s=600.0) as node:
        await until(lambda: node.status.get("containerStatuses") and node.container().attempt == 1)
        await until(
            lambda: state(node).get("terminated", {}).get("reason") == "Error" and node.status["containerStatuses"][0]["restartCount"] == 1
        )


async def test_an_image_whose_name_can_be_none_is_said_for_as_long_as_it_is_asked_for(tmp_path):
    node = Node(tmp_path, image_backoff_first_s=0.02)
    node.images.missing["tiny:1"], node.images.reason = "invalid reference format", "InvalidImageName"
    node.see(pod())
    await until(lambda: node.status.get("containerStatuses") and state(node)["waiting"]["reason"] == "InvalidImageName")
    await asyncio.sleep(0.1)
    assert {each["state"]["waiting"]["reason"] for _, w in node.api.writes for each in w["status"]["containerStatuses"]} <= {
        "InvalidImageName",
        "ContainerCreating",
    }
    await node.stop()


async def test_a_program_that_is_not_there_is_a_start_error_and_backs_off(tmp_path):
    async with running(tmp_path, pod(["nope"]), backoff_first_s=4.0) as node:
        await until(lambda: node.status.get("containerStatuses") and state(node).get("waiting", {}).get("reason") == "CrashLoopBackOff")
        last = node.status["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["reason"], last["exitCode"]) == ("StartError", 128)
        assert "nope" in last["message"] and abs(parse(last["finishedAt"]) - time.time()) < 60
        assert node.container().attempt == 1, "the first restart is at once, the second is not"


async def test_a_pod_that_is_never_restarted_and_can_not_be_started_has_failed_and_says_why(tmp_path):
    async with running(tmp_path, pod(["nope"], "Never")) as node:
        await until(lambda: node.status.get("phase") == "Failed")
        ended = state(node)["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("StartError", 128) and "nope" in ended["message"]
        assert abs(parse(ended["finishedAt"]) - time.time()) < 60


async def test_an_init_container_that_can_not_be_started_fails_a_pod_that_is_never_restarted(tmp_path):
    async with running(tmp_path, pod(policy="Never", inits=[("i1", "nope")])) as node:
        await until(lambda: node.status.get("phase") == "Failed")
        assert node.status["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "StartError"


async def test_after_a_boot_init_containers_run_again_in_order_before_the_others(tmp_path):
    async with running(tmp_path, pod(inits=[("i1", "true"), ("i2", "true")])) as node:
        await until(lambda: node.status.get("phase") == "Running")
        await node.boot()
        await until(lambda: node.status["containerStatuses"][0]["restartCount"] == 1 and node.status["phase"] == "Running")
        assert [each["restartCount"] for each in node.status["initContainerStatuses"]] == [1, 1]
        order = sorted(node.machine.containers.values(), key=lambda each: each.created_s)
        assert [each.name for each in order] == ["i1", "i2", "c"]


async def test_while_init_containers_run_again_the_pod_is_pending(tmp_path):
    the_pod = pod(inits=[("i1", "sleep")])
    async with running(tmp_path, the_pod) as node:
        await until(lambda: node.container("i1"))
        node.machine.finish(node.container("i1").id, 0)
        await until(lambda: node.status.get("phase") == "Running")
        await node.boot()
        await until(lambda: node.status["phase"] == "Pending")
        assert next(each for each in node.status["conditions"] if each["type"] == "Initialized")["status"] == "False"
        assert node.container("c") is None
        node.machine.finish(node.container("i1").id, 0)
        await until(lambda: node.status["phase"] == "Running")


async def test_after_a_boot_a_pod_that_is_never_restarted_runs_no_init_container_again(tmp_path):
    async with running(tmp_path, pod(policy="Never", inits=[("i1", "true")])) as node:
        await until(lambda: node.status.get("phase") == "Running")
        await node.boot()
        await until(lambda: node.status["phase"] == "Failed")
        assert node.machine.containers == {}


async def test_readiness_follows_its_probe(tmp_path):
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "initialDelaySeconds": 0}
    async with running(tmp_path, pod(readinessProbe=probe)) as node:
        await until(lambda: node.status.get("containerStatuses") and node.status["containerStatuses"][0]["ready"])


async def test_the_end_of_a_ready_container_is_told_while_its_successor_is_still_made(tmp_path, monkeypatch):
    """Else its Service would go on sending requests to it for as long as the start takes."""
    release = asyncio.Event()
    start = runtime.FakeRuntime.start

    async def slow(self, spec):
        if spec.attempt:
            await release.wait()
        return await start(self, spec)

    monkeypatch.setattr(runtime.FakeRuntime, "start", slow)
    monkeypatch.setattr(worker, "FIRST_REPORT_S", 60.0)
    async with running(tmp_path, pod()) as node:
        await until(lambda: node.status.get("phase") == "Running" and node.status["containerStatuses"][0]["ready"])
        node.machine.finish(node.container().id, 137)
        await until(lambda: not node.status["containerStatuses"][0]["ready"])
        assert node.container().attempt == 0
        release.set()
        await until(lambda: node.status["containerStatuses"][0]["ready"] and node.status["containerStatuses"][0]["restartCount"] == 1)


async def test_a_restarted_container_is_not_ready_by_the_probes_of_the_one_before(tmp_path, monkeypatch):
    release = asyncio.Event()
    post_start = worker.post_start

    async def held(tools, pod, spec, container, address):
        if container.attempt:
            await release.wait()
        return await post_start(tools, pod, spec, container, address)

    monkeypatch.setattr(worker, "post_start", held)
    monkeypatch.setattr(worker, "FIRST_REPORT_S", 0.01)
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    hook = {"postStart": {"exec": {"command": ["true"]}}}
    async with running(tmp_path, pod(readinessProbe=probe, startupProbe=probe, lifecycle=hook)) as node:
        await until(lambda: node.status.get("containerStatuses") and node.status["containerStatuses"][0]["ready"])
        node.machine.finish(node.container().id, 137)
        await until(lambda: node.status["containerStatuses"][0]["restartCount"] == 1)
        shown = node.status["containerStatuses"][0]
        assert shown["state"]["waiting"]["reason"] == "ContainerCreating" and node.status["phase"] == "Running"
        assert not shown["ready"] and not shown["started"]
        release.set()
        await until(lambda: node.status["containerStatuses"][0]["ready"])


async def test_a_container_is_not_ready_before_its_probe_says_so(tmp_path):
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    async with running(tmp_path, pod(readinessProbe=probe)) as node:
        await until(lambda: "Unhealthy" in node.api.reasons())
        assert (node.status["phase"], node.status["containerStatuses"][0]["ready"]) == ("Running", False)


async def test_a_liveness_probe_that_fails_restarts_the_container(tmp_path):
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    async with running(tmp_path, pod(livenessProbe=probe)) as node:
        await until(lambda: node.container() and node.container().attempt == 1)
        await until(lambda: "Killing" in node.api.reasons())
        messages = [event["message"] for event in node.api.events]
        assert "Container c failed liveness probe, will be restarted" in messages
        assert any(message.startswith("Liveness probe failed") for message in messages)


# -- a deadline


def with_deadline(seconds, **more):
    the_pod = pod(**more)
    the_pod["spec"]["activeDeadlineSeconds"] = seconds
    return the_pod


async def test_a_pod_that_is_active_for_longer_than_it_may_has_failed(tmp_path):
    async with running(tmp_path, with_deadline(1)) as node:
        await until(lambda: node.status.get("phase") == "Running")
        await until(lambda: node.status.get("phase") == "Failed")
        assert (node.status["reason"], node.status["message"]) == (
            "DeadlineExceeded",
            "Pod was active on the node longer than the specified deadline",
        )
        assert state(node)["terminated"]["exitCode"] == 143, "it had its grace"
        await until(lambda: not node.machine.sandboxes["u1"].ready)
        assert "DeadlineExceeded" in node.api.reasons()


async def test_a_deadline_counts_from_the_pods_start_and_holds_for_what_waits(tmp_path):
    the_pod = with_deadline(3600)
    the_pod["status"] = {"phase": "Pending", "startTime": rfc3339(time.time() - 3599.5)}
    node = Node(tmp_path)
    node.images.missing["tiny:1"] = "no such image"
    node.see(the_pod)
    await until(lambda: node.status.get("phase") == "Failed")
    assert node.status["reason"] == "DeadlineExceeded" and node.machine.containers == {}
    await node.stop()


async def test_a_deadline_that_is_set_later_counts_too(tmp_path):
    async with running(tmp_path, pod()) as node:
        await until(lambda: node.status.get("phase") == "Running")
        the_pod = node.api.objects[PATH]
        node.worker.update(node.api.put(PATH, {**the_pod, "spec": {**the_pod["spec"], "activeDeadlineSeconds": 1}}))
        await until(lambda: node.status.get("phase") == "Failed")
        assert node.status["reason"] == "DeadlineExceeded"


async def test_an_evicted_pod_fails_at_once_and_is_not_started_again(tmp_path):
    async with running(tmp_path, pod(grace_s=1000)) as node:
        await until(lambda: node.status.get("phase") == "Running")
        assert node.worker.admitted
        node.worker.evict("it took too much")
        node.worker.evict("and again")
        await until(lambda: node.status.get("phase") == "Failed")
        assert (node.status["reason"], node.status["message"]) == ("Evicted", "it took too much")
        await until(lambda: not node.machine.sandboxes["u1"].ready)
        assert not node.worker.admitted and node.api.reasons().count("Evicted") == 1
        assert node.status["containerStatuses"][0]["restartCount"] == 0


# -- isolated by NetworkPolicies


def isolated(status="False"):
    return {**pod(), "status": {"conditions": [{"type": "labctl.internal/NetworkReady", "status": status}]}}


def in_force(node):
    """The proxy says that the rules for the pod's address are there."""
    the_pod = node.api.objects[PATH]
    said = [{**each, "status": "True"} if each["type"] == "labctl.internal/NetworkReady" else each for each in node.status["conditions"]]
    node.worker.update(node.api.put(PATH, {**the_pod, "status": {**the_pod["status"], "conditions": said}}))


def network_ready(node):
    return next(each["status"] for each in node.status["conditions"] if each["type"] == "labctl.internal/NetworkReady")


async def test_no_container_starts_before_the_pods_rules_are_in_force(tmp_path):
    async with running(tmp_path, isolated()) as node:
        await until(lambda: node.status.get("podIP"), "the proxy needs its address")
        assert node.container() is None and node.status["phase"] == "Pending" and network_ready(node) == "False"
        in_force(node)
        await until(lambda: node.status.get("phase") == "Running")


async def test_init_containers_wait_for_the_rules_as_well(tmp_path):
    async with running(tmp_path, {**pod(inits=[("first", "true")]), "status": isolated()["status"]}) as node:
        await until(lambda: node.status.get("podIP"))
        assert node.container("first") is None
        in_force(node)
        await until(lambda: node.container("first"))


async def test_a_pod_whose_machine_was_booted_waits_for_its_rules_again(tmp_path):
    async with running(tmp_path, isolated()) as node:
        await until(lambda: node.status.get("podIP"))
        in_force(node)
        await until(lambda: node.status.get("phase") == "Running")
        before = node.status["podIP"]
        node.machine.last_address = ""  # so that it gets the same address again
        await node.boot()
        await until(lambda: network_ready(node) == "False")
        assert node.status["podIP"] == before and node.container() is None
        in_force(node)
        await until(lambda: node.container() and node.container().state is State.RUNNING)


async def test_an_agent_that_is_new_takes_what_runs_as_isolated(tmp_path):
    async with running(tmp_path, isolated()) as node:
        await until(lambda: node.status.get("podIP"))
        in_force(node)
        await until(lambda: node.status.get("phase") == "Running")
        writes = len(node.api.writes)
        await node.stop()
        node.see(node.api.objects[PATH])
        await until(lambda: node.container().state is State.RUNNING)
        await asyncio.sleep(0.05)
        assert network_ready(node) == "True" and node.container().attempt == 0
        assert not [each for each in node.api.writes[writes:] if "NetworkReady" in str(each)]


# -- leaving


async def test_leaving_waits_until_the_proxies_let_go(tmp_path):
    async with running(tmp_path, pod(), drain_s=5) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.delete(30)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(node.gone.wait(), 0.1)
        assert node.container().state is State.RUNNING
        assert any(c["type"] == "Ready" and c["status"] == "True" for c in node.status["conditions"]), "it still serves"
        node.drained()
        await asyncio.wait_for(node.gone.wait(), 2)
        assert PATH not in node.api.objects and node.machine.sandboxes == {}
        assert node.api.writes[-1][1]["gracePeriodSeconds"] == 0
        last = node.api.writes[-2][1]["status"]
        assert (last["phase"], last["containerStatuses"][0]["state"]["terminated"]["exitCode"]) == ("Failed", 143)


async def test_nobody_lets_go_so_it_waits_a_bounded_time(tmp_path):
    async with running(tmp_path, pod(), drain_s=0.1) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.delete(30)
        await asyncio.wait_for(node.gone.wait(), 2)


async def test_a_pod_that_never_ran_has_failed_before_the_api_forgets_it(tmp_path):
    """A Job's pod is kept by a finalizer until the Job has counted it, and it counts none that is Pending."""
    node = Node(tmp_path)
    node.images.missing["tiny:1"] = "no such image"
    node.see(pod())
    try:
        await until(lambda: node.status.get("containerStatuses"))
        node.delete(30)
        await asyncio.wait_for(node.gone.wait(), 2)
        last = node.api.writes[-2][1]["status"]
        assert (last["phase"], last["containerStatuses"][0]["state"]["terminated"]["exitCode"]) == ("Failed", 137)
    finally:
        await node.stop()


async def test_a_pod_that_is_deleted_before_its_first_report_is_reported_to_who_waits_for_its_end(tmp_path):
    the_pod = pod()
    leaving = {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 30,
        "finalizers": ["batch.kubernetes.io/job-tracking"],
    }
    async with running(tmp_path, {**the_pod, "metadata": {**the_pod["metadata"], **leaving}}) as node:
        await asyncio.wait_for(node.gone.wait(), 2)
        phases = [body["status"]["phase"] for _, body in node.api.writes if "status" in body]
        assert phases[-1] == "Failed"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"hostUsers": False}, "can't set `spec.hostUsers: false`, runtime does not support user namespaces"),
        ({"resourceClaims": [{"name": "gpu"}]}, "failed to prepare dynamic resources: no driver of devices runs on this node"),
    ],
)
async def test_a_pod_that_wants_what_no_minion_has_is_never_started(tmp_path, spec, why):
    """On a machine without user namespaces, too: the API relaxes its rules for such pods, so as root of its machine one would be more than it was allowed to be."""
    the_pod = pod()
    async with running(tmp_path, {**the_pod, "spec": {**the_pod["spec"], **spec}}) as node:
        await until(lambda: any(event["reason"] == "FailedCreatePodSandBox" for event in node.api.events))
        said = next(event["message"] for event in node.api.events if event["reason"] == "FailedCreatePodSandBox")
        assert said == f"Failed to create pod sandbox: {why}"
        assert not FakeRuntime(node.machine).pods(), "nothing of it runs"
        node.delete(0)
        await asyncio.wait_for(node.gone.wait(), 2)


async def test_a_pod_that_wants_users_of_its_own_has_them_where_a_machine_can_give_them(tmp_path):
    the_pod = pod()
    async with running(tmp_path, {**the_pod, "spec": {**the_pod["spec"], "hostUsers": False}}, own_users=True) as node:
        await until(lambda: node.status.get("phase") == "Running")
        assert node.machine.sandboxes["u1"].first_user == 65_536


async def test_pre_stop_runs_before_the_signal(tmp_path):
    async with running(tmp_path, pod(lifecycle={"preStop": {"exec": {"command": ["true", "stop"]}}})) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.delete(30)
        await asyncio.wait_for(node.gone.wait(), 2)
        assert node.machine.runs == [("c", ("true", "stop"))]


async def test_an_object_that_is_gone_takes_its_pod_with_it_at_once(tmp_path):
    async with running(tmp_path, pod(), drain_s=30) as node:
        await until(lambda: node.container())
        del node.api.objects[PATH]
        node.worker.gone()
        await asyncio.wait_for(node.gone.wait(), 2)
        assert (node.machine.containers, node.machine.sandboxes) == ({}, {})


async def test_a_second_delete_with_less_grace_hurries(tmp_path):
    slow = {"preStop": {"sleep": {"seconds": 1}}}
    async with running(tmp_path, pod(lifecycle=slow), drain_s=0) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.delete(30)
        node.delete(1)
        await asyncio.wait_for(node.gone.wait(), 3)


# -- an API that is away, an agent that is new


async def test_restarts_go_on_while_the_api_is_away_and_are_told_when_it_is_back(tmp_path):
    async with running(tmp_path, pod()) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.api.away = True
        node.machine.finish(node.container().id, 1)
        await until(lambda: node.container().attempt == 1)
        node.api.away = False
        await until(lambda: node.status["containerStatuses"][0]["restartCount"] == 1)


async def test_a_new_agent_takes_over_and_tells_nothing_new(tmp_path):
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1000}
    async with running(tmp_path, pod(readinessProbe=probe)) as node:
        await until(lambda: node.status.get("containerStatuses") and node.status["containerStatuses"][0]["ready"])
        await node.stop()
        before, writes = node.container(), len(node.api.writes)
        node.see(node.api.objects[PATH])
        await asyncio.sleep(0.3)
        assert (node.container(), len(node.api.writes)) == (before, writes)


async def test_a_pod_the_api_has_not_confirmed_is_kept_going_but_not_reported(tmp_path):
    node = Node(tmp_path)
    node.see(pod(), confirmed=False)
    await until(lambda: node.container())
    await asyncio.sleep(0.2)
    assert node.api.writes == []
    node.worker.update(node.api.objects[PATH])
    await until(lambda: node.status.get("phase") == "Running")
    await node.stop()


async def test_after_a_boot_the_restart_is_counted(tmp_path):
    async with running(tmp_path, pod()) as node:
        await until(lambda: node.status.get("phase") == "Running")
        await node.boot()
        await until(lambda: node.status["containerStatuses"][0]["restartCount"] == 1)
        last = node.status["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["reason"], last["exitCode"]) == ("ContainerStatusUnknown", 137)


async def test_after_a_boot_a_pod_that_is_never_restarted_has_failed(tmp_path):
    async with running(tmp_path, pod(policy="Never")) as node:
        await until(lambda: node.status.get("phase") == "Running")
        await node.boot()
        await until(lambda: node.status.get("phase") == "Failed")
        assert node.container() is None


async def test_an_empty_dir_is_shared_and_there_before_the_start(tmp_path):
    the_pod = pod(volumeMounts=[{"name": "w", "mountPath": "/work", "subPath": "a/b"}])
    the_pod["spec"]["volumes"] = [{"name": "w", "emptyDir": {}}]
    async with running(tmp_path, the_pod) as node:
        await until(lambda: node.container())
        mount = next(each for each in node.machine.specs[node.container().id].mounts if each.target == "/work")
        assert (mount.source, mount.below) == (str(tmp_path / "pods/u1/volumes/w"), "a/b") and is_folder(mount.source)


async def test_a_mistake_of_ours_is_logged_and_tried_again(tmp_path, monkeypatch):
    node = Node(tmp_path)
    monkeypatch.setattr("labctl.agent.worker.RETRY_S", 0.02)
    ensure, node.images.ensure = node.images.ensure, None
    node.see(pod())
    await until(lambda: any("TypeError" in each for each in node.said))
    node.images.ensure = ensure
    await until(lambda: node.status.get("phase") == "Running")
    await node.stop()


def with_ephemeral(the_pod, *argv, **more):
    container = {"name": "debugger", "image": "tiny:1", "command": list(argv), **more}
    return {**the_pod, "spec": {**the_pod["spec"], "ephemeralContainers": [container]}}


async def test_an_ephemeral_container_is_started_beside_the_others_and_never_again(tmp_path):
    async with running(tmp_path, pod()) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.worker.update(node.api.put(PATH, with_ephemeral(node.api.objects[PATH], "sleep", "9", targetContainerName="c")))
        await until(lambda: "running" in node.status.get("ephemeralContainerStatuses", [{"state": {}}])[0]["state"])
        shown = node.status["ephemeralContainerStatuses"][0]
        assert (shown["name"], shown["ready"], shown["restartCount"], "started" in shown) == ("debugger", False, 0, False)
        assert node.machine.specs[node.container("debugger").id].sees_processes_of == "c"
        node.machine.finish(node.container("debugger").id, 3)
        await until(lambda: "terminated" in node.status["ephemeralContainerStatuses"][0]["state"])
        await asyncio.sleep(0.2)
        assert node.container("debugger").attempt == 0 and node.status["phase"] == "Running"
        ready = next(each for each in node.status["conditions"] if each["type"] == "Ready")
        assert ready["status"] == "True", "a pod is as ready as its own containers"
        await node.boot()
        await until(lambda: node.container() is not None)
        assert node.container("debugger") is None, "nor after the machine's boot"


async def test_an_ephemeral_container_needs_no_init_container_to_succeed(tmp_path):
    stuck = with_ephemeral(pod(inits=[("setup", "sleep")]), "sleep", "9")
    async with running(tmp_path, stuck) as node:
        await until(lambda: "running" in node.status.get("ephemeralContainerStatuses", [{"state": {}}])[0]["state"])
        assert node.status["phase"] == "Pending"


async def test_an_ephemeral_container_whose_target_does_not_run_says_so(tmp_path):
    stuck = with_ephemeral(pod(inits=[("setup", "sleep")]), "sleep", "9", targetContainerName="c")
    async with running(tmp_path, stuck) as node:
        await until(lambda: "unable to find target container c" in str(node.status.get("ephemeralContainerStatuses")))


# -- sidecars (KEP-753)


def with_sidecars(the_pod, *sidecars):
    """Init containers with restartPolicy Always, in this order."""
    made = [{"image": "tiny:1", "command": ["sleep", "9"], "restartPolicy": "Always", **each} for each in sidecars]
    return {**the_pod, "spec": {**the_pod["spec"], "initContainers": made}}


def init_status(node, name):
    return next((each for each in node.status.get("initContainerStatuses", ()) if each["name"] == name), {})


def condition_of(node, kind):
    return next((each for each in node.status.get("conditions", ()) if each["type"] == kind), {})


async def test_a_sidecars_startup_probe_holds_up_what_comes_after_it(tmp_path, monkeypatch):
    probe = {"exec": {"command": ["asked"]}, "periodSeconds": 0.02, "failureThreshold": 1000}
    the_pod = with_sidecars(pod(), {"name": "first"}, {"name": "gate", "startupProbe": probe}, {"name": "last"})
    async with running(tmp_path, the_pod) as node:
        await until(lambda: "running" in init_status(node, "gate").get("state", {}))
        await until(lambda: any(name == "gate" for name, _ in node.machine.runs))
        assert node.container("last") is None and node.container() is None and node.status["phase"] == "Pending"
        assert condition_of(node, "Initialized")["message"] == "containers with incomplete status: [gate last]"
        monkeypatch.setitem(runtime._ENDS_WITH, "asked", 0)
        await until(lambda: node.status["phase"] == "Running" and condition_of(node, "Ready")["status"] == "True")
        began = [node.container(name).started_s for name in ("first", "gate", "last", "c")]
        assert began == sorted(began)


async def test_a_sidecar_is_started_again_whatever_its_pods_policy_and_counts(tmp_path):
    async with running(tmp_path, with_sidecars(pod(policy="Never"), {"name": "proxy"})) as node:
        await until(lambda: node.status.get("phase") == "Running")
        main = node.container().id
        node.machine.finish(node.container("proxy").id, 0)
        await until(lambda: init_status(node, "proxy").get("restartCount") == 1 and "running" in init_status(node, "proxy")["state"])
        assert node.container().id == main and node.status["phase"] == "Running"


async def test_a_pod_is_as_ready_as_its_sidecars(tmp_path, monkeypatch):
    probe = {"exec": {"command": ["asked"]}, "periodSeconds": 0.02, "failureThreshold": 1}
    async with running(tmp_path, with_sidecars(pod(), {"name": "proxy", "readinessProbe": probe})) as node:
        await until(lambda: node.status.get("phase") == "Running" and condition_of(node, "Ready"))
        assert condition_of(node, "Ready")["message"] == "containers with unready status: [proxy]"
        monkeypatch.setitem(runtime._ENDS_WITH, "asked", 0)
        await until(lambda: condition_of(node, "Ready")["status"] == "True")


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
async def test_sidecars_hold_up_no_end_and_end_after_the_containers_in_reverse_order(tmp_path, code, phase):
    the_pod = with_sidecars(pod(policy="Never"), {"name": "a"}, {"name": "b"}, {"name": "z"})
    async with running(tmp_path, the_pod) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.machine.finish(node.container().id, code)
        await until(lambda: node.status["phase"] == phase)
        ends = [node.container(name).finished_s for name in ("c", "z", "b", "a")]
        assert ends == sorted(ends)
        assert all("terminated" in each["state"] for each in node.status["initContainerStatuses"]), "told when all have ended, not before"
        assert [each["restartCount"] for each in node.status["initContainerStatuses"]] == [0, 0, 0]


async def test_an_agent_that_is_new_does_not_start_the_sidecars_of_a_pod_that_is_done(tmp_path):
    async with running(tmp_path, with_sidecars(pod(policy="Never"), {"name": "a"}, {"name": "b"})) as node:
        await until(lambda: node.status.get("phase") == "Running")
        await node.stop()
        for name in ("c", "b"):  # the agent died while it stopped them
            node.machine.finish(node.container(name).id, 0)
        node.see(node.api.objects[PATH])
        await until(lambda: node.status["phase"] == "Succeeded")
        assert node.container("b").attempt == 0 and node.container("a").attempt == 0


async def test_pre_stop_hooks_of_sidecars_begin_at_once_and_signals_wait_for_their_turn(tmp_path):
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}}
    the_pod = with_sidecars(pod(lifecycle={"preStop": {"sleep": {"seconds": 0.3}}}), {"name": "a", **hook}, {"name": "b", **hook})
    async with running(tmp_path, the_pod) as node:
        await until(lambda: node.status.get("phase") == "Running")
        node.delete(30)
        await until(lambda: {name for name, _ in node.machine.runs} == {"a", "b"})
        assert all(node.container(name).state is State.RUNNING for name in ("a", "b", "c"))
        await node.gone.wait()


async def test_a_containers_own_restart_policy_goes_before_its_pods(tmp_path):
    async with running(tmp_path, pod(("false",), policy="Always", restartPolicy="Never")) as node:
        await until(lambda: node.status.get("phase") == "Failed")
        assert node.container().attempt == 0
    async with running(tmp_path / "2", pod(("true",), policy="Never", restartPolicy="Always")) as node:
        await until(lambda: node.container() and node.container().attempt >= 1)
        assert node.status.get("phase") != "Succeeded"


def restarts(operator, *values):
    return [{"action": "Restart", "exitCodes": {"operator": operator, "values": list(values)}}]


async def test_a_container_is_started_again_by_a_rule_of_its_exit_code(tmp_path):
    again = pod(("false",), policy="Never", restartPolicy="Never", restartPolicyRules=restarts("In", 1, 42))
    async with running(tmp_path, again) as node:
        await until(lambda: node.container() and node.container().attempt >= 1)
        assert node.status.get("phase") != "Failed"
    over = pod(("false",), policy="Never", restartPolicy="Never", restartPolicyRules=restarts("NotIn", 1))
    async with running(tmp_path / "2", over) as node:
        await until(lambda: node.status.get("phase") == "Failed")
        assert node.container().attempt == 0


async def test_an_init_container_is_started_again_by_a_rule_too(tmp_path):
    the_pod = pod(policy="Never")
    rules = {"restartPolicy": "Never", "restartPolicyRules": restarts("NotIn", 7)}
    the_pod["spec"]["initContainers"] = [{"name": "i", "image": "tiny:1", "command": ["false"], **rules}]
    async with running(tmp_path, the_pod) as node:
        await until(lambda: node.container("i") and node.container("i").attempt >= 1)
        assert node.status.get("phase") == "Pending"


@pytest.mark.parametrize("forced", [False, True])
async def test_a_hook_that_takes_the_whole_grace_leaves_a_moment_to_end_unless_the_pod_is_forced_away(tmp_path, forced):
    the_pod = pod(lifecycle={"preStop": {"sleep": {"seconds": 60}}}, grace_s=60)
    async with running(tmp_path, the_pod) as node:
        await until(lambda: node.status.get("phase") == "Running")
        signals, plain = [], FakeRuntime.signal

        async def noted(self, container_id, number):
            signals.append(number)
            if number == signal.SIGKILL:
                await plain(self, container_id, number)

        node.worker._tools.runtime.signal = noted.__get__(node.worker._tools.runtime)
        node.delete(0.2 if not forced else 60)
        if forced:
            await until(lambda: any(each["reason"] == "Killing" for each in node.api.events))
            node.worker.gone()
        began = time.monotonic()
        await asyncio.wait_for(node.gone.wait(), 8)
        assert (time.monotonic() - began < 1.5) is forced
        assert forced or signals == [signal.SIGTERM, signal.SIGKILL]


async def test_containers_start_in_their_order_whenever_their_images_come(tmp_path):
    the_pod = pod()
    the_pod["spec"]["containers"] = [
        {"name": "a", "image": "a:1", "command": ["sleep"], "lifecycle": {"postStart": {"exec": {"command": ["true"]}}}},
        {"name": "b", "image": "b:1", "command": ["sleep"]},
    ]
    node = Node(tmp_path)
    a = node.images.slow["a:1"] = asyncio.Event()
    node.see(the_pod)
    try:
        await until(lambda: node.status.get("containerStatuses"))
        await until(lambda: "Pulling" in node.api.reasons() or node.worker._attempts._pulls.keys() >= {"a", "b"})
        for _ in range(20):
            node.worker.wake()
            await asyncio.sleep(0)
        assert node.container("a") is None and node.container("b") is None, "b waits for a, though its image is here"
        a.set()
        await until(lambda: node.container("b"))
        assert node.container("a").created_s <= node.container("b").created_s
        assert node.machine.runs[0] == ("a", ("true",)), "a's hook ran before b"
    finally:
        await node.stop()


async def test_a_container_whose_image_can_not_be_had_holds_up_none_after_it(tmp_path):
    the_pod = pod()
    the_pod["spec"]["containers"] = [{"name": name, "image": f"{name}:1", "command": ["sleep"]} for name in ("a", "b")]
    node = Node(tmp_path, image_backoff_first_s=60.0)
    node.images.missing["a:1"] = "no such image"
    node.see(the_pod)
    try:
        await until(lambda: node.container("b") and "containerStatuses" in node.status)
        await until(lambda: node.status["containerStatuses"][0]["state"]["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff"))
    finally:
        await node.stop()


async def test_why_a_post_start_hook_failed_is_told_where_the_container_waits(tmp_path):
    hook = {"postStart": {"exec": {"command": ["false"]}}}
    async with running(tmp_path, pod(lifecycle=hook), backoff_first_s=60.0) as node:
        await until(lambda: node.status.get("containerStatuses") and node.status["containerStatuses"][0]["restartCount"] == 1)
        await until(lambda: "waiting" in node.status["containerStatuses"][0]["state"])
        status = node.status["containerStatuses"][0]
        assert status["state"]["waiting"]["reason"] == "PostStartHookError"
        assert status["state"]["waiting"]["message"].startswith("command 'false' exited with 1")
        assert status["lastState"]["terminated"]["exitCode"] == 143
        [told] = {event["message"] for event in node.api.events if event["reason"] == "FailedPostStartHook"}
        assert told == "PostStartHook failed"


@pytest.mark.parametrize("end", ["deleted", "evicted", "out of time"])
async def test_a_pod_that_is_to_end_does_not_wait_for_its_post_start_hook(tmp_path, end):
    deadline = {"activeDeadlineSeconds": 1} if end == "out of time" else {}
    the_pod = pod(lifecycle={"postStart": {"sleep": {"seconds": 3600}}})
    the_pod["spec"] |= {"terminationGracePeriodSeconds": 1, **deadline}
    async with running(tmp_path, the_pod) as node:
        await until(lambda: node.container() and node.container().state is State.RUNNING)
        if end == "deleted":
            node.delete(1)
            await asyncio.wait_for(node.gone.wait(), 10)
            return
        if end == "evicted":
            node.worker.evict("The node was low on resource: memory. ")
        await until(lambda: node.status.get("phase") == "Failed")
        assert node.status["reason"] == ("Evicted" if end == "evicted" else "DeadlineExceeded")


async def test_a_container_is_not_running_before_its_post_start_hook_has_ended(tmp_path):
    async with running(tmp_path, pod(lifecycle={"postStart": {"sleep": {"seconds": 1}}})) as node:
        await until(lambda: node.container() and "containerStatuses" in node.status)
        began_s, seen = time.monotonic(), []
        while "running" not in state(node):
            seen.append((state(node)["waiting"]["reason"], node.status["phase"], node.status["containerStatuses"][0]["ready"]))
            assert time.monotonic() < began_s + 10
            await asyncio.sleep(0.01)
        assert set(seen) == {("ContainerCreating", "Pending", False)}
        assert time.monotonic() - began_s > 0.5
        await until(lambda: node.status["phase"] == "Running" and node.status["containerStatuses"][0]["ready"])


class Certificates:
    """A signer that answers when the test says so."""

    def __init__(self, the_worker):
        self.bundles, self.asked, self.forgotten = [], [], []
        tools = the_worker._tools
        tools.certificates, tools.sources = self, dataclasses.replace(tools.sources, certificate=self.bundle)

    def ask(self, the_pod):
        self.asked.append(the_pod["metadata"]["name"])

    async def bundle(self, _pod, volume, index):
        if not self.bundles:
            raise ConfigError("credential bundle is not issued yet")
        return self.bundles[-1], f"{volume} {index}".encode()

    def forget(self, uid):
        self.forgotten.append(uid)


def certified(*argv, **options):
    the_pod = pod(*argv, volumeMounts=[{"name": "tls", "mountPath": "/tls"}], **options)
    source = {"podCertificate": {"signerName": "example.com/tests", "keyType": "ED25519", "keyPath": "key.pem"}}
    the_pod["spec"]["volumes"] = [{"name": "tls", "projected": {"sources": [source]}}]
    return the_pod


async def test_a_pod_waits_for_its_certificate_and_gets_each_later_one(tmp_path, monkeypatch):
    monkeypatch.setattr(mounting, "RETRY_S", 600)  # only the answer itself makes it look again
    async with running(tmp_path, certified()) as node:
        signer = Certificates(node.worker)
        await until(lambda: "FailedMount" in node.api.reasons())
        [said] = [event["message"] for event in node.api.events if event["reason"] == "FailedMount"]
        assert said == 'MountVolume.SetUp failed for volume "tls" : credential bundle is not issued yet'
        assert node.container() is None and signer.asked
        signer.bundles.append(b"first")
        node.worker.certified()
        await until(lambda: node.container() and node.container().state is State.RUNNING)
        file = tmp_path / "pods" / "u1" / "volumes" / "tls" / "key.pem"
        assert file.read_bytes() == b"first"
        signer.bundles.append(b"second")
        node.worker.certified()
        await until(lambda: file.read_bytes() == b"second")


async def test_nothing_is_asked_for_a_pod_that_has_ended(tmp_path):
    async with running(tmp_path, certified(("true",), policy="Never")) as node:
        signer = Certificates(node.worker)
        signer.bundles.append(b"first")
        await until(lambda: node.status.get("phase") == "Succeeded")
        assert signer.forgotten
        signer.asked.clear()
        node.worker.certified()
        await asyncio.sleep(0.05)
        assert not signer.asked and not is_folder(tmp_path / "pods" / "u1" / "certificates")


async def test_a_pod_that_waits_for_its_certificate_is_deleted_at_once(tmp_path):
    async with running(tmp_path, certified()) as node:
        Certificates(node.worker)
        await until(lambda: "FailedMount" in node.api.reasons())
        node.delete(30)
        await asyncio.wait_for(node.gone.wait(), 5)
