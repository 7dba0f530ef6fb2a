"""Finds out whether namespace machines work here. It tries everything once and removes it, and says what is missing and how to mend it."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from labctl.errors import ProviderError
from labctl.providers.namespace import cgroup
from labctl.providers.namespace.inside import command
from labctl.providers.protocol import Verdict

PACKAGES = {"ip": "iproute2", "mmdebstrap": "mmdebstrap", "nsenter": "util-linux", "setpriv": "util-linux"}
"""Each program with the Debian package that has it."""


RUIN_S = 60.0
"""A trial takes moments: one whose cgroup is older, and whose process has gone, was killed in the middle."""


def probe(state: Path) -> Verdict:
    """Return the first thing that does not work, or that all does."""
    if platform.system() != "Linux":
        return Verdict(False, "namespaces are Linux's", "use --provider vagrant")
    if os.geteuid() != 0:
        return Verdict(False, "making namespaces needs root", "run it with sudo")
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    if missing:
        return Verdict(False, f"missing: {', '.join(missing)}", f"apt-get install {' '.join(missing)}")
    return _try_cgroups() or _try_the_rest(_existing(state))


def _try_cgroups() -> Verdict | None:
    """Make a machine's cgroup with its limits, in a lab made for the test, and remove it."""
    try:
        _clear_ruins()
        cgroups = cgroup.detect(f"probe-{os.getpid()}")
        try:
            cgroups.make("machine", memory_bytes=64 << 20, cpus=1)
        finally:
            cgroups.remove_lab(deadline_s=1)
    except ProviderError as error:
        return Verdict(False, error.message, error.mend)
    except OSError as error:
        return Verdict(False, f"cgroups can't be made: {error}", "mount the cgroup file systems writable (a container needs --privileged)")
    return None


def _clear_ruins() -> None:
    """Remove what trials left that were killed."""
    places = Path("/sys/fs/cgroup")
    for folder in {each.name: each for pattern in ("labctl/probe-*", "*/labctl/probe-*") for each in places.glob(pattern)}.values():
        with contextlib.suppress(OSError, ProviderError):  # another process clears it at the same time
            if not Path("/proc", folder.name.removeprefix("probe-")).exists() and time.time() - folder.stat().st_ctime > RUIN_S:
                cgroup.detect(folder.name).remove_lab(deadline_s=1)


def _try_the_rest(folder: Path) -> Verdict:
    try:
        with tempfile.TemporaryDirectory(prefix=".labctl-probe-", dir=folder) as scratch:
            done = subprocess.run(command("attempt", scratch), capture_output=True, text=True, timeout=30)
    except OSError as error:
        return Verdict(False, f"cannot write in {folder}: {error.strerror}", "set LABCTL_STATE_HOME to a folder on ext4, xfs or btrfs")
    if done.returncode == 0:
        return Verdict(True, "namespaces, overlay, veth and cgroups work")
    reason, _, mend = (done.stderr.strip().splitlines() or ["the attempt ended without a message"])[-1].partition("|")
    return Verdict(False, reason, mend)


def _existing(path: Path) -> Path:
    """Return the nearest existing folder at or above `path`; it is on the same file system as what will be made below it."""
    while not path.is_dir():
        path = path.parent
    return path
