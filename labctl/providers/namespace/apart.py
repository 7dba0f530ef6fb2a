"""Folders whose subfolders ext4 puts far apart on the disk.

A file's inode is searched for near its folder's, and ext4 walks past every one nearby that was deleted in the last seconds. After a lab was destroyed or
replaced these are thousands: a machine's files were then copied in 0.1 to 0.4 s of processor time instead of 0.02 to 0.08. ext4 looks for another part of the disk for
each subfolder of a folder with the attribute T (chattr(1); FS_TOPDIR_FL in Linux's include/uapi/linux/fs.h). Other file systems have no such attribute, and need none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_TOP_OF_A_TREE = 0x00020000


def make(folder: Path) -> None:
    """Make the folder, if it is not there, and have its subfolders put apart from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # this file system has no such attribute
        (flags,) = struct.unpack("i", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(4)))
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("i", flags | _TOP_OF_A_TREE))
    os.close(descriptor)
