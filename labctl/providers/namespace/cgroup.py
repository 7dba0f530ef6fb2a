"""The cgroups of a lab: LAB/NODE has a machine's limits and what guards the host, and LAB/NODE/own is the machine's root, which it may change as it likes:
own/init has its own processes, and own/pods belongs to its agent. Both have the limits: a machine reads them in its root, and LAB/NODE holds whatever it
writes there.

Version 1 (a folder per controller) and version 2 (one tree) have one small class each; `detect` chooses. When a machine's cgroup is empty,
nothing of a boot can run any more, whatever happened to its init.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from labctl.errors import ProviderError
from labctl.providers.namespace import cgroupfiles, devices, guards
from labctl.providers.namespace.devices import Device
from labctl.providers.namespace.inside.plan import CgroupPlan

PERIOD_US = 100_000
BUSY = os.cpu_count() or 1
"""All minions together get as much CPU weight as one busy process on each core. By default a group has the weight of one process: on a busy host
minions would then be so slow that they seem dead."""
_TOP = "labctl"
_ASIDE = "init"
"""The group into which a container's own processes are moved if labctl runs in a container, as other container programs do it."""
_OWN_PERIODS = 10
"""A machine's own group counts processor time over as many periods of the group above: two quotas of one period cut off more than each of them."""
_KILL_AGAIN_S = 0.1
_DEPTH_MAX, _DESCENDANTS_MAX = 32, 20_000  # of the groups below a machine's
OWN = "own"  # the group that a machine's processes see as the root
LAB_INIT = ".init"
"""The lab's own cgroup, beside those of the machines. No machine's name begins with a dot."""
DEVICES = (
    Device("c", access="m"),  # making device nodes is harmless, and container runtimes do it; using them is limited
    Device("b", access="m"),
    Device("c", 1, 3),  # null
    Device("c", 1, 5),  # zero
    Device("c", 1, 7),  # full
    Device("c", 1, 8),  # random
    Device("c", 1, 9),  # urandom
    Device("c", 5, 0),  # tty
    Device("c", 5, 1),  # console
    Device("c", 5, 2),  # ptmx
    Device("c", 10, 200),  # tun
    Device("c", 136),  # pts
)
"""The devices that a machine may use. The host's disks, memory and clocks are not among them."""


class Cgroups(Protocol):
    """The cgroups of one lab. `machine` is a machine's name."""

    def join_lab(self) -> list[str]:
        """Make the lab's own cgroup. Return the cgroup.procs files into which its init writes itself."""

    def make(self, machine: str, memory_bytes: int, cpus: float) -> CgroupPlan:
        """Make a machine's cgroup with its limits, and return how a process becomes the first in it. No machine swaps."""

    def pids(self, machine: str) -> list[int]:
        """Return every process of the machine, pods included."""

    def freeze(self, machine: str, frozen: bool) -> None: ...
    def frozen(self, machine: str) -> bool: ...
    def freeze_all(self, machine: str, deadline_s: float) -> bool:
        """Freeze the machine and wait until all of its processes have stopped, which takes the kernel a moment.

        Return False if the deadline passed.
        """

    def thaw(self, machine: str) -> tuple[Path, str]:
        """Return the file to write, and the word that thaws the machine."""

    def remove(self, machine: str, deadline_s: float) -> None:
        """Wait until the machine's cgroup is empty, then remove it. An unknown machine is no error."""

    def remove_lab(self, deadline_s: float) -> None: ...


def most_processes(sysctls: Path = Path("/proc/sys/kernel")) -> int:
    """Return how many processes and threads one machine may have: a quarter of what the host has numbers for, so that no machine takes them all."""
    return min(int((sysctls / name).read_text()) for name in ("pid_max", "threads-max")) // 4


def detect(lab: str, mountinfo: Path = Path("/proc/self/mountinfo")) -> Cgroups:
    """Return the version that this host uses. A host that mounts both has its controllers in version 1."""
    mounted = mountinfo.read_text()
    hierarchies = _hierarchies(mounted)
    if hierarchies:
        return V1(lab, hierarchies, cgroupfiles.unified(mounted))
    unified = Path("/sys/fs/cgroup")
    if (unified / "cgroup.controllers").exists():
        return V2(lab, unified)
    raise ProviderError("no cgroup controllers are mounted", mend="mount cgroup2 on /sys/fs/cgroup")


def kill(cgroups: Cgroups, machine: str) -> None:
    """Send SIGKILL to every process in the cgroup now, but never to a process that got the same number later."""
    for pid in cgroups.pids(machine):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with contextlib.suppress(ProcessLookupError):
            if pid in cgroups.pids(machine):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def release(cgroups: Cgroups, machine: str) -> None:
    """Thaw the machine with every group that its root froze, because a process that is frozen does not die."""
    file, word = cgroups.thaw(machine)
    cgroupfiles.write_below(file.parent, file.name, word)


def clear(cgroups: Cgroups, machine: str, deadline_s: float) -> None:
    """Kill everything in the machine's cgroup, also what enters it meanwhile, and remove it. ProviderError if that takes too long.

    A boot whose helper was killed goes on by itself for some milliseconds, and its next process may enter after the others were killed.
    Once the cgroup is removed nothing can enter it.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        kill(cgroups, machine)
        release(cgroups, machine)
        left_s = deadline - time.monotonic()
        try:
            cgroups.remove(machine, min(left_s, _KILL_AGAIN_S))
        except ProviderError:
            if left_s <= _KILL_AGAIN_S:
                raise
        else:
            return


class V1:
    """A folder per hierarchy. `hierarchies` maps mount options ("memory", "cpu,cpuacct", "name=systemd") to the mount point.

    `unified` is where version 2 is mounted beside them, without controllers. A machine gets a group there too, which protects the host's
    kernel.
    """

    def __init__(self, lab: str, hierarchies: Mapping[str, Path], unified: Path | None = None) -> None:
        self._lab = lab
        self._hierarchies = hierarchies
        self._unified = unified

    def join_lab(self) -> list[str]:
        return [str(folder / "cgroup.procs") for folder in self._make(LAB_INIT).values()]

    def make(self, machine: str, memory_bytes: int, cpus: float) -> CgroupPlan:
        for options, folder in self._make(machine).items():
            names = options.split(",")
            if "cpu" in names:
                for shared in (folder.parent, folder.parent.parent):
                    cgroupfiles.write(shared / "cpu.shares", str(1024 * BUSY))
            if "devices" in names:  # a group below begins with the same list
                cgroupfiles.write(folder / "devices.deny", "a")
                for device in DEVICES:
                    cgroupfiles.write(folder / "devices.allow", str(device))
            self._limit(folder, names, memory_bytes, cpus)
        folders = self._make(f"{machine}/{OWN}")
        for options, folder in folders.items():
            self._limit(folder, options.split(","), memory_bytes, cpus, _OWN_PERIODS)
        inits = self._make(f"{machine}/{OWN}/init")
        guarding, kept = self._guard(machine)
        return CgroupPlan(
            join=[*(str(folder / "cgroup.procs") for folder in folders.values()), *guarding],
            init=[str(folder / "cgroup.procs") for folder in inits.values()],
            after=[],
            mounts=[[folder.name, "cgroup", options] for options, folder in self._hierarchies.items()],
            refused=[] if kept.kernel else ["bpf"],
        )

    def _limit(self, folder: Path, controllers: Sequence[str], memory_bytes: int, cpus: float, periods: int = 1) -> None:
        if "pids" in controllers:
            cgroupfiles.write(folder / "pids.max", str(most_processes()))
        if "memory" in controllers:
            cgroupfiles.write(folder / "memory.limit_in_bytes", str(memory_bytes))
            if (folder / "memory.memsw.limit_in_bytes").exists():
                cgroupfiles.write(folder / "memory.memsw.limit_in_bytes", str(memory_bytes))
        if "cpu" in controllers and (folder / "cpu.cfs_quota_us").exists():
            cgroupfiles.write(folder / "cpu.cfs_period_us", str(PERIOD_US * periods))
            cgroupfiles.write(folder / "cpu.cfs_quota_us", str(int(cpus * PERIOD_US) * periods))

    def _guard(self, machine: str) -> tuple[list[str], guards.Guards]:
        """Return the cgroup.procs file of a version 2 group that keeps the host's kernel from its processes, if this host can have one, and what it keeps."""
        if self._unified is None:
            return [], guards.Guards()
        folder = self._unified / _TOP / self._lab / machine
        own = folder / OWN  # whoever can open the group to which a program is attached can take it off
        own.mkdir(parents=True, exist_ok=True)
        kept = guards.protect(folder)
        return [str(own / "cgroup.procs")] if kept != guards.Guards() else [], kept

    def pids(self, machine: str) -> list[int]:
        for hierarchy in self._hierarchies.values():
            found = cgroupfiles.pids(hierarchy / _TOP / self._lab / machine)
            if found:
                return found
        return []

    def freeze(self, machine: str, frozen: bool) -> None:
        state = self._freezer(machine) / "freezer.state"
        if state.exists():
            cgroupfiles.write(state, "FROZEN" if frozen else "THAWED")

    def frozen(self, machine: str) -> bool:
        try:
            return (self._freezer(machine) / "freezer.state").read_text().strip() != "THAWED"
        except OSError:
            return False

    def freeze_all(self, machine: str, deadline_s: float) -> bool:
        """Freeze and wait, as the protocol says.

        Processes that fork all the time may stay FREEZING, so the kernel is asked again, now and then from the start.
        """
        state, deadline = self._freezer(machine) / "freezer.state", time.monotonic() + deadline_s
        for attempt in itertools.count(1):
            cgroupfiles.write(state, "FROZEN")
            if state.read_text().strip() == "FROZEN":
                return True
            if time.monotonic() > deadline:
                return False
            if attempt % 50 == 0:
                cgroupfiles.write(state, "THAWED")
                time.sleep(0.01)
        raise AssertionError("unreachable: itertools.count never ends")

    def thaw(self, machine: str) -> tuple[Path, str]:
        return self._freezer(machine) / "freezer.state", "THAWED"

    def remove(self, machine: str, deadline_s: float) -> None:
        for hierarchy in self._trees():
            cgroupfiles.remove(hierarchy / _TOP / self._lab / machine, deadline_s)

    def _trees(self) -> list[Path]:
        return [*self._hierarchies.values(), *([self._unified] if self._unified else [])]

    def remove_lab(self, deadline_s: float) -> None:
        for hierarchy in self._trees():
            cgroupfiles.remove(hierarchy / _TOP / self._lab, deadline_s)
            cgroupfiles.remove_if_empty(hierarchy / _TOP)

    def _freezer(self, machine: str) -> Path:
        return self._hierarchies["freezer"] / _TOP / self._lab / machine

    def _make(self, name: str) -> dict[str, Path]:
        folders = {}
        for options, hierarchy in self._hierarchies.items():
            folder = hierarchy
            for part in (_TOP, self._lab, *name.split("/")):
                parent, folder = folder, folder / part
                folder.mkdir(exist_ok=True)
                if "cpuset" in options.split(","):  # it is empty in a new group, and no process may enter an empty one
                    cgroupfiles.inherit(parent, folder, "cpuset.cpus")
                    cgroupfiles.inherit(parent, folder, "cpuset.mems")
            folders[options] = folder
        return folders


class V2:
    """One tree. Neither LAB/NODE nor LAB/NODE/own holds a process itself: the machine's init moves to LAB/NODE/own/init first."""

    _CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")

    def __init__(self, lab: str, root: Path) -> None:
        self._lab = lab
        self._root = root

    def join_lab(self) -> list[str]:
        return [str(self._make(LAB_INIT) / "cgroup.procs")]

    def make(self, machine: str, memory_bytes: int, cpus: float) -> CgroupPlan:
        folder = self._make(machine)
        if "cpu" in self._available(folder):
            for shared in (folder.parent, folder.parent.parent):
                cgroupfiles.write(shared / "cpu.weight", str(min(100 * BUSY, 10_000)))
        for name, most in (("cgroup.max.depth", _DEPTH_MAX), ("cgroup.max.descendants", _DESCENDANTS_MAX)):
            cgroupfiles.write(folder / name, str(most))
        self._limit(folder, memory_bytes, cpus)
        devices.allow_only(folder, DEVICES)
        guards.protect(folder)
        self._hand_on(folder)
        own = folder / OWN
        own.mkdir(exist_ok=True)
        self._limit(own, memory_bytes, cpus, _OWN_PERIODS)
        (own / "init").mkdir(exist_ok=True)
        return CgroupPlan(
            join=[str(own / "cgroup.procs")],
            init=[str(own / "init" / "cgroup.procs")],
            after=[[str(own / "cgroup.subtree_control"), " ".join(f"+{name}" for name in self._available(own))]],
            mounts=[["", "cgroup2", ""]],
        )

    def _limit(self, folder: Path, memory_bytes: int, cpus: float, periods: int = 1) -> None:
        available = self._available(folder)
        if "pids" in available:
            cgroupfiles.write(folder / "pids.max", str(most_processes()))
        if "memory" in available:
            cgroupfiles.write(folder / "memory.max", str(memory_bytes))
            if (folder / "memory.swap.max").exists():
                cgroupfiles.write(folder / "memory.swap.max", "0")
        if "cpu" in available:
            cgroupfiles.write(folder / "cpu.max", f"{int(cpus * PERIOD_US) * periods} {PERIOD_US * periods}")

    def pids(self, machine: str) -> list[int]:
        return cgroupfiles.pids(self._folder(machine))

    def freeze(self, machine: str, frozen: bool) -> None:
        file = self._folder(machine) / "cgroup.freeze"
        if file.exists():
            cgroupfiles.write(file, "1" if frozen else "0")

    def frozen(self, machine: str) -> bool:
        try:
            return (self._folder(machine) / "cgroup.freeze").read_text().strip() == "1"
        except OSError:
            return False

    def freeze_all(self, machine: str, deadline_s: float) -> bool:
        self.freeze(machine, True)
        events, deadline = self._folder(machine) / "cgroup.events", time.monotonic() + deadline_s
        while "frozen 1" not in events.read_text().splitlines():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def thaw(self, machine: str) -> tuple[Path, str]:
        return self._folder(machine) / "cgroup.freeze", "0"

    def remove(self, machine: str, deadline_s: float) -> None:
        cgroupfiles.remove(self._folder(machine), deadline_s)

    def remove_lab(self, deadline_s: float) -> None:
        cgroupfiles.remove(self._root / _TOP / self._lab, deadline_s)
        cgroupfiles.remove_if_empty(self._root / _TOP)

    def _folder(self, machine: str) -> Path:
        return self._root / _TOP / self._lab / machine

    def _make(self, name: str) -> Path:
        folder = self._root
        for part in (_TOP, self._lab, name):
            self._hand_on(folder)
            folder = folder / part
            folder.mkdir(exist_ok=True)
        return folder

    def _hand_on(self, folder: Path) -> None:
        """Let the groups below use the controllers.

        Except in the host's root this is impossible while processes are in the group, so in a container they are moved aside first.
        """
        wanted = set(self._available(folder)) - set((folder / "cgroup.subtree_control").read_text().split())
        if not wanted:
            return
        if folder == self._root and (folder / "cgroup.type").exists():
            cgroupfiles.move_all(folder, folder / _ASIDE)
        cgroupfiles.write(folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(wanted)))

    def _available(self, folder: Path) -> list[str]:
        has = (folder / "cgroup.controllers").read_text().split()
        return [name for name in self._CONTROLLERS if name in has]


def _hierarchies(mountinfo: str) -> dict[str, Path]:
    """Return the mounted version 1 hierarchies: their options without the generic ones, in the order in which a process joins them (cpuset
    first).
    """
    found: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _source, super_options = after.split(" ", 2)
        if kind == "cgroup":
            options = [word for word in super_options.split(",") if word not in ("rw", "ro", "xattr", "clone_children")]
            options = [word for word in options if not word.startswith("release_agent")]
            found.setdefault(",".join(options), Path(before.split()[4]))
    return dict(sorted(found.items(), key=lambda item: "cpuset" not in item[0]))
