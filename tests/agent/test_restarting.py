"""RestartAllContainers (KEP-5532) on the fake machine: one container's end makes all of its pod begin again, and only once."""

import pytest

from labctl.agent.runtime.interface import State
from tests.agent.test_worker import PATH, pod, running, until

RULES = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]
NAMES = ("setup", "watcher", "c")


def watched(grace_s=30):
    """A pod that is never restarted, but for its watcher's word."""
    made = pod(policy="Never", grace_s=grace_s, lifecycle={"preStop": {"exec": {"command": ["late"]}}})
    watcher = {"name": "watcher", "image": "tiny:1", "command": ["sleep", "9"], "restartPolicy": "Never", "restartPolicyRules": RULES}
    made["spec"]["containers"].append(watcher)
    made["spec"]["initContainers"] = [{"name": "setup", "image": "tiny:1", "command": ["true"]}]
    return made


def attempts(node):
    return tuple(node.container(name).attempt if node.container(name) else None for name in NAMES)


def restarting(node):
    return next((each for each in node.status.get("conditions", ()) if each["type"] == "AllContainersRestarting"), {})


async def begun(node):
    await until(lambda: node.status.get("phase") == "Running" and attempts(node) == (0, 0, 0))


async def test_all_containers_begin_again_in_the_same_sandbox(tmp_path):
    async with running(tmp_path, watched()) as node:
        await begun(node)
        address, before = node.status["podIP"], len(node.api.writes)
        assert restarting(node)["status"] == "False"
        node.machine.finish(node.container("watcher").id, 88)
        await until(lambda: attempts(node) == (1, 1, 1) and node.status.get("phase") == "Running")
        assert node.status["podIP"] == address and not node.machine.runs, "the sandbox stays, and hooks are not run"
        assert all(node.container(name).state is State.RUNNING for name in ("watcher", "c"))
        await until(lambda: restarting(node)["status"] == "False")
        counts = {each["name"]: each["restartCount"] for each in node.status["containerStatuses"] + node.status["initContainerStatuses"]}
        assert counts == dict.fromkeys(NAMES, 1)
        last = {each["name"]: each["lastState"]["terminated"]["exitCode"] for each in node.status["containerStatuses"]}
        assert last == {"watcher": 88, "c": 137}
        phases = {value["status"]["phase"] for _, value in node.api.writes[before:]}
        assert "Running" in phases and phases <= {"Pending", "Running"}, "it never looked as if it had failed"
        assert next(each for each in node.status["conditions"] if each["type"] == "Initialized")["status"] == "True"


async def test_another_code_ends_the_pod_as_its_policy_says(tmp_path):
    async with running(tmp_path, watched()) as node:
        await begun(node)
        node.machine.finish(node.container("watcher").id, 3)
        node.machine.finish(node.container("c").id, 0)
        await until(lambda: node.status.get("phase") == "Failed")
        assert attempts(node) == (0, 0, 0) and restarting(node)["status"] == "False"


async def test_an_init_container_that_fails_afterwards_fails_a_pod_that_is_never_restarted(tmp_path):
    async with running(tmp_path, watched()) as node:
        await begun(node)
        node.api.objects[PATH]["spec"]["initContainers"][0]["command"] = ["false"]
        node.worker.update(node.api.put(PATH, node.api.objects[PATH]))
        node.machine.finish(node.container("watcher").id, 88)
        await until(lambda: node.status.get("phase") == "Failed")
        assert attempts(node)[0] == 1


async def test_an_end_in_the_middle_of_a_look_skips_no_init_container(tmp_path):
    """The worker has looked, and decides: what it decides must not start a container before those that run are killed and the init containers have run."""
    async with running(tmp_path, watched()) as node:
        await begun(node)
        opened, ends = node.worker._opened, [node.container("watcher").id]

        async def ends_meanwhile(found):
            there = await opened(found)
            if ends:
                node.machine.finish(ends.pop(), 88)
            return there

        node.worker._opened = ends_meanwhile
        node.worker.wake()
        await until(lambda: not ends and attempts(node) == (1, 1, 1) and node.status.get("phase") == "Running")
        first = {each.name: each.started_s for each in node.worker._found().containers if each.attempt == 1}
        assert first["setup"] <= min(first["c"], first["watcher"])


async def test_a_new_agent_goes_on_where_the_one_before_was_killed(tmp_path):
    async with running(tmp_path, watched()) as node:
        await begun(node)
        await node.stop()
        node.machine.finish(node.container("watcher").id, 88)
        node.see(node.api.objects[PATH])
        node.worker._restarting.seen(node.worker._found())  # it is written down, and then the agent dies
        await node.stop()
        node.see(node.api.objects[PATH])
        await until(lambda: attempts(node) == (1, 1, 1) and node.status.get("phase") == "Running")
        await node.stop()
        node.see(node.api.objects[PATH])
        node.machine.finish(node.container("c").id, 0)
        await until(lambda: any("terminated" in each["state"] for each in node.status["containerStatuses"]))
        assert attempts(node) == (1, 1, 1), "what is done is not done again"


async def test_one_that_asks_again_and_again_is_made_to_wait(tmp_path):
    async with running(tmp_path, watched(), backoff_first_s=60.0) as node:
        await begun(node)
        node.machine.finish(node.container("watcher").id, 88)
        await until(lambda: attempts(node) == (1, 1, 1) and node.status.get("phase") == "Running")
        node.machine.finish(node.container("watcher").id, 88)
        await until(lambda: node.container("c").state is State.EXITED and node.status.get("phase") == "Pending")
        assert attempts(node) == (1, 1, 1)


@pytest.mark.parametrize("ended", ["deleted", "gone"])
async def test_a_pod_that_is_leaving_does_not_begin_again(tmp_path, ended):
    async with running(tmp_path, watched(grace_s=0)) as node:
        await begun(node)
        watcher = node.container("watcher").id
        if ended == "deleted":
            node.delete(0)
        else:
            node.worker.gone()
        node.machine.finish(watcher, 88)
        await node.gone.wait()
        assert node.container("c") is None
