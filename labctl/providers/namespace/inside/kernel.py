"""System calls that Python 3.11 does not offer, by ctypes, and the constants they take."""

from __future__ import annotations

import contextlib
import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

_PR_CAPBSET_DROP = 24
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object, about: str = "") -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", about or None)


def unshare(flags: int) -> None:
    _call("unshare", ctypes.c_int(flags))


def setns(fd: int, kind: int) -> None:
    _call("setns", ctypes.c_int(fd), ctypes.c_int(kind))


def overlay_path(path: str) -> str:
    """Return a path as an option of an overlay: colons separate lower folders there, and commas separate options."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None, about=target)


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = False) -> None:
    """Make one path visible at another too. Making it read-only takes a second call."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def pivot_root(new_root: str) -> None:
    """Make `new_root` (a mount point) the root of this process's mount namespace, which is its own, and unmount the old one.

    Where labctl itself runs in a chroot, the process's root is not the namespace's, and whoever entered the namespace would stand in the host's root.
    Entering its own namespace leaves the chroot first.
    """
    number = _PIVOT_ROOT[os.uname().machine]
    os.chdir(new_root)
    here, namespace = os.open(".", os.O_PATH | os.O_CLOEXEC), os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    setns(namespace, CLONE_NEWNS)
    os.fchdir(here)
    os.close(namespace)
    os.close(here)
    _call("syscall", ctypes.c_long(number), b".", b".", about=new_root)
    _call("umount2", b".", ctypes.c_int(MNT_DETACH))
    os.chdir("/")


def drop_capability(number: int) -> None:
    """Drop a capability for good: no process started from here can have it again, whatever it executes."""
    _call("prctl", ctypes.c_int(_PR_CAPBSET_DROP), ctypes.c_ulong(number), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def close_all_on_exec() -> None:
    """Mark all inherited descriptors (such as the operation's lock), so that they are closed in the program that this one executes."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                os.set_inheritable(fd, False)
