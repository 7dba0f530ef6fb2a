"""`attempt FOLDER` tries once what a lab needs: namespaces, an overlay on FOLDER's file system, a veth pair, a bridge.

Everything is made in namespaces of this process, so it is gone when the process ends, whatever happens. A failure is one line on standard
error: what does not work, `|`, and how to mend it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from labctl.providers.namespace.inside import kernel

_OF_A_MACHINE = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWCGROUP


def main(arguments: list[str]) -> int:
    folder = arguments[0]
    steps: list[tuple[str, str, Callable[[], None]]] = [
        ("namespaces can't be made", "use a privileged container or a real machine", _namespaces),
        (f"no overlay file system on {folder}", "set LABCTL_STATE_HOME to a folder on ext4, xfs or btrfs", lambda: _overlay(folder)),
        ("no veth network devices", "load the kernel module veth", _veth),
        ("no bridge network devices", "load the kernel module bridge", _bridge),
        ("process namespaces can't be made", "use a privileged container or a real machine", _pids),
    ]
    for what, mend, step in steps:
        try:
            step()
        except OSError as error:
            print(f"{what}: {error.strerror or error}|{mend}", file=sys.stderr)  # noqa: T201 - a program of its own
            return 1
    return 0


def _namespaces() -> None:
    kernel.unshare(_OF_A_MACHINE)
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)


def _overlay(folder: str) -> None:
    """Try an overlay whose upper files are on this file system, and a second one above it, as pods' images need it."""
    for part in ("lower", "upper", "work", "root"):
        os.mkdir(os.path.join(folder, part))
    with open(os.path.join(folder, "lower/file"), "w") as file:
        file.write("below")
    within = kernel.overlay_path(folder)
    root = os.path.join(folder, "root")
    kernel.mount("overlay", root, "overlay", data=f"lowerdir={within}/lower,upperdir={within}/upper,workdir={within}/work")
    os.unlink(os.path.join(root, "file"))  # this makes a whiteout, which needs more of the file system than a mount


def _veth() -> None:
    _ip("link", "add", "a0", "type", "veth", "peer", "name", "b0")


def _bridge() -> None:
    _ip("link", "add", "c0", "type", "bridge")


def _pids() -> None:
    """Try a pid namespace. This comes last, because only the first process started after it is in the new namespace."""
    kernel.unshare(kernel.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        try:
            kernel.mount("proc", "/proc", "proc")
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, f"mounting /proc: {os.strerror(status)}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())
