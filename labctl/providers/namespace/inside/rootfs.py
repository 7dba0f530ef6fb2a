"""A machine's file systems: an overlay on the shared root file system, and only those parts of the kernel's that belong to the machine.

A simple container could change global sysctls, the clock, kernel modules and the host's devices. Here /proc/sys is
read-only except for the network's part, the capabilities to change the rest are dropped for good, and cgroups allow few devices.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from labctl.providers.namespace.inside import kernel, places, plan

_QUIET = kernel.MS_NOSUID | kernel.MS_NOEXEC | kernel.MS_NODEV
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0), "net/tun": (10, 200)}
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx", "core": "/proc/kcore"}
_DROPPED = {
    "LINUX_IMMUTABLE": 9,
    "SYS_MODULE": 16,
    "SYS_RAWIO": 17,
    "SYS_PACCT": 20,
    "SYS_TIME": 25,
    "MAC_OVERRIDE": 32,
    "MAC_ADMIN": 33,
    "SYSLOG": 34,
    "WAKE_ALARM": 35,
    "BLOCK_SUSPEND": 36,
}

_MOUNT_POINTS = ("proc", "dev", "sys", "run", "tmp", "var/lib/labctl")
"""Folders of its own, before anything is mounted on them: a link that the machine's root left there would be followed outside of the machine."""


def enter(boot: plan.BootPlan) -> None:
    """Build the mounts below `folder`/root in this process's own mount namespace and make it the root.

    None of them is the host's or hears of the host's: all are made private first, and what is shared in the end is shared within the machine alone.
    """
    os.umask(0o022)
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    root = f"{boot.folder}/root"
    folder = kernel.overlay_path(boot.folder)
    layers = f"lowerdir={kernel.overlay_path(boot.lower)},upperdir={folder}/upper,workdir={folder}/work"
    kernel.mount("overlay", root, "overlay", data=layers)
    for part in _MOUNT_POINTS:
        os.close(places.folder(root, part))
    kernel.bind(f"{boot.folder}/storage", f"{root}/var/lib/labctl")
    _proc(boot, root)
    _dev(root)
    for name, options in (("run", "mode=755,size=64m"), ("tmp", "mode=1777,size=50%")):
        kernel.mount("tmpfs", f"{root}/{name}", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    os.mkdir(f"{root}/run/sshd", 0o755)
    _sys(boot, root)
    kernel.pivot_root(root)
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_SHARED)  # as systemd does: pods may ask to be told of later mounts


def drop_capabilities() -> None:
    for number in _DROPPED.values():
        kernel.drop_capability(number)


def _proc(boot: plan.BootPlan, root: str) -> None:
    proc = f"{root}/proc"
    kernel.mount("proc", proc, "proc", _QUIET)
    kernel.bind(f"{boot.folder}/boot_id", f"{proc}/sys/kernel/random/boot_id", read_only=True)
    kernel.bind(f"{proc}/sys", f"{proc}/sys", read_only=True, recursive=True)
    kernel.bind(f"{proc}/sys/net", f"{proc}/sys/net")
    kernel.mount("", f"{proc}/sys/net", flags=kernel.MS_BIND | kernel.MS_REMOUNT)
    if os.path.exists(f"{proc}/sysrq-trigger"):  # some kernels don't have it
        kernel.bind(f"{proc}/sysrq-trigger", f"{proc}/sysrq-trigger", read_only=True)
    if os.path.exists(f"{proc}/kmsg"):
        kernel.bind("/dev/null", f"{proc}/kmsg")  # it is the host's log, and lines that a machine reads there would be lost for the host


def _sys(boot: plan.BootPlan, root: str) -> None:
    """Mount the machine's own network devices, read-only, and its cgroup as the root of each hierarchy."""
    kernel.mount("sysfs", f"{root}/sys", "sysfs", _QUIET | kernel.MS_RDONLY)
    cgroups = f"{root}/sys/fs/cgroup"
    if len(boot.cgroup.mounts) > 1:
        kernel.mount("tmpfs", cgroups, "tmpfs", _QUIET, "mode=755,size=1m")
    for folder, kind, options in boot.cgroup.mounts:
        os.makedirs(os.path.join(cgroups, folder), exist_ok=True)
        kernel.mount(kind, os.path.join(cgroups, folder), kind, _QUIET, options)


def _dev(root: str) -> None:
    dev = Path(root, "dev")
    kernel.mount("tmpfs", str(dev), "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=1m")
    (dev / "net").mkdir()
    before = os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.umask(before)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    kernel.mount("devpts", str(dev / "pts"), "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    kernel.mount("tmpfs", str(dev / "shm"), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    kernel.mount("mqueue", str(dev / "mqueue"), "mqueue", _QUIET)
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
