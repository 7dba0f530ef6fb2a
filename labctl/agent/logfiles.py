"""The files of one container's log, followed while they are rotated: each is opened while it is there, and read to its end before the next.

A log is renamed by the agent (N.log to N.log.1) and replaced by conmon at its own bound, when a program writes faster than the agent looks. A reader can be slower
than both. So a thread looks at the names many times a second and opens each new file; what is open can be read after its name is gone. If the reader falls behind
by more files than are held open, or this process stood still, lines may be missing: unless the next file goes on at once where the last one ended, the
reader is told so.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import BinaryIO, Deque, List, Optional, Tuple

from . import beneath

LOOK_EVERY_S = 0.02
HELD_MAX = 16
UNSEEN_S = 0.25
"""In a shorter time than this no program fills a whole file, so none can have come and gone between two looks."""
TRIES = 20


def files_of(path: str) -> List[str]:
    """Return the names of a log's files, oldest first."""
    folder, name = os.path.split(path)
    try:
        there = os.listdir(folder)
    except OSError:
        return []
    numbers = [each[len(name) + 1 :] for each in there if each.startswith(name + ".")]
    rotated = sorted((int(each) for each in numbers if each.isdigit()), reverse=True)
    return [f"{path}.{number}" for number in rotated] + ([path] if name in there else [])


def open_all(path: str) -> List[BinaryIO]:
    """Open all files of a log, oldest first. It is tried again if they were rotated meanwhile."""
    opened: List[BinaryIO] = []
    for _ in range(TRIES):
        opened = []
        for name in files_of(path):
            with contextlib.suppress(FileNotFoundError):
                opened.append(open(name, "rb", opener=beneath.opener))  # noqa: SIM115 - the caller reads and closes them
        if [_inode(each) for each in opened] == _inodes(files_of(path)):
            break
        for each in opened[:-1]:
            each.close()
        opened = opened[-1:]
    return opened


def _inode(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_ino


def _inodes(names: List[str]) -> List[int]:
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found.append(os.stat(name).st_ino)
    return found


class Successors:
    """The files that come after `last`, which stays open here: the kernel gives its inode to no other file meanwhile."""

    def __init__(self, path: str, last: Optional[BinaryIO]) -> None:
        self._path = path
        self._last = os.dup(last.fileno()) if last else -1
        self._waiting: Deque[Tuple[BinaryIO, float]] = deque()
        self._looked_at = time.monotonic()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        for file, _ in self._waiting:
            file.close()
        if self._last >= 0:
            os.close(self._last)

    def next(self) -> Optional[Tuple[BinaryIO, float]]:
        """Return the file after the one that was read last. None if there is no later one yet.

        The number is 0, or files may have come and gone between the two: then it says when the one before was written to last.
        """
        self.look()
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def look(self) -> None:
        with self._lock:
            if len(self._waiting) < HELD_MAX:
                self._open_later()
                self._looked_at = time.monotonic()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            self.look()

    def _open_later(self) -> None:
        try:
            newest = os.stat(self._path).st_ino
        except OSError:
            return  # it was renamed a moment ago, and its writer has not begun another
        if self._last >= 0 and newest == os.fstat(self._last).st_ino:
            return
        opened = open_all(self._path)
        later, since_s = self._later(opened)
        for file in opened:
            if file not in later:
                file.close()
        for file in later:
            self._waiting.append((file, since_s))
            since_s = 0.0
        if later:
            if self._last >= 0:
                os.close(self._last)
            self._last = os.dup(later[-1].fileno())

    def _later(self, opened: List[BinaryIO]) -> Tuple[List[BinaryIO], float]:
        """Return which of the files come after the last one known. If that one has lost its name, return those that were written to since."""
        if self._last < 0:
            return opened, 0.0
        last = os.fstat(self._last)
        inodes = [_inode(each) for each in opened]
        if last.st_ino in inodes:
            return opened[inodes.index(last.st_ino) + 1 :], 0.0
        newer = [each for each in opened if os.fstat(each.fileno()).st_mtime_ns > last.st_mtime_ns]
        stood_still = time.monotonic() - self._looked_at > UNSEEN_S
        return newer or opened[-1:], last.st_mtime if stood_still else 0.0
