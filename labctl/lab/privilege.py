"""Getting root where it is needed. People type no sudo: labctl runs as the person and asks for root only if the provider needs it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import LabctlError

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

_KEEP = ("NUM_MINIONS", "MINION_MEMORY", "MINION_CPUS", "KUBECONFIG", "http_proxy", "https_proxy", "no_proxy")


def needs_root(lab: LabFolder) -> bool:
    """Tell whether this lab's provider needs root and this process is not root.

    On Linux, provider `auto` tries namespaces first, which need it.
    """
    if os.geteuid() == 0 or lab.settings["minions"] == 0:
        return False
    provider = lab.settings["provider"]
    return provider == "namespace" or (provider == "auto" and sys.platform == "linux" and not lab.settings["machines"])


def may_be_root() -> bool:
    """Tell whether this process is root or can become root."""
    return os.geteuid() == 0 or shutil.which("sudo") is not None


def sudo_command(arguments: list[str]) -> list[str]:
    """Return the command that runs labctl again as root. Raises LabctlError if there is no sudo."""
    if not shutil.which("sudo"):
        raise LabctlError("namespace machines need root", mend="run this as root, or install sudo")
    kept = [f"{name}={value}" for name, value in os.environ.items() if name in _KEEP or name.startswith("LABCTL_")]
    return ["sudo", "--", "env", *kept, sys.executable, "-m", "labctl.cli", *arguments]


def return_ownership(lab: LabFolder, *others: Path) -> None:
    """Make the person the owner of the files that root wrote for them: those in the lab's folder, and `others`."""
    uid, gid = lab.environment.get("SUDO_UID"), lab.environment.get("SUDO_GID")
    if os.geteuid() != 0 or not uid or not gid:
        return
    for root in (lab.paths.lab, *others):
        below = [os.path.join(folder, name) for folder, folders, files in os.walk(root) for name in (*folders, *files)]
        for path in [str(root), *below] if root.exists() else []:
            os.chown(path, int(uid), int(gid), follow_symlinks=False)
