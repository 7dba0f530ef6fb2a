"""The agent is killed at each system call that changes something, and the next agent makes it right: a volume's set-up, its update, a pod's start."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path

import pytest

from labctl.agent.environment import PodFacts
from labctl.agent.volumes import prepare
from tests.agent import killing, room

pytestmark = [pytest.mark.root, pytest.mark.skipif(not killing.possible(), reason="ptrace of x86_64 only")]
inside = pytest.mark.skipif(not room.is_inside(), reason="runs inside a throwaway machine")
MOST_CALLS = 2_000


@pytest.mark.skipif(room.is_inside() or not room.possible(), reason="needs root, crun and conmon; or runs inside already")
@pytest.mark.timeout(150)
def test_an_agent_that_is_killed_anywhere_leaves_nothing_that_the_next_can_not_mend():
    room.pytest_inside(__file__)


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

    return asyncio.run(prepare(POD, folder, PodFacts("10.246.1.2"), fetch))


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


def every_call(work) -> list[int]:
    """Numbers from 1 until the work is done before its call of that number; at each of them it was killed."""
    for number in range(1, MOST_CALLS):
        if not killing.killed_at(number, lambda: work(number)):
            assert number > 10, "nothing was traced"
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
