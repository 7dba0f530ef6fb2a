"""Container logs in the CRI format, as conmon writes them: read (tail, since, follow across rotation) and rotated.

    2026-01-02T15:04:05.000000000+00:00 stdout F a whole line
    2026-01-02T15:04:05.000000000+00:00 stdout P a piece of one

Files: N.log for attempt N; what was rotated away is N.log.1, the newest, to N.log.K.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from dataclasses import dataclass
from typing import BinaryIO, Callable, Iterator, List, Optional, Tuple

from . import beneath
from .times import parse

FOLLOW_EVERY_S = 0.1
BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Line:
    stamp: bytes
    text: bytes  # with its newline, unless it is a piece

    @property
    def whole(self) -> bool:
        return self.text.endswith(b"\n")


@dataclass(frozen=True)
class Wish:
    tail: Optional[int] = None
    since_s: float = 0.0  # wall clock
    timestamps: bool = False
    follow: bool = False
    limit_bytes: Optional[int] = None


def parse_line(raw: bytes) -> Optional[Line]:
    """None for what is no CRI line."""
    parts = raw.split(b" ", 3)
    if len(parts) < 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    text = parts[3]
    if parts[2] == b"P":
        text = text[:-1] if text.endswith(b"\n") else text
    return Line(parts[0], text)


def files_of(path: str) -> List[str]:
    """What there is of a log, oldest first."""
    folder, name = os.path.split(path)
    try:
        rotated = [
            int(each[len(name) + 1 :]) for each in os.listdir(folder) if each.startswith(name + ".") and each[len(name) + 1 :].isdigit()
        ]
    except OSError:
        return []
    found = [f"{path}.{number}" for number in sorted(rotated, reverse=True)]
    return found + ([path] if os.path.exists(path) else [])


def _tail_offset(path: str, count: int) -> Tuple[int, int]:
    """Where the last `count` lines of a file begin, and how many it has of them. Pieces count as lines do in the file."""
    with open(path, "rb", opener=beneath.opener) as file:
        at = end = file.seek(0, os.SEEK_END)
        seen = 0
        while at > 0:
            step = min(BLOCK_BYTES, at)
            at -= step
            file.seek(at)
            block = file.read(step)
            cut = len(block) - 1 if at + step == end and block.endswith(b"\n") else len(block)
            while True:
                cut = block.rfind(b"\n", 0, cut)
                if cut < 0:
                    break
                seen += 1
                if seen == count:
                    return at + cut + 1, count
        return 0, seen + (1 if end else 0)


def _starts(files: List[str], tail: Optional[int]) -> List[Tuple[str, int]]:
    if tail is None:
        return [(path, 0) for path in files]
    starts: List[Tuple[str, int]] = []
    for path in reversed(files):
        if tail <= 0:
            break
        offset, seen = _tail_offset(path, tail)
        starts.insert(0, (path, offset))
        tail -= seen
    return starts


def read(path: str, wish: Wish, alive: Callable[[], bool], sleep: Callable[[float], None] = time.sleep) -> Iterator[bytes]:
    """Both streams' lines, in order. With `follow`, until the container is not `alive` and everything is read."""
    left = wish.limit_bytes if wish.limit_bytes is not None else 1 << 62
    for line in _lines(path, wish, alive, sleep):
        if wish.since_s and parse(line.stamp.decode(errors="replace")) < wish.since_s:
            continue
        text = line.stamp + b" " + line.text if wish.timestamps else line.text
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def _lines(path: str, wish: Wish, alive: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[Line]:
    starts = _starts(files_of(path), wish.tail)
    for old, offset in starts:
        if old != path:
            with open(old, "rb", opener=beneath.opener) as file:
                file.seek(offset)
                for raw in file:
                    line = parse_line(raw)
                    if line:
                        yield line
    begin = next((offset for each, offset in starts if each == path), None)
    if begin is None and wish.tail is not None and os.path.exists(path):
        begin = os.path.getsize(path)
    yield from _current(path, begin or 0, wish.follow, alive, sleep)


def _current(path: str, offset: int, follow: bool, alive: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[Line]:
    file = _open(path, follow, alive, sleep)
    if file is None:
        return
    file.seek(offset)
    rest = b""
    while True:
        last_look = not follow or not alive()
        while True:
            raw = rest + file.readline()
            rest = b""
            if not raw:
                break
            if not raw.endswith(b"\n") and not last_look:
                rest = raw  # conmon is in the middle of it
                break
            line = parse_line(raw)
            if line:
                yield line
        if _replaced(file.fileno(), path):
            file.close()
            file = open(path, "rb", opener=beneath.opener)  # noqa: SIM115 - held over many turns
            continue
        if last_look:
            file.close()
            return
        sleep(FOLLOW_EVERY_S)


def _open(path: str, follow: bool, alive: Callable[[], bool], sleep: Callable[[float], None]) -> Optional[BinaryIO]:
    while True:
        try:
            return open(path, "rb", opener=beneath.opener)
        except FileNotFoundError:
            if not follow or not alive():
                return None
        sleep(FOLLOW_EVERY_S)


def _replaced(descriptor: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except OSError:
        return False
    return there.st_ino != os.fstat(descriptor).st_ino


def rotate(path: str, limit_bytes: int, keep: int) -> bool:
    """When the log is over its limit, shift the old ones; True: its writer has to begin a new file. `keep` files in all."""
    try:
        if os.path.getsize(path) < limit_bytes:
            return False
    except OSError:
        return False
    for number in range(max(1, keep - 1), 0, -1):
        source = path if number == 1 else f"{path}.{number - 1}"
        if os.path.exists(source):
            os.replace(source, f"{path}.{number}")
    return True


def shorten(descriptor: int, limit_bytes: int) -> bool:
    """The agent's own log, which others hold open too: once it is too long, its newest half stays. What is no file, or not opened for appending, is left alone."""
    found = os.fstat(descriptor)
    appended = stat.S_ISREG(found.st_mode) and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
    if not appended or found.st_size <= limit_bytes:
        return False
    with open(f"/proc/self/fd/{descriptor}", "rb") as file:
        file.seek(-(limit_bytes // 2), os.SEEK_END)
        file.readline()  # the rest of a line that is cut
        newest = file.read()
    os.ftruncate(descriptor, 0)
    os.write(descriptor, newest)
    return True
