"""The system calls that Python's standard library lacks, through ctypes. Each raises OSError, like the ones in `os`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import threading
from typing import Callable, List, Optional

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000
_MOUNT_SETATTR = 442  # on every architecture
M_ARENA_MAX, M_TRIM_THRESHOLD = -8, -1

_ESCAPED = re.compile(rb"\\([0-7]{3})")  # blanks, newlines and backslashes in /proc/self/mounts

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _bytes(text: Optional[str]) -> Optional[bytes]:
    return None if text is None else os.fsencode(text)


def mount(source: str, target: str, kind: Optional[str] = None, flags: int = 0, data: Optional[str] = None) -> None:
    _check(_libc.mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)), target)


def has_mount_setattr() -> bool:
    """Tell whether the kernel can change a mount and all below it in one step (mount_setattr, Linux 5.12)."""
    _libc.syscall(_MOUNT_SETATTR, -1, b"", 0, None, 0)
    return ctypes.get_errno() != errno.ENOSYS


def unmount(target: str) -> None:
    """Unmount lazily, so that it works while processes use it. It is no error if nothing is mounted there."""
    try:
        _check(_libc.umount2(_bytes(target), MNT_DETACH), target)
    except OSError as error:
        if error.errno not in (2, 22):  # ENOENT, EINVAL: not a mount point
            raise


def sync_file_system(path: str) -> None:
    """Wait until all that was written to the file system of `path` is on its disk: syncfs(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syncfs(descriptor), path)
    finally:
        os.close(descriptor)


def _unescaped(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field))


def mounts_below(folder: str) -> "list[str]":
    """Mount points inside a folder, innermost first."""
    with open("/proc/self/mounts", "rb") as file:
        targets = [_unescaped(line.split()[1]) for line in file]
    return sorted((each for each in targets if each.startswith(folder.rstrip("/") + "/")), key=len, reverse=True)


def propagation(path: str) -> "tuple[str, str]":
    """Return the mount point that `path` lies on, and what it tells others of its mounts: "private", "slave" or "shared". Raises OSError.

    One that is told and tells is "shared".
    """
    fields = _mount_of(path)
    told = b" ".join(fields[6 : fields.index(b"-", 6)])
    return _unescaped(fields[4]), "shared" if b"shared:" in told else "slave" if b"master:" in told else "private"


def shows_what_was_removed(target: str) -> bool:
    """Tell whether what is mounted at `target` has been removed: the kernel mounts it nowhere else any more. Raises OSError."""
    return _mount_of(target)[3].endswith(b"//deleted")


def _mount_of(path: str) -> "list[bytes]":
    """Return the fields of /proc/self/mountinfo about the mount that `path` lies on. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            identity = next(line.split()[1] for line in file if line.startswith(b"mnt_id:"))
        with open("/proc/self/mountinfo", "rb") as file:
            found = next((fields for fields in map(bytes.split, file) if fields[0] == identity), None)
    finally:
        os.close(descriptor)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "is not on a mount of this machine", path)
    return found


def unmount_below(folder: str) -> None:
    """Unmount all that is mounted inside a folder, and only there: where mounts are shared, one's end is otherwise the end of what it shows elsewhere."""
    targets = mounts_below(folder)
    for target in targets:
        with contextlib.suppress(OSError):  # it is gone meanwhile
            mount("", target, None, MS_SLAVE)
    for target in targets:
        unmount(target)


def unshare(flags: int) -> None:
    """Moves the calling *thread* into new namespaces (network, IPC and UTS are the thread's own)."""
    _check(_libc.unshare(flags), "unshare")


def enter(namespace: int, kind: int) -> None:
    """Moves the calling *thread* into the namespace of this descriptor."""
    _check(_libc.setns(namespace, kind), "setns")


def keep_memory_small() -> None:
    """Use one malloc arena and trim eagerly. Our threads live for milliseconds, but their arenas would stay."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(M_ARENA_MAX, 1)
        _libc.mallopt(M_TRIM_THRESHOLD, 256 * 1024)


def give_memory_back() -> None:
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def kill_me_last() -> None:
    """Ask the kernel to kill other processes first when memory runs out, as the kubelet does. A machine whose root may not ask goes without."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-999")


def catches(pid: int, number: int) -> bool:
    """Tell whether the process has a handler for this signal. True also for one that is gone, because there is nothing to wait for."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            caught = next((line.split()[1] for line in file if line.startswith("SigCgt:")), "")
    except OSError:
        return True
    return not caught or bool(int(caught, 16) >> (number - 1) & 1)


def start_ticks(pid: int) -> int:
    """Return when the process began, in clock ticks since boot. With the pid it identifies a process. 0: no such process (a zombie counts as none)."""
    return _stat(pid, 19)


def parent(pid: int) -> int:
    """Return the process's parent. 0: no such process (a zombie counts as none)."""
    return _stat(pid, 1)


def process_group(pid: int) -> int:
    """Return the process's group. 0: no such process (a zombie counts as none)."""
    return _stat(pid, 2)


def _stat(pid: int, field: int) -> int:
    """Return a number of /proc/PID/stat, counted from the field behind the process's name, which is its state."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[field])


def processes_with(word: bytes) -> "list[int]":
    """Return the processes whose command line contains this word."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if word in file.read(64 * 1024):
                        found.append(int(name))
            except OSError:
                continue  # it has just ended
    return found


def in_own_thread(name: str, work: Callable[[], None]) -> None:
    """Do `work` in a thread that ends with it, because namespaces are a thread's. Returns when it is done, and raises what it raised."""
    failures: List[BaseException] = []

    def carry_out() -> None:
        try:
            work()
        except BaseException as error:  # carried to the caller, whose thread this is not
            failures.append(error)

    thread = threading.Thread(target=carry_out, name=name, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
