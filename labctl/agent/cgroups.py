"""The control groups a pod's containers lie in: ROOT/pods/UID/CONTAINER-ATTEMPT, for cgroup v1 and v2 alike.

crun makes and removes a container's own group; the pod's, which divides the machine between pods, is made here. The group of all pods has bounds too,
so that no pod takes what the machine itself needs to live: its sshd, its agent, its helper (Kubernetes' node allocatable).
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, List, Set

from .runtime.interface import Limits

MOUNT = "/sys/fs/cgroup"
_UNLIMITED = 1 << 60
CPU_PERIOD_US = 100_000
MOST_CPUS = 10_000
"""A CPU limit above this is none. The kernel refuses quotas that are very large."""


def read(path: str) -> str:
    """Return a file's text, or an empty text if it can't be read."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, value: int) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(value))
    except OSError:
        pass  # a controller this machine lacks, or does not let us set: the containers' own limits still hold


def weight_of(shares: int) -> int:
    """Return cgroup v1's cpu.shares as v2's cpu.weight, as crun and the kubelet convert them."""
    return max(1, min(10_000, 1 + (max(2, min(262_144, shares)) - 2) * 9999 // 262_142))


class Cgroups:
    def __init__(self, root: str = "", mount: str = MOUNT) -> None:
        self._mount = mount
        self._root = "/" + root.strip("/") if root.strip("/") else ""
        self.v2 = os.path.exists(os.path.join(mount, "cgroup.controllers"))

    @property
    def pods(self) -> str:
        """Return the group of all pods."""
        return f"{self._root}/pods"

    def pod(self, uid: str) -> str:
        return f"{self.pods}/{uid}"

    def quota_within(self, quota_us: int, period_us: int) -> int:
        """Return the CPU quota that a container's group can be given. 0 is no quota, for a limit that the machine's own limit makes meaningless."""
        cpus = MOST_CPUS if self.v2 else machine_limits(self._mount).get("cpus", MOST_CPUS)
        return 0 if quota_us >= cpus * period_us else quota_us

    def folders(self, path: str) -> List[str]:
        """Return where this group is in each mounted hierarchy. A folder may be missing."""
        if self.v2:
            return [self._mount + path]
        return [
            os.path.join(self._mount, each) + path
            for each in sorted(os.listdir(self._mount))
            if os.path.ismount(os.path.join(self._mount, each))
        ]

    def open(self, uid: str, limits: Limits, pids_max: int = 0) -> None:
        """Make a pod's group. A bound of 0 is none."""
        self._make(self.pod(uid), limits, self.quota_within(limits.cpu_quota_us, CPU_PERIOD_US), pids_max)

    def bound_all(self, memory_limit_bytes: int, pids_max: int) -> None:
        """Bound what all pods together may use. A bound that is smaller than what is in use holds for what comes after."""
        self._make(self.pods, Limits(0, 0, memory_limit_bytes), 0, pids_max)

    def _make(self, path: str, limits: Limits, quota_us: int, pids_max: int) -> None:
        shares, memory = limits.cpu_shares, limits.memory_limit_bytes
        if self.v2:
            folder = self._made_v2(path)
            values = {"cpu.weight": weight_of(shares) if shares else 0, "cpu.max": quota_us, "memory.max": memory, "pids.max": pids_max}
            files = {os.path.join(folder, name): value for name, value in values.items()}
        else:
            values = {"cpu.shares": shares, "cpu.cfs_quota_us": quota_us, "memory.limit_in_bytes": memory, "pids.max": pids_max}
            bases = {name: os.path.join(self._mount, name.partition(".")[0]) for name in values}
            files = {os.path.join(bases[name] + path, name): value for name, value in values.items() if os.path.isdir(bases[name])}
        for file, value in files.items():
            if value:
                os.makedirs(os.path.dirname(file), exist_ok=True)
                _write(file, value)

    def _made_v2(self, path: str) -> str:
        """Make the group with all above it, each of which hands its controllers on. Return its folder."""
        folder = self._mount
        for part in path.strip("/").split("/"):
            for controller in ("cpu", "memory", "pids"):
                try:
                    with open(os.path.join(folder, "cgroup.subtree_control"), "w", encoding="ascii") as file:
                        file.write(f"+{controller}")
                except OSError:
                    pass
            folder = os.path.join(folder, part)
            os.makedirs(folder, exist_ok=True)
        return folder

    def pids_left(self) -> "int | None":
        """Return how many processes pods may still begin; None without a bound."""
        folder = self._mount + self.pods if self.v2 else f"{self._mount}/pids{self.pods}"
        most, used = read(f"{folder}/pids.max"), read(f"{folder}/pids.current")
        return int(most) - int(used) if most.isdigit() and used.isdigit() else None

    def limit(self, path: str, limits: Limits) -> None:
        """Change what a group may use while it is in use. Raises OSError where the kernel refuses; controllers that the machine lacks are left out."""
        quota, memory = limits.cpu_quota_us or -1, limits.memory_limit_bytes or -1
        if self.v2:
            words: Dict[str, Any] = {
                "cpu.weight": weight_of(limits.cpu_shares),
                "cpu.max": f"{quota if quota > 0 else 'max'} {CPU_PERIOD_US}",
                "memory.max": memory if memory > 0 else "max",
            }
            files = {os.path.join(self._mount + path, name): word for name, word in words.items()}
        else:
            words = {"cpu.shares": limits.cpu_shares, "cpu.cfs_quota_us": quota, "memory.limit_in_bytes": memory}
            files = {os.path.join(self._mount, name.partition(".")[0] + path, name): word for name, word in words.items()}
        for file, word in files.items():
            if os.path.exists(file):
                with open(file, "w", encoding="ascii") as opened:
                    opened.write(str(word))

    def memory_used(self, path: str) -> int:
        """Bytes in use by a group, without page cache that can be dropped."""
        folder, name = (self._mount + path, "memory.current") if self.v2 else (f"{self._mount}/memory{path}", "memory.usage_in_bytes")
        return _in_use(read(f"{folder}/{name}"), read(f"{folder}/memory.stat"))

    def adopt(self, uid: str, pid: int) -> None:
        """Put a process that belongs to the pod, and to no container of it, into a group below the pod's."""
        for folder in self.folders(f"{self.pod(uid)}/pod"):
            with contextlib.suppress(OSError):  # a controller that wants more said first, such as cpuset: the process stays where it is
                os.makedirs(folder, exist_ok=True)
                with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
                    file.write(str(pid))

    def close(self, uid: str) -> None:
        """Remove the pod's group and what is left below it."""
        for folder in self.folders(self.pod(uid)):
            for path, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):  # something still dies in it; the next close gets it
                    os.rmdir(path)

    def remove(self) -> None:
        """Remove the group of all pods if none is left."""
        for folder in self.folders(self.pods):
            for path, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)

    def processes(self, path: str) -> List[int]:
        """Return the processes in a group and below it."""
        found: Set[int] = set()
        for folder in self.folders(path):
            for path, _, _ in os.walk(folder):
                found.update(int(pid) for pid in read(os.path.join(path, "cgroup.procs")).split())
        return sorted(found)

    def oom_kills(self, path: str) -> int:
        """Return how often the kernel killed a process of this group because memory ran out."""
        file = f"{self._mount}{path}/memory.events" if self.v2 else f"{self._mount}/memory{path}/memory.oom_control"
        for line in read(file).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0


def machine_limits(mount: str = MOUNT) -> Dict[str, float]:
    """Return the limits of this machine if it is itself a control group (a namespace minion).

    {"memory": bytes, "cpus": n, "pids": n}, each only if there is one.
    """
    found: Dict[str, float] = {}
    memory = read(f"{mount}/memory.max") or read(f"{mount}/memory/memory.limit_in_bytes")
    if memory.isdigit() and 0 < int(memory) < _UNLIMITED:
        found["memory"] = int(memory)
    quota, _, period = read(f"{mount}/cpu.max").partition(" ")
    if not quota:
        quota, period = read(f"{mount}/cpu/cpu.cfs_quota_us"), read(f"{mount}/cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit():
        found["cpus"] = int(quota) / int(period)
    pids = read(f"{mount}/pids.max") or read(f"{mount}/pids/pids.max")
    if pids.isdigit():
        found["pids"] = int(pids)
    return found


def memory_used(mount: str = MOUNT) -> int:
    """Return the bytes that the machine's own group uses, without page cache that can be dropped; 0 if the machine is no group."""
    stat = read(f"{mount}/memory.stat") or read(f"{mount}/memory/memory.stat")
    used = read(f"{mount}/memory.current") or read(f"{mount}/memory/memory.usage_in_bytes")
    return _in_use(used, stat)


def _in_use(used: str, stat: str) -> int:
    idle = [line.split()[1] for line in stat.splitlines() if line.startswith(("total_inactive_file ", "inactive_file "))]
    return max(0, int(used) - int(idle[-1] if idle else 0)) if used.isdigit() else 0
