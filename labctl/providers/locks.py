"""Locks that the kernel keeps. After a kill -9 no stale lock is left, and no process id is trusted that may have been reused.

There are two kinds. `exclusive` allows one operation at a time (flock: it ends with the last process that inherited it, so a half-started
child still counts as the operation). `hold` and `holder` say which process lives at a path: a POSIX record lock belongs to one process,
survives its exec and ends with it, and the kernel tells every asker that process's id. It is the only
record of which process is a machine's init.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

# struct flock on 64-bit Linux: short l_type, short l_whence, off_t l_start, off_t l_len, pid_t l_pid
_FLOCK = struct.Struct("hhqqi4x")
_GETLK = fcntl.F_GETLK


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Wait for the lock on `path` and keep it inside the block. Yields its descriptor, which a child may inherit.

    The lock's holder may remove the file, so after locking it is checked that the file still has its name.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # its folder was removed in between
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _still_named(path, fd):
                yield fd
                return
        finally:
            os.close(fd)


def busy(path: Path) -> bool:
    """Tell whether a process is inside `exclusive(path)` now."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def hold(path: str) -> int | None:
    """Become the process that lives at `path` until this process ends, also across exec. Return None if another process lives there."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(fd, True)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def holder(path: Path | str) -> int:
    """Return the process that lives at `path`, as this pid namespace numbers it, or 0 if none does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        answer = fcntl.fcntl(fd, _GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(answer)
    return 0 if kind == fcntl.F_UNLCK else max(pid, 0)


def _still_named(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
