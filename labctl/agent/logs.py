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

from .logfiles import UNSEEN_S, Successors, open_all
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


MISSING = Line(b"", b"[labctl: lines may be missing here, the log was rotated faster than it was read]\n")


@dataclass(frozen=True)
class LogRequest:
    tail: Optional[int] = None
    since_s: float = 0.0  # wall clock
    timestamps: bool = False
    follow: bool = False
    limit_bytes: Optional[int] = None


def parse_line(raw: bytes) -> Optional[Line]:
    """Parse a CRI line. Return None for any other."""
    parts = raw.split(b" ", 3)
    if len(parts) < 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    text = parts[3]
    if parts[2] == b"P":
        text = text[:-1] if text.endswith(b"\n") else text
    return Line(parts[0], text)


def _tail_offset(file: BinaryIO, count: int) -> Tuple[int, int]:
    """Return where the last `count` lines of a file begin, and how many it has of them. Pieces of long lines count as lines."""
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


def _go_to_tail(files: List[BinaryIO], tail: int) -> None:
    """Leave each file at the first of the log's last `tail` lines, or at its end."""
    for file in reversed(files):
        if tail <= 0:
            file.seek(0, os.SEEK_END)
            continue
        offset, seen = _tail_offset(file, tail)
        file.seek(offset)
        tail -= seen


def read(path: str, request: LogRequest, alive: Callable[[], bool], sleep: Callable[[float], None] = time.sleep) -> Iterator[bytes]:
    """Both streams' lines, in order. With `follow`, until the container is not `alive` and everything is read."""
    left = request.limit_bytes if request.limit_bytes is not None else 1 << 62
    whole = True  # what was told last ended its line
    for line in _lines(path, request, alive, sleep):
        if request.since_s and line is not MISSING and parse(line.stamp.decode(errors="replace")) < request.since_s:
            continue
        text = _shown(line.stamp) + b" " + line.text if request.timestamps else line.text
        if line is MISSING and not whole:
            text = b"\n" + text  # the rest of the line before is missing, too
        whole = line.whole
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def _shown(stamp: bytes) -> bytes:
    """Return a time as the kubelet prints it: conmon has written `+00:00` for UTC."""
    return stamp[:-6] + b"Z" if stamp.endswith(b"+00:00") else stamp


def _lines(path: str, request: LogRequest, alive: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[Line]:
    files = open_all(path)
    if request.tail is not None:
        _go_to_tail(files, request.tail)
    later = Successors(path, files[-1] if files else None) if request.follow else None
    try:
        for file in files[:-1] if request.follow else files:
            yield from _whole_lines(file)
        if later:
            yield from _followed(files[-1] if files else None, later, alive, sleep)
    finally:
        for file in files:
            file.close()
        if later:
            later.close()


def _whole_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield all lines of a file that will not grow any more."""
    for raw in file:
        line = parse_line(raw)
        if line:
            yield line


def _followed(file: Optional[BinaryIO], later: Successors, alive: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[Line]:
    """Yield the lines of the newest file and of those that come after it, until the container is dead and everything is read."""
    gap = _Gap()
    while True:
        last_look = not alive()
        if file:
            yield from gap.told_before(_so_far(file, last_look))
        found = later.next()
        if found:  # whoever wrote the old file has gone on to this one: what the old one holds now is all
            if file:
                yield from gap.told_before(_whole_lines(file))
                file.close()
            file, since_s = found
            gap.since_s = gap.since_s or since_s
        elif last_look:
            break
        else:
            sleep(FOLLOW_EVERY_S)
    if gap.since_s:
        yield MISSING
    if file:
        file.close()


class _Gap:
    """Between two files others may have come and gone. `since_s`: when the first of the two was written to last; 0 if there is no gap."""

    def __init__(self) -> None:
        self.since_s = 0.0

    def told_before(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Yield these lines, and before the first of them that lines may be missing, unless it was written too soon for a whole file to have been between.

        The container's clock is the machine's, which somebody may have moved: a line from long before proves nothing.
        """
        for line in lines:
            if self.since_s and abs(_moment(line) - self.since_s) > UNSEEN_S:
                yield MISSING
            self.since_s = 0.0
            yield line


def _moment(line: Line) -> float:
    """Return when the line was written, or 0 if it does not say so."""
    try:
        return parse(line.stamp.decode(errors="replace"))
    except ValueError:
        return 0.0


def _so_far(file: BinaryIO, last_look: bool) -> Iterator[Line]:
    """Yield what was added to a file. A line that is being written is left for the next time."""
    while True:
        raw = file.readline()
        if not raw:
            return
        if not raw.endswith(b"\n") and not last_look:
            file.seek(-len(raw), os.SEEK_CUR)
            return
        line = parse_line(raw)
        if line:
            yield line


def rotate(path: str, limit_bytes: int, keep: int) -> bool:
    """Rotate the log when it is over its limit. Return True if its writer has to begin a new file. `keep` is the number of files in all."""
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
    """Shorten the agent's own log, which others hold open too, to its newest half. What is no file, or not opened for appending, is left alone."""
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
