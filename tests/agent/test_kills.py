"""The agent is killed at each system call that changes something, and the next agent makes it right: a volume's set-up, its update, a pod's start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest

from labctl.agent import claims, linux
from labctl.agent.addresses import Range
from labctl.agent.cgroups import Cgroups
from labctl.agent.environment import PodFacts
from labctl.agent.events import Recorder
from labctl.agent.images import Image
from labctl.agent.runtime.crun import CrunRuntime
from labctl.agent.runtime.interface import State
from labctl.agent.settings import Settings
from labctl.agent.tools import Tools
from labctl.agent.volumes import Sources, prepare
from labctl.agent.worker import PodWorker
from tests.agent import killing, room, tiny
from tests.agent.fakeapi import FakeApi

pytestmark = [pytest.mark.root, pytest.mark.skipif(not killing.possible(), reason="ptrace of x86_64 only")]
inside = pytest.mark.skipif(not room.is_inside(), reason="runs inside a throwaway machine")
MOST_CALLS = 2_000


@pytest.mark.skipif(room.is_inside() or not room.possible(), reason="needs root, crun and conmon; or runs inside already")
@pytest.mark.timeout(330)
def test_an_agent_that_is_killed_anywhere_leaves_nothing_that_the_next_can_not_mend():
    room.pytest_inside(__file__, most_s=300)


VOLUMES = [
    {"name": "files", "configMap": {"name": "cm"}},
    {"name": "work", "emptyDir": {}},
    {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
]
POD = {
    "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
    "spec": {"containers": [{"name": "c"}], "volumes": VOLUMES, "securityContext": {"fsGroup": 77}},
}
FIRST, SECOND = {"a": "1", "b": "1"}, {"a": "2", "c": "2"}


def set_up(folder: str, data: dict[str, str]) -> dict[str, str]:
    async def fetch(kind, namespace, name):
        return {"data": data}

    return asyncio.run(prepare(POD, folder, PodFacts("10.246.1.2"), Sources(fetch, fetch, fetch, fetch)))


def content(folder: str) -> dict[str, str]:
    return {
        name: Path(folder, name).read_text() for name in os.listdir(folder) if not name.startswith("..") and Path(folder, name).exists()
    }


def is_whole(folder: str, data: dict[str, str]) -> None:
    paths = set_up(folder, data)
    assert content(paths["files"]) == data
    own = [name for name in os.listdir(paths["files"]) if name.startswith("..")]
    assert len(own) == 2, f"{own}: the link and the one folder it names"
    for name, mode in (("work", 0o2777), ("memory", 0o2777), ("files", 0o2775)):
        found = os.stat(paths[name])
        assert (stat.S_IMODE(found.st_mode) & 0o2777 | 0o2000, found.st_gid) == (mode, 77) or name == "files", name
        assert found.st_gid == 77
    size = os.statvfs(paths["memory"])
    assert size.f_blocks * size.f_frsize == 1 << 20
    assert sum(line.split()[1] == paths["memory"] for line in Path("/proc/mounts").read_text().splitlines()) == 1


def every_call(work, least: int = 10) -> list[int]:
    """Numbers from 1 until the work is done before its call of that number; at each of them it was killed."""
    for number in range(1, MOST_CALLS):
        if not killing.killed_at(number, lambda: work(number)):
            assert number > least, "nothing was traced"
            return
        yield number
    raise AssertionError("it never ends")


@inside
def test_a_volumes_set_up(tmp_path):
    for number in every_call(lambda number: set_up(str(tmp_path / str(number)), FIRST)):
        is_whole(str(tmp_path / str(number)), FIRST)


@inside
def test_a_volumes_update(tmp_path):
    set_up(str(tmp_path), FIRST)
    for _ in every_call(lambda number: set_up(str(tmp_path), SECOND)):
        assert set(content(str(tmp_path / "volumes/files")).values()) in ({"1"}, {"2"}), "all of the old or all of the new"
        is_whole(str(tmp_path), SECOND)
        is_whole(str(tmp_path), FIRST)


CLAIM = {
    "persistentvolumeclaims": {
        "metadata": {"uid": "c", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "pvc-1"},
    },
    "persistentvolumes": {
        "metadata": {"name": "pvc-1", "annotations": {"pv.kubernetes.io/provisioned-by": "labctl.internal/local"}},
        "spec": {"claimRef": {"uid": "c"}, "local": {"path": "/x"}},
    },
}


def claimed(folder: Path) -> Path:
    pod = {**POD, "spec": {**POD["spec"], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}}

    async def fetch(kind, namespace, name):
        return CLAIM[kind]

    return Path(
        asyncio.run(
            prepare(pod, str(folder / "pod"), PodFacts("10.246.1.2"), Sources(fetch, fetch, fetch, fetch, str(folder / "volumes")))
        )["data"]
    )


@inside
def test_a_claims_volume_is_made(tmp_path):
    for number in every_call(lambda number: claimed(tmp_path / str(number)), least=5):
        found = claimed(tmp_path / str(number)).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o2777, 77)
        assert os.listdir(tmp_path / str(number) / "volumes") == ["pvc-1"]


@inside
def test_a_claims_data_is_removed(tmp_path):
    for number in range(1, 200):
        (tmp_path / str(number) / "pvc-1" / "deep" / "deeper").mkdir(parents=True)
    for number in every_call(lambda number: claims.remove_folder(str(tmp_path / str(number) / "pvc-1")), least=2):
        claims.remove_folder(str(tmp_path / str(number) / "pvc-1"))
        assert os.listdir(tmp_path / str(number)) == []


@inside
def test_ruins_that_an_agent_of_before_left(tmp_path):
    """A link that was made and never moved; once it was there, no update ever worked again."""
    set_up(str(tmp_path), FIRST)
    files = tmp_path / "volumes/files"
    os.symlink("..gone", files / "..data.new")
    (files / "..2026_01_01_00_00_00.5").mkdir()
    is_whole(str(tmp_path), SECOND)
    shutil.rmtree(files)
    is_whole(str(tmp_path), SECOND)


STARTED = {
    "metadata": POD["metadata"],
    "spec": {
        **POD["spec"],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "c",
                "image": "tiny:1",
                "command": ["sleep", "1000"],
                "volumeMounts": [{"name": "files", "mountPath": "/files"}, {"name": "work", "mountPath": "/work", "subPath": "a/b"}],
            }
        ],
    },
    "status": {},
}


class Agent:
    """As much of an agent as one pod needs: a worker on the real runtime, with an API and images in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        addresses = Range(str(folder))
        addresses.set("10.246.1.0/24")
        self.runtime = CrunRuntime(str(folder), str(folder / "run"), addresses, Cgroups())
        self.api = FakeApi()
        self.api.put("/api/v1/namespaces/default/configmaps/cm", {"metadata": {"name": "cm"}, "data": FIRST})
        settings = Settings("minion-1", "", "", "", "", state_dir=str(folder), pod_logs_dir=str(folder / "logs"), start_retry_s=0.05)
        self.said: list[str] = []
        tools = Tools(settings, self.api, self.runtime, Images(), Recorder(self.api, "minion-1"), self.said.append, "10.245.1.11")
        self.worker = PodWorker(tools, self.api.put("/api/v1/namespaces/default/pods/web", STARTED), lambda: None)

    async def until_running(self) -> None:
        """The pod's task, until its container runs."""
        task = asyncio.ensure_future(self.worker.run())
        deadline = asyncio.get_running_loop().time() + 20 * room.PATIENCE
        while not self._runs():
            assert asyncio.get_running_loop().time() < deadline, self.said
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.runtime.forget_watches()

    def _runs(self) -> bool:
        pod = self.runtime.pods("u1").get("u1")
        latest = pod.latest("c") if pod else None
        return bool(latest and latest.state is State.RUNNING)


class Images:
    def local(self, name):
        return Image(name, "sha256:1", ("/var/lib/layer",))

    async def ensure(self, name, policy):
        return self.local(name)


def processes(word: str) -> list[str]:
    """The command lines that hold this word."""
    lines = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(each.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if word in line]


def links() -> int:
    return len(os.listdir("/sys/class/net"))


async def the_next_agent(folder: Path) -> None:
    """It makes the pod run, once; and what it then closes is gone without a trace."""
    agent = Agent(folder)
    await agent.until_running()
    pod = agent.runtime.pods("u1")["u1"]
    container = pod.latest("c")
    assert container.attempt == 0
    said = await agent.runtime.run(container.id, ["sh", "-c", "cat /files/a && touch /work/made"], timeout_s=10)
    assert (said.status, said.output) == (0, b"1"), agent.said
    assert (folder / "pods/u1/volumes/work/a/b/made").exists()
    deadline = asyncio.get_running_loop().time() + 10
    while not processes("sleep 1000") and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)  # it runs, and has its words a moment later
    assert len(processes("sleep 1000")) == len(processes(f"-c {container.id}")) == 1
    await agent.runtime.close("u1")
    assert agent.runtime.pods() == {}
    assert linux.mounts_below(str(folder)) == []
    assert processes("sleep 1000") == processes(container.id) == []
    assert not any("u1" in path for path, _, _ in os.walk("/sys/fs/cgroup"))


@inside
@pytest.mark.timeout(300)
def test_a_pods_start(tmp_path):
    tiny.make(Path("/var/lib/layer"))
    before = links()
    for number in every_call(lambda number: asyncio.run(Agent(Path(f"/var/lib/agent-{number}")).until_running())):
        asyncio.run(the_next_agent(Path(f"/var/lib/agent-{number}")))
    assert links() <= before + 1
    asyncio.run(the_next_agent(Path(f"/var/lib/agent-{number + 1}")))  # whose start was not cut short
