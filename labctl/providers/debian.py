"""Builds root file systems from Debian's packages, with the scripts in provision/. Namespace machines and VM boxes share this.

Everything comes from this machine's apt sources, so a build works offline if apt does. If a build is killed, its processes end with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from labctl import assets
from labctl.errors import ProviderError

NOT_NEEDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/zoneinfo/*")
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_PACKAGE = {"setpriv": "util-linux", "mke2fs": "e2fsprogs", "qemu-img": "qemu-utils"}
_IN_ITS_OWN_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


def packages(*lists: str) -> list[str]:
    """Return the packages in these lists of provision/, in order."""
    lines = [line for name in lists for line in assets.provision(name).read_text().split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def minion_lists(network: str) -> tuple[str, ...]:
    """Return the lists of provision/ that a minion with this pod network needs: the one for all, and the network's own if it has one."""
    own = f"packages.{network}"
    return ("packages", own) if network and assets.provision(own).exists() else ("packages",)


def in_chroot(script: str) -> str:
    """Return an mmdebstrap hook that runs a script of provision/ inside the new system."""
    return f'--customize-hook=env LABCTL_IMAGE=1 chroot "$1" sh -s < {shlex.quote(str(assets.provision(script)))}'


def mmdebstrap(target: Path, suite: str, mirror: str, included: Sequence[str], hooks: Sequence[str]) -> list[str]:
    """Return the command line. A target that ends in .tar becomes an archive. Without root, a user namespace is used."""
    return [
        "mmdebstrap",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--variant=minbase",
        f"--include={','.join(included)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in NOT_NEEDED),
        *hooks,
        suite,
        str(target),
        *([mirror] if mirror else []),
    ]


def run(
    what: str, command: Sequence[str], folder: Path, progress: Callable[[str], None], environment: Mapping[str, str] | None = None
) -> None:
    """Run one step of building `what`, with `folder` for its temporary files. If it fails, ProviderError has the end of its output."""
    missing = [program for program in ("setpriv", command[0]) if not shutil.which(program)]
    if missing:
        raise ProviderError(f"{missing[0]} is not installed", mend=f"apt-get install {_PACKAGE.get(missing[0], missing[0])}")
    guarded = [*_ENDS_WITH_US, *(_IN_ITS_OWN_NAMESPACES if os.geteuid() == 0 else ()), *command]
    process = subprocess.Popen(
        guarded,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder), **(environment or {})},
    )
    said: list[str] = []
    assert process.stdout
    for line in process.stdout:
        said.append(line.strip())
        if line.startswith("I: "):
            progress(line[3:].strip())
    if process.wait() != 0:
        why = "; ".join([line for line in said if line.startswith(("E:", "W:"))][-3:] or said[-3:])
        raise ProviderError(f"building {what} failed: {why}", mend="check that apt can install packages, then run it again")
