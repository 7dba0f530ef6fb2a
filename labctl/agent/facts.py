"""What this machine is: read once at the start, and by the `facts` subcommand for the master's join."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any, Dict, List

from . import VERSION, cgroups
from .runtime.conmon import environment

_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}
PROGRAMS = ("crun", "conmon", "iptables", "iptables-restore", "conntrack", "ip")


def architecture() -> str:
    return _ARCH.get(platform.machine(), platform.machine())


def memory_bytes() -> int:
    """Return how much memory the machine may use. A namespace minion is limited by its control group."""
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) * 1024
    return min(total, int(cgroups.machine_limits().get("memory", total)))


def memory_available_bytes() -> int:
    used = cgroups.memory_used()
    limit = cgroups.machine_limits().get("memory")
    if limit:
        return max(0, int(limit) - used)
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def cpus() -> float:
    count = float(len(os.sched_getaffinity(0)))
    return min(count, cgroups.machine_limits().get("cpus", count))


def pids_max() -> int:
    """Return how many processes and threads this machine may have."""
    bounds = [int(cgroups.read(f"/proc/sys/kernel/{name}") or 1 << 22) for name in ("pid_max", "threads-max")]
    return int(min(*bounds, cgroups.machine_limits().get("pids", 1 << 22)))


def os_image() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip().strip('"')
    except OSError:
        pass
    return "Linux"


def node_info(boot_id: str) -> Dict[str, str]:
    try:
        with open("/etc/machine-id", encoding="ascii", errors="replace") as file:
            machine_id = file.read(100).strip()
    except OSError:
        machine_id = ""
    return {
        "architecture": architecture(),
        "bootID": boot_id,
        "containerRuntimeVersion": "crun://" + _crun_version(),
        "kernelVersion": platform.release(),
        "kubeProxyVersion": VERSION,
        "kubeletVersion": VERSION,
        "machineID": machine_id,
        "operatingSystem": "linux",
        "osImage": os_image(),
        "systemUUID": machine_id,
    }


def _crun_version() -> str:
    import subprocess

    try:
        said = subprocess.run(["crun", "--version"], capture_output=True, text=True, timeout=5, env=environment()).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    words = said.split()
    return words[2] if len(words) > 2 else "unknown"


def facts() -> Dict[str, Any]:
    missing: List[str] = [name for name in PROGRAMS if shutil.which(name, path=environment()["PATH"]) is None]
    return {
        "arch": architecture(),
        "cpus": cpus(),
        "memoryBytes": memory_bytes(),
        "kernel": platform.release(),
        "osImage": os_image(),
        "python": ".".join(str(each) for each in sys.version_info[:3]),
        "cgroup": 2 if cgroups.Cgroups().v2 else 1,
        "hostname": os.uname().nodename,
        "systemd": os.path.isdir("/run/systemd/system"),
        "missing": missing,
    }
