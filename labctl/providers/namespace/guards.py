"""What of the host's kernel is kept from a machine's root, by programs on a version 2 control group above the machine's own.

Who asks: cgroup.py for each machine, and `labctl doctor` about the host.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from labctl.providers.namespace import cgroupfiles, hooks, sysctls


@dataclass(frozen=True)
class Guards:
    """What is kept from it."""

    sysctls: bool = False
    kernel: bool = False  # its other files, its file systems and its BPF programs (hooks.py)


def protect(cgroup: Path) -> Guards:
    """Attach all programs to the group. Return what the kernel now keeps from its processes."""
    return Guards(sysctls.protect(cgroup), hooks.protect(cgroup))


def of_host() -> Guards:
    """Return what this host can keep from a machine's root. It is tried with a group that is removed at once."""
    unified = cgroupfiles.unified(Path("/proc/self/mountinfo").read_text())
    if unified is None:
        return Guards()
    folder = unified / f"labctl-probe-{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        return protect(folder)
    except OSError:
        return Guards()
    finally:
        cgroupfiles.remove_if_empty(folder)
