"""Opens files below a folder whose content a container controls, without ever leaving that folder.

Who calls it: the runtime for a mount with `subPath`, and everything that reads a file which a container or an image made.
A path that was checked and then opened by its name can be exchanged for a symbolic link in between (CVE-2021-25741). So a path
is walked part by part: each part is opened relative to the descriptor of the part before it, with O_NOFOLLOW. The result is a descriptor, and
whoever mounts uses that descriptor, never the name. This is what Kubernetes does too; openat2(RESOLVE_BENEATH) would do the same in one
system call, but kernels before 5.6 lack it and it cannot create missing folders, so there is one way for all kernels.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import List

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
SMALL_FILE_BYTES = 1 << 20


class LeavesFolder(OSError):
    """The path leads out of its folder, or through a symbolic link that appeared while it was opened."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EXDEV, "leaves its folder", path)


def parts_below(folder: str, path: str) -> List[str]:
    """Return the names from `folder` down to `path`, with the symbolic links of this moment resolved. Raises LeavesFolder if they lead out.

    Links that stay inside are allowed: every key of a ConfigMap volume is one. The answer may be out of date at once; `open_below` notices that.
    """
    base = os.path.realpath(folder)
    found = os.path.realpath(os.path.join(base, path))
    if os.path.isabs(path) or ".." in path.split("/") or (found != base and not found.startswith(base.rstrip("/") + "/")):
        raise LeavesFolder(path)
    return [part for part in found[len(base) :].split("/") if part]


def open_below(folder: str, path: str, missing_mode: "int | None" = None) -> int:
    """Return an O_PATH descriptor of `path` below `folder`. With `missing_mode`, missing folders are made with that mode. Raises OSError."""
    parts = parts_below(folder, path)
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        for part in parts:
            below = _step(descriptor, part, missing_mode)
            os.close(descriptor)
            descriptor = below
        if parts and stat.S_ISLNK(os.fstat(descriptor).st_mode):
            raise LeavesFolder(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _step(folder: int, name: str, missing_mode: "int | None") -> int:
    """Opens one name in an open folder. A symbolic link is opened as itself, so nothing can be opened below it."""
    try:
        return os.open(name, _STEP, dir_fd=folder)
    except FileNotFoundError:
        if missing_mode is None:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
        made = True
    except FileExistsError:
        made = False
    descriptor = os.open(name, _STEP, dir_fd=folder)
    if made and stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.chmod(f"/proc/self/fd/{descriptor}", missing_mode)  # whatever the umask; the descriptor names the folder, not the path
    return descriptor


def opener(path: str, flags: int, dir_fd: "int | None" = None) -> int:
    """Open only a regular file, for `open(path, "rb", opener=opener)`. A link is not followed and a pipe does not block. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return descriptor


def read_file(path: str, limit_bytes: int = SMALL_FILE_BYTES, dir_fd: "int | None" = None) -> bytes:
    """Return the first bytes of a regular file. Raises OSError if it is anything else."""
    with os.fdopen(opener(path, os.O_RDONLY, dir_fd), "rb") as file:
        return file.read(limit_bytes)


def read_below(folder: str, path: str, limit_bytes: int = SMALL_FILE_BYTES) -> bytes:
    """Read like `read_file`, for a path below a folder. No part of it may be a symbolic link that leads out."""
    parts = parts_below(folder, path)
    if not parts:
        raise OSError(errno.EISDIR, "is not a regular file", path)
    parent = open_below(folder, "/".join(parts[:-1]))
    try:
        return read_file(parts[-1], limit_bytes, dir_fd=parent)
    finally:
        os.close(parent)
