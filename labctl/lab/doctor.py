"""`doctor` checks everything that `up` needs, before it is needed. Each failed check names the command that mends it.

Nothing is changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from labctl.errors import LabctlError
from labctl.lab import process, providers, requirements
from labctl.providers.protocol import Checks, ability

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

_ROOM_BYTES = 2 << 30


class Check(msgspec.Struct, frozen=True):
    """The result of one check. `level` is ok, warning or error; an error means that `up` will fail."""

    name: str
    level: str
    found: str
    mend: str = ""


def doctor(lab: LabFolder) -> list[Check]:
    """Run every check, in the order in which `up` needs the things."""
    checks: list[Check] = []
    for look in (_settings, _kubectl, _programs, _privilege, _room, _locks, _provider, _master):
        checks.extend(look(lab))
    return checks


def _settings(lab: LabFolder) -> Iterator[Check]:
    try:
        _ = lab.settings
    except LabctlError as error:
        yield Check("settings", "error", error.message, error.mend)
    else:
        yield Check("settings", "ok", f"{lab.settings['minions']} minions, provider {lab.settings['provider']}")


def _kubectl(_lab: LabFolder) -> Iterator[Check]:
    from labctl.lab.kubectl import find_kubectl

    yield _try("kubectl", find_kubectl)


def _programs(_lab: LabFolder) -> Iterator[Check]:
    for tool in requirements.TOOLS:
        if shutil.which(tool.program):
            continue
        level = "warning" if tool.needed_by == "image pull" else "error"
        yield Check(tool.program, level, f"missing; {tool.needed_by} needs it", requirements.install_command([tool]))
    if not requirements.missing(*{tool.needed_by for tool in requirements.TOOLS}):
        yield Check("programs", "ok", ", ".join(tool.program for tool in requirements.TOOLS))


def _privilege(_lab: LabFolder) -> Iterator[Check]:
    if os.geteuid() == 0:
        yield Check("privilege", "ok", "root")
    elif shutil.which("sudo"):
        yield Check("privilege", "ok", "labctl will use sudo if the provider needs root")
    else:
        yield Check("privilege", "error", "namespace machines need root and there is no sudo", "run as root, or use --minions 0")


def _room(lab: LabFolder) -> Iterator[Check]:
    for name, path in (("state", lab.paths.state), ("cache", lab.paths.cache)):
        folder = _existing(path)
        free = shutil.disk_usage(folder).free
        level = "ok" if free > _ROOM_BYTES else "warning"
        mend = "" if level == "ok" else f"free some space, or set LABCTL_{name.upper()}_HOME"
        yield Check(f"{name} disk", level, f"{free >> 30} GiB free at {folder}", mend)


def _locks(lab: LabFolder) -> Iterator[Check]:
    import sqlite3

    folder = _existing(lab.paths.state)
    if not os.access(folder, os.W_OK):
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            mode = sqlite3.connect(Path(scratch) / "probe.db").execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.Error as error:
            mode = str(error)
    if mode == "wal":
        yield Check("file locks", "ok", f"{folder} can hold the store")
    else:
        yield Check("file locks", "error", f"{folder} can't hold the store ({mode})", "set LABCTL_STATE_HOME to a local disk")


def _provider(lab: LabFolder) -> Iterator[Check]:
    try:
        if lab.settings["minions"] == 0:
            return
        provider, why = providers.choose(lab)
    except LabctlError as error:
        yield Check("provider", "error", error.message, error.mend)
        provider = providers.first_choice(lab)
    else:
        yield Check("provider", "ok", f"{provider.name}: {why}")
    yield boundary(provider.name)
    looks = ability(provider, Checks)
    for found in looks.checks() if looks else ():
        yield Check(found.name, found.level, found.found, found.mend)


BOUNDARIES = {
    "namespace": "the host is kept from pods, not from root on a minion, which shares its kernel",
    "vagrant": "the host is kept from pods and from root on a minion by the hypervisor",
    "ssh": "a minion is kept from its pods; what its root can reach is as it was before labctl came",
}
"""What each provider protects from whom. docs/security.md has the same sentences at length, and a test compares the two."""


def boundary(provider: str) -> Check:
    """Say what a hostile pod, or a hostile root on a minion, can and can't reach."""
    text = f"{BOUNDARIES[provider]} (docs/security.md)"
    if provider == "namespace":
        from labctl.providers.namespace.guards import Guards, of_host

        kept = of_host() if os.geteuid() == 0 else Guards(sysctls=True, kernel=True)
        if not kept.sysctls:
            return Check("boundary", "warning", f"{text}; this host can't keep its sysctls from it", "mount cgroup2 (a kernel since 5.2)")
        if not kept.kernel:
            text += "; this host keeps its sysctls from it, but not the rest of its kernel: that takes Linux 6.0 with bpf among its security modules"
    return Check("boundary", "ok", text)


def _master(lab: LabFolder) -> Iterator[Check]:
    if not lab.exists:
        yield Check("lab", "ok", f"none in {lab.folder} yet")
        return
    pid = process.master_pid(lab.paths)
    if not pid:
        yield Check("master", "warning", "not running", "labctl up")
        return
    try:
        lab.api.get("/readyz")
        yield Check("master", "ok", f"process {pid} answers at {process.master_run(lab.paths).get('url')}")
    except LabctlError as error:
        yield Check("master", "error", error.message, f"see {lab.paths.master_log}")


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except LabctlError as error:
        return Check(name, "error", error.message, error.mend)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
