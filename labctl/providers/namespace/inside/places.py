"""Folders and files in a machine's own file system that are made for it from outside, before it boots.

Root on the machine may have left anything in their place: a link that leads to the host's files, a pipe, a file where a folder was, nothing at all. So
each name is opened in the open folder above it, and never followed; what stands in the way is removed. Nothing of the machine runs meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def folder(top: str, path: str, mode: int | None = None) -> int:
    """Return a descriptor of the folder `path` below `top`, which is root's, with `mode` if one is given. What is missing is made. Raises OSError."""
    descriptor = os.open(top, _FOLDER)
    for name in path.split("/"):
        try:
            below = _opened(name, descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (0, 0):
        os.fchown(descriptor, 0, 0)
    if mode is not None and stat.S_IMODE(now.st_mode) != mode:
        os.fchmod(descriptor, mode)
    return descriptor


def write(top: str, path: str, content: bytes, mode: int) -> None:
    """Write a file below `top` completely or not at all, with its mode from the start. Raises OSError."""
    above, _, name = path.rpartition("/")
    descriptor = folder(top, above)
    try:
        _write(descriptor, name, content, mode)
    finally:
        os.close(descriptor)


def _opened(name: str, above: int) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(name, dir_fd=above)
    os.mkdir(name, 0o755, dir_fd=above)
    return os.open(name, _FOLDER, dir_fd=above)


def _write(folder: int, name: str, content: bytes, mode: int) -> None:
    new = f".{name}.new"
    _remove(folder, new)
    file = os.open(new, _NEW_FILE, mode, dir_fd=folder)
    try:
        os.fchmod(file, mode)
        with os.fdopen(file, "wb", closefd=False) as opened:
            opened.write(content)
    finally:
        os.close(file)
    try:
        os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        _remove(folder, name)
        os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        import shutil  # for what is rare: it costs each boot's program 8 ms

        try:
            shutil.rmtree(name, dir_fd=folder)
        except RecursionError:
            raise OSError(errno.ENAMETOOLONG, "a folder that is too deep stands in the place of a file", name) from None
