"""What a pod's status says when its containers are broken: the same on a simulated node, on the agent, and on the agent with real containers.

Experiments are played on all of them. What only some can break (`breaks`) is asked of those.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.agent import room
from tests.contract.nodes import MISSING, AgentNode, CrunNode, SimulatedNode

NODES = [CrunNode] if room.is_inside() else [SimulatedNode, AgentNode]
KILLED = 137


@pytest.mark.root
@pytest.mark.skipif(room.is_inside() or not room.possible(), reason="needs root, crun and conmon; or runs inside already")
def test_real_containers_keep_the_contract():
    room.pytest_inside(__file__)


@pytest.fixture(params=NODES, ids=lambda kind: kind.__name__)
def play(request, tmp_path: Path):
    """Plays a story on a node, if that can break things so."""

    def play(story, *needs: str, real_reset_s: float = 0.0):
        kind = request.param
        if not kind.breaks.issuperset(needs):
            pytest.skip("it does not break so")
        if real_reset_s and kind is not SimulatedNode:
            kind = type(kind.__name__, (kind,), {"reset_s": real_reset_s})
        kind.play(tmp_path, story)

    return play


def ended(status: dict, code: int, reason: str = "Error") -> bool:
    """Tell whether a state, or a last state, is such an end."""
    said = status.get("terminated", {})
    return (said.get("exitCode"), said.get("reason")) == (code, reason) and said["startedAt"] <= said["finishedAt"]


async def started(node, *asked, **more):
    await node.begin(*asked, **more)
    await node.until(lambda: node.ready and node.of().get("started"), "the pod did not start")
    assert node.of()["restartCount"] == 0 and not node.of()["lastState"] and node.status()["phase"] == "Running"


async def comes_back(node, restarts: int, code: int, reason: str = "Error"):
    await node.until(lambda: node.of()["restartCount"] == restarts and node.ready, f"it was not started again {restarts} times")
    assert "running" in node.of()["state"] and ended(node.of()["lastState"], code, reason)


@pytest.mark.parametrize(("code", "reason"), [(KILLED, "Error"), (3, "Error"), (0, "Completed")])
def test_a_container_that_ends_is_started_again_at_once(play, code, reason):
    async def story(node):
        await started(node)
        since, before = node.status()["startTime"], node.of()["containerID"]
        await (node.kill() if code == KILLED else node.end(code))
        await comes_back(node, 1, code, reason)
        assert node.of()["lastState"]["terminated"]["containerID"] == before != node.of()["containerID"]
        assert node.status()["startTime"] == since and {each["phase"] for each in node.seen if "phase" in each} <= {"Pending", "Running"}

    play(story, "kill", "end")


def test_the_second_time_it_is_shown_as_ended_and_then_backs_off(play):
    async def story(node):
        await started(node)
        await node.kill()
        await comes_back(node, 1, KILLED)
        await node.end(7)
        await node.until(lambda: ended(node.of()["state"], 7), "it was not shown as ended")
        assert ended(node.of()["lastState"], KILLED) and not node.of()["ready"] and not node.of()["started"]
        unready = node.condition("ContainersReady")
        assert (unready["status"], node.ready) == ("False", False)
        assert node.condition("Ready")["message"] == "containers with unready status: [c]"
        await node.until(lambda: "waiting" in node.of()["state"], "it did not back off")
        waits = node.of()["state"]["waiting"]
        shown = "10s" if node.first_s == 10 else "1s" if node.first_s == 1 else "400ms"
        message = f"back-off {shown} restarting failed container=c pod={node.title}"
        assert waits == {"reason": "CrashLoopBackOff", "message": message}
        assert ended(node.of()["lastState"], 7) and node.of()["restartCount"] == 1 and node.status()["phase"] == "Running"
        await comes_back(node, 2, 7)

    play(story, "kill", "end")


def test_one_that_ran_for_long_starts_at_once_again(play):
    async def story(node):
        await started(node)
        await node.kill()
        await comes_back(node, 1, KILLED)
        clock = asyncio.get_running_loop().time
        end = clock() + node.reset_s + 0.1
        await node.until(lambda: clock() > end)
        await node.kill()
        await comes_back(node, 2, KILLED)
        assert "CrashLoopBackOff" not in str(node.seen)

    play(story, "kill", real_reset_s=0.5)


@pytest.mark.parametrize(("code", "reason", "phase"), [(KILLED, "Error", "Failed"), (5, "Error", "Failed"), (0, "Completed", "Succeeded")])
def test_a_pod_that_is_never_restarted_ends_with_its_container(play, code, reason, phase):
    async def story(node):
        await started(node, "Never")
        await (node.kill() if code == KILLED else node.end(code))
        await node.until(lambda: node.status()["phase"] == phase, "the pod did not end")
        assert ended(node.of()["state"], code, reason) and node.of()["restartCount"] == 0
        assert not node.of()["ready"] and not node.ready

    play(story, "kill", "end")


def test_on_failure_only_a_failure_starts_it_again(play):
    async def story(node):
        await started(node, "OnFailure")
        await node.end(5)
        await comes_back(node, 1, 5)
        await node.end(0)
        await node.until(lambda: node.status()["phase"] == "Succeeded", "the pod did not end")
        assert ended(node.of()["state"], 0, "Completed") and ended(node.of()["lastState"], 5) and node.of()["restartCount"] == 1

    play(story, "end")


def test_of_two_containers_the_other_runs_on(play):
    async def story(node):
        await started(node, "Never", ("c", "d"))
        await node.until(lambda: node.of("d").get("ready"))
        await node.kill("d")
        await node.until(lambda: ended(node.of("d")["state"], KILLED) and not node.ready, "it was not shown as ended")
        assert node.status()["phase"] == "Running" and node.of()["ready"]
        assert node.condition("Ready")["message"] == "containers with unready status: [d]"
        await node.end(0)
        await node.until(lambda: node.status()["phase"] == "Failed", "the pod did not end")
        assert ended(node.of()["state"], 0, "Completed")

    play(story, "kill", "end")


def test_without_a_probe_nobody_notices_one_that_is_stopped(play):
    async def story(node):
        await started(node)
        before = node.of()
        await node.pause()
        await node.goes_on()
        assert node.ready and node.of() == before
        await node.kill()
        await comes_back(node, 1, KILLED)

    play(story, "pause", "kill")


def test_one_that_takes_more_memory_than_it_may_is_killed_for_it(play):
    async def story(node):
        await node.begin("Never", argv="hog", resources={"limits": {"memory": "16Mi"}})
        await node.until(lambda: node.status().get("phase") == "Failed", "it was not killed")
        assert ended(node.of()["state"], KILLED, "OOMKilled") and node.of()["restartCount"] == 0

    play(story, "oom")


def test_one_whose_program_is_not_there_ends_as_a_refused_start(play):
    async def story(node):
        await node.begin("Never", argv="absent")
        await node.until(lambda: node.status().get("phase") == "Failed", "it was not refused")
        assert ended(node.of()["state"], 128, "StartError")
        assert "/bin/absent" in node.of()["state"]["terminated"]["message"]

    play(story, "start")


def test_a_missing_image_is_waited_for(play):
    async def story(node):
        await node.begin(image=MISSING)
        await node.until(lambda: node.of().get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff", "it was not told")
        assert node.status()["phase"] == "Pending" and node.of()["restartCount"] == 0 and not node.of()["lastState"]

    play(story, "image")
