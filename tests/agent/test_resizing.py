"""A running pod is resized in place on the fake machine: at once, by a restart, later, or never."""

import json

import pytest

from labctl.agent.runtime.interface import Limits
from tests.agent.test_worker import PATH, pod, running, until

SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}
LARGE = {"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
MIB = 1 << 20


def ask(node, resources):
    """What the API holds after `kubectl patch pod web --subresource resize`."""
    whole = node.api.objects[PATH]
    [container] = whole["spec"]["containers"]
    spec = {**whole["spec"], "containers": [{**container, "resources": resources}]}
    meta = {**whole["metadata"], "generation": whole["metadata"].get("generation", 1) + 1}
    node.worker.update(node.api.put(PATH, {**whole, "metadata": meta, "spec": spec}))


def resizing(node):
    """The conditions about a resize: type to reason."""
    found = {each["type"]: each for each in node.status.get("conditions", ())}
    return {kind: found[kind].get("reason", "") for kind in ("PodResizePending", "PodResizeInProgress") if kind in found}


def told(node):
    [status] = node.status["containerStatuses"]
    return status.get("allocatedResources"), status.get("resources")


def events(node):
    """The Events about a resize, in their order: reason and message."""
    return [(each["reason"], each["message"]) for each in node.api.events if each["reason"].startswith("Resize")]


async def begun(node):
    await until(lambda: node.status.get("phase") == "Running")
    return node.container()


async def test_limits_change_while_the_container_runs(tmp_path):
    async with running(tmp_path, pod(resources=SMALL)) as node:
        first = await begun(node)
        assert first.limits == Limits(102, 20_000, 128 * MIB) and told(node) == (SMALL["requests"], SMALL)
        ask(node, LARGE)
        await until(lambda: told(node) == (LARGE["requests"], LARGE))
        assert node.container().id == first.id and node.container().limits == Limits(512, 100_000, 256 * MIB)
        await until(lambda: resizing(node) == {})
        await until(lambda: [reason for reason, _ in events(node)] == ["ResizeStarted", "ResizeCompleted"])
        (_, started), (_, completed) = events(node)
        assert started.startswith("Pod resize started: {") and completed.startswith("Pod resize completed: {")
        summary = json.loads(completed.partition(": ")[2])
        assert summary["containers"] == [{"name": "c", "resources": LARGE}] and isinstance(summary["generation"], int)


async def test_a_policy_of_restarting_is_kept_for_its_resource_alone(tmp_path):
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}, {"resourceName": "cpu", "restartPolicy": "NotRequired"}]
    async with running(tmp_path, pod(resources=SMALL, resizePolicy=policy)) as node:
        first = await begun(node)
        ask(node, {**SMALL, "limits": {"cpu": "1", "memory": "128Mi"}})
        await until(lambda: node.container().limits.cpu_quota_us == 100_000)
        assert node.container().id == first.id
        ask(node, LARGE)
        await until(
            lambda: node.status["containerStatuses"][0]["restartCount"] == 1 and "running" in node.status["containerStatuses"][0]["state"]
        )
        assert node.container().limits == Limits(512, 100_000, 256 * MIB)
        await until(lambda: told(node) == (LARGE["requests"], LARGE) and resizing(node) == {})


@pytest.mark.parametrize(("others", "reason"), [(800, "Deferred"), (0, "Infeasible")])
async def test_what_does_not_fit_waits_and_says_so(tmp_path, others, reason):
    async with running(tmp_path, pod(resources=SMALL)) as node:
        await begun(node)
        tools = node.worker._tools
        tools.allocatable, tools.taken["another"] = {"cpu": "1", "memory": "1Gi"}, {"cpu": others, "memory": 0}
        asked = (
            LARGE
            if reason == "Deferred"
            else {**LARGE, "requests": {"cpu": "2", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "128Mi"}}
        )
        ask(node, asked)
        await until(lambda: resizing(node) == {"PodResizePending": reason})
        await until(lambda: events(node))
        said, message = events(node)[0]
        summary = json.loads(message.removeprefix(f"Pod resize {reason}: "))
        assert said == f"Resize{reason}" and summary["error"].startswith("Node didn't have enough")
        assert summary["containers"][0]["resources"] == asked
        assert node.container().limits == Limits(102, 20_000, 128 * MIB) and told(node) == (SMALL["requests"], SMALL)
        del tools.taken["another"]
        tools.allocatable = {"cpu": "4", "memory": "1Gi"}
        node.worker.wake()
        await until(lambda: told(node) == (asked["requests"], asked) and resizing(node) == {})


async def test_a_limit_below_what_is_in_use_is_said_and_tried_again(tmp_path):
    async with running(tmp_path, pod(resources=LARGE)) as node:
        first = await begun(node)
        node.machine.used[first.id] = 200 * MIB
        ask(node, SMALL)
        await until(lambda: resizing(node) == {"PodResizeInProgress": "Error"})
        await until(lambda: [reason for reason, _ in events(node)] == ["ResizeStarted", "ResizeError"])
        assert told(node) == (SMALL["requests"], LARGE), "what was given, and what holds"
        node.machine.used.clear()
        node.worker.wake()
        await until(lambda: told(node) == (SMALL["requests"], SMALL) and resizing(node) == {})


async def test_a_new_agent_keeps_what_the_one_before_it_gave(tmp_path):
    async with running(tmp_path, pod(resources=SMALL)) as node:
        await begun(node)
        tools = node.worker._tools
        tools.allocatable = {"cpu": "300m", "memory": "1Gi"}
        ask(node, LARGE)
        await until(lambda: resizing(node) == {"PodResizePending": "Infeasible"})
        await node.stop()
        node.see(node.api.objects[PATH])
        node.worker._tools.allocatable = tools.allocatable
        node.machine.finish(node.container().id, 1)
        await until(
            lambda: node.status["containerStatuses"][0]["restartCount"] == 1 and "running" in node.status["containerStatuses"][0]["state"]
        )
        assert node.container().limits == Limits(102, 20_000, 128 * MIB), "a restart is no way round"


async def test_a_pods_own_resources_are_resized_with_the_containers_that_lean_on_them(tmp_path):
    whole = pod(resources={"requests": {"cpu": "100m"}})
    whole["spec"]["resources"] = SMALL
    async with running(tmp_path, whole) as node:
        first = await begun(node)
        assert first.limits == Limits(102, 20_000, 128 * MIB)
        await until(lambda: (node.status.get("allocatedResources"), node.status.get("resources")) == (SMALL["requests"], SMALL))
        held = node.api.objects[PATH]
        changed = {**held, "metadata": {**held["metadata"], "generation": 2}, "spec": {**held["spec"], "resources": LARGE}}
        node.worker.update(node.api.put(PATH, changed))
        await until(lambda: (node.status.get("allocatedResources"), node.status.get("resources")) == (LARGE["requests"], LARGE))
        assert node.container().id == first.id and node.container().limits == Limits(102, 100_000, 256 * MIB)
        assert node.worker._tools.taken[held["metadata"]["uid"]] == {"cpu": 500, "memory": 64 * MIB}
        await until(lambda: resizing(node) == {})


async def test_a_pods_own_bound_alone_changes_too_and_what_does_not_fit_waits(tmp_path):
    whole = pod(resources=SMALL)
    whole["spec"]["resources"] = LARGE
    async with running(tmp_path, whole) as node:
        await begun(node)
        await until(lambda: node.status.get("resources") == LARGE)
        for cpu, reason in (("2", "Infeasible"), ("1", None)):
            node.worker._tools.allocatable = {"cpu": "1500m", "memory": "1Gi"}
            larger = {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"cpu": "4", "memory": "512Mi"}}
            held = node.api.objects[PATH]
            changed = {**held, "spec": {**held["spec"], "resources": larger}}
            node.worker.update(node.api.put(PATH, changed))
            await until(lambda: resizing(node).get("PodResizePending") == reason)
            await until(lambda: node.status.get("resources") == (LARGE if reason else larger))
        assert node.container().limits == Limits(102, 20_000, 128 * MIB)
