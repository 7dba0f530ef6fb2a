"""Makes an initrd from a folder.

The same content gives the same bytes: names are sorted, and no times or inode numbers of this machine are in it.
"""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

_TRAILER = "TRAILER!!!"


def archive(tree: Path) -> bytes:
    """Return the folder as a compressed cpio archive (newc), in which root owns everything."""
    entries = [_entry(number, path.relative_to(tree).as_posix(), path) for number, path in enumerate(sorted(tree.rglob("*")), 1)]
    whole = b"".join([*entries, _member(0, _TRAILER, 0, b"")])
    return gzip.compress(whole, compresslevel=6, mtime=0)


def _entry(number: int, name: str, path: Path) -> bytes:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return _member(number, name, mode, os.readlink(path).encode())
    if stat.S_ISDIR(mode):
        return _member(number, name, stat.S_IFDIR | 0o755, b"")
    executable = 0o755 if mode & stat.S_IXUSR else 0o644
    return _member(number, name, stat.S_IFREG | executable, path.read_bytes())


def _member(number: int, name: str, mode: int, data: bytes) -> bytes:
    """Return one newc member: magic and 13 numbers of 8 hex digits, the name, the data, each padded to 4 bytes."""
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % each for each in numbers)
    return _padded(header + encoded) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
