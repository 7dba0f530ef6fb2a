from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import ProviderError
from labctl.providers.namespace import bpf, cgroup, cgroupfiles, devices
from tests.namespaces import needs_root

WEIGHTS = {"cpu.shares": 1024, "cpu.weight": 100}
LIMITS = {
    "memory.limit_in_bytes": str(64 << 20),
    "memory.memsw.limit_in_bytes": str(64 << 20),
    "cpu.cfs_quota_us": "50000",
    "cgroup.type": "domain",
    "memory.max": str(64 << 20),
    "memory.swap.max": "0",
    "cpu.max": "50000 100000",
    "pids.max": str(cgroup.most_processes()),
}
UNIFIED = Path("/sys/fs/cgroup")
IN_A_CONTAINER = """
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
sleep 30 & sleeping=$!
%s -c '
from labctl.providers.namespace import cgroup
cgroups = cgroup.detect("lab")
folder = cgroups.make("minion-1", 64 << 20, 1.0).join[0].rpartition("/")[0]
print(open(folder + "/memory.max").read().strip())
cgroups.remove_lab(deadline_s=5)
'
cut -d: -f3 /proc/$sleeping/cgroup
kill $sleeping
"""
MOUNTINFO = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory,release_agent=/x
36 31 0:33 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_hierarchies_are_read_from_what_is_mounted(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    found = cgroup.detect("lab", path)
    assert isinstance(found, cgroup.V1)
    assert found._hierarchies == {
        "cpuset": Path("/sys/fs/cgroup/cpuset"),
        "cpu,cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "memory": Path("/sys/fs/cgroup/memory"),
        "name=systemd": Path("/sys/fs/cgroup/systemd"),
    }
    assert next(iter(found._hierarchies)) == "cpuset"


@pytest.mark.root
@needs_root
def test_a_busy_cgroup_is_named_with_its_processes() -> None:
    cgroups = cgroup.detect(f"test-{os.getpid()}")
    plan = cgroups.make("minion-1", 64 << 20, 1.0)
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        for path in plan.init:
            Path(path).write_text(str(process.pid))
        assert cgroups.pids("minion-1") == [process.pid]
        with pytest.raises(ProviderError, match=rf"stays busy .*\[{process.pid}\]"):
            cgroups.remove("minion-1", deadline_s=0.02)
    finally:
        process.kill()
        process.communicate()
        cgroups.remove_lab(deadline_s=5)
    assert cgroups.pids("minion-1") == []
    cgroups.remove("minion-1", deadline_s=1)


class _EnteredLate:
    """The real cgroups of a lab, into which a process comes right after they were looked through for the first time."""

    def __init__(self, real: cgroup.Cgroups, enter: Callable[[], None]) -> None:
        self._real = real
        self._enter: Callable[[], None] | None = enter

    def pids(self, machine: str) -> list[int]:
        found = self._real.pids(machine)
        if self._enter:
            self._enter()
        self._enter = None
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.root
@needs_root
def test_what_enters_a_cgroup_while_it_is_cleared_is_killed_too() -> None:
    """The next process of a boot whose helper was killed."""
    cgroups = cgroup.detect(f"test-{os.getpid()}")
    plan = cgroups.make("minion-1", 64 << 20, 1.0)
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)

    def enter() -> None:
        for path in plan.join:
            Path(path).write_text(str(process.pid))

    try:
        cgroup.clear(_EnteredLate(cgroups, enter), "minion-1", deadline_s=10)
        assert process.wait(10) == -signal.SIGKILL
        assert not any(Path(path).exists() for path in plan.join)
    finally:
        process.kill()
        process.communicate()
        cgroups.remove_lab(deadline_s=5)


@pytest.mark.root
@needs_root
def test_minions_weigh_as_much_as_busy_processes_of_the_host() -> None:
    cgroups = cgroup.detect(f"test-{os.getpid()}")
    plan = cgroups.make("minion-1", 64 << 20, 1.0)
    try:
        labs = [Path(path).parents[2] for path in plan.join]
        file, unit = next((lab / name, unit) for lab in labs for name, unit in WEIGHTS.items() if (lab / name).exists())
        assert int(file.read_text()) == int((file.parents[1] / file.name).read_text()) == unit * (os.cpu_count() or 1)
    finally:
        cgroups.remove_lab(deadline_s=5)


@pytest.mark.root
@needs_root
def test_a_machine_has_its_limits_and_does_not_swap() -> None:
    cgroups = cgroup.detect(f"test-{os.getpid()}")
    seen = [Path(path).parent for path in cgroups.make("minion-1", 64 << 20, 0.5).join]
    folders = [folder.parent for folder in seen]
    try:
        said = {name: (folder / name).read_text().strip() for folder in folders for name in LIMITS if (folder / name).exists()}
        assert said
        assert said == {name: LIMITS[name] for name in said}
        shown = {name: (folder / name).read_text().strip() for folder in seen for name in LIMITS if (folder / name).exists()}
        own = {"cpu.cfs_quota_us": "500000", "cpu.max": "500000 1000000"}
        assert shown == {name: own.get(name, LIMITS[name]) for name in said}, "what the machine reads in its own root"
        assert "cgroup.type" in said or "memory.limit_in_bytes" in said
    finally:
        cgroups.remove_lab(deadline_s=5)


@pytest.mark.root
@needs_root
@pytest.mark.skipif(not (UNIFIED / "cgroup.controllers").exists(), reason="cgroup version 1")
def test_in_a_container_processes_move_aside() -> None:
    """A group that takes itself for the root, with processes in it, is what a privileged container has."""
    group = UNIFIED / f"container-{os.getpid()}"
    (UNIFIED / "cgroup.subtree_control").write_text("+memory +cpu")
    group.mkdir()
    try:
        done = subprocess.run(
            ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec unshare --cgroup --mount -- sh -ec "$0"', IN_A_CONTAINER % sys.executable],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines() == ["67108864", "/init"], done.stderr
    finally:
        cgroupfiles.remove(group, deadline_s=5)


@pytest.mark.root
@needs_root
def test_groups_that_are_nested_very_deep_are_looked_through_and_removed() -> None:
    """A machine's root may nest what it likes; deeper than Python calls itself, and longer than a path may be."""
    cgroups = cgroup.detect(f"test-{os.getpid()}")
    plan = cgroups.make("minion-1", 64 << 20, 1.0)
    own = Path(next((path for path in plan.join if "/pids/" in path), plan.join[0])).parent  # an empty cpuset takes no process
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        here = os.open(own, os.O_RDONLY)
        for _ in range(30 if isinstance(cgroups, cgroup.V2) else 2_200):
            try:
                os.mkdir("deep", dir_fd=here)
            except OSError:  # version 2 has a bound
                break
            below = os.open("deep", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        inside = os.open("cgroup.procs", os.O_WRONLY, dir_fd=here)
        os.write(inside, str(process.pid).encode())
        os.close(inside)
        os.close(here)
        assert cgroups.pids("minion-1") == [process.pid]
        cgroup.clear(cgroups, "minion-1", deadline_s=30)
        assert process.wait(5) == -signal.SIGKILL
        assert not own.parent.exists()
    finally:
        process.kill()
        process.communicate()
        cgroups.remove_lab(deadline_s=30)


def test_devices_read_as_version_one_writes_them() -> None:
    assert str(devices.Device("c", 1, 3)) == "c 1:3 rwm"
    assert str(devices.Device("b", access="m")) == "b *:* m"


def allows(code: bytes, kind: str, access: str, major: int, minor: int) -> bool:
    """The few instructions that the program is made of, carried out as the kernel would."""
    import struct

    context = {0: (devices._KINDS[kind] | sum(devices._ACCESSES[letter] for letter in access) << 16), 4: major, 8: minor}
    registers = [0] * 10
    place = 0
    while True:
        opcode, both, offset, constant = struct.unpack_from("=BBhi", code, place * 8)
        to, source = both & 15, both >> 4
        place += 1
        if opcode == bpf.EXIT:
            return registers[0] == 1
        if opcode == bpf.LDXW:
            registers[to] = context[offset]
        elif opcode == bpf.MOVR:
            registers[to] = registers[source]
        elif opcode == bpf.MOV:
            registers[to] = constant
        elif opcode == bpf.AND:
            registers[to] &= constant
        elif opcode == bpf.RSH:
            registers[to] >>= constant
        elif opcode == bpf.JNE:
            place += offset if registers[to] != constant else 0
        elif opcode == bpf.JSET:
            place += offset if registers[to] & constant else 0


@pytest.mark.parametrize(
    ("kind", "access", "major", "minor", "allowed"),
    [
        ("c", "rw", 1, 3, True),
        ("c", "r", 1, 5, True),
        ("c", "rw", 136, 77, True),
        ("c", "m", 1, 1, True),
        ("b", "m", 254, 0, True),
        ("b", "r", 254, 0, False),
        ("c", "r", 1, 1, False),
        ("c", "rm", 1, 1, False),
        ("b", "r", 1, 3, False),
        ("c", "w", 10, 1, False),
    ],
)
def test_the_program_allows_what_the_list_allows(kind: str, access: str, major: int, minor: int, allowed: bool) -> None:
    assert allows(devices.program(cgroup.DEVICES), kind, access, major, minor) is allowed


def test_an_empty_list_allows_nothing() -> None:
    assert not allows(devices.program([]), "c", "r", 1, 3)
