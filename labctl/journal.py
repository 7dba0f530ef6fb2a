"""The journal records what happened and why, in one JSON-lines file of bounded size. Every room adds lines to it.

`labctl why`, `labctl measure` and the demo read it. A lost journal is no harm: the state of the lab is in the store. So lines are written to the file in
groups, a moment after they were noted: one write for each line took a tenth of the time of a create. A process that is killed loses the lines of that moment.
A line is {"t": monotonic s, "at": epoch s, "room", "about", "rev", "cause", "text"}.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from labctl.clock import Clock

_GROUP_MAX, _GROUP_S = 1_000, 0.05  # the most lines of one write, and how long a line waits for others


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of the journal. `about` is `kind/namespace/name` or `machine/NAME`; `rev` is the revision that was written, `cause` the one that led to it."""

    t: float
    at: float
    room: str
    about: str
    text: str
    rev: int = 0
    cause: int = 0


class Journal(Protocol):
    def note(self, room: str, about: str, text: str, *, rev: int = 0, cause: int = 0) -> None: ...


class MemoryJournal:
    """Keeps the last `keep` lines in memory. With a path it also appends them to a file, and drops the older half when that outgrows `max_bytes`."""

    def __init__(self, clock: Clock, path: Path | None = None, *, keep: int = 20_000, max_bytes: int = 16 << 20) -> None:
        self._clock = clock
        self._path = path
        self._max_bytes = max_bytes
        self._encode = msgspec.json.Encoder().encode
        self.lines: deque[Line] = deque(_read(path), maxlen=keep)
        self._file = open(path, "ab", buffering=0) if path else None  # noqa: SIM115 - held open for the process's life
        self._unwritten: list[Line] = []

    def note(self, room: str, about: str, text: str, *, rev: int = 0, cause: int = 0) -> None:
        line = Line(round(self._clock.now(), 6), round(self._clock.wall(), 6), room, about, text, rev, cause)
        self.lines.append(line)
        if self._file is None:
            return
        self._unwritten.append(line)
        if len(self._unwritten) == 1:
            self._write_soon()
        elif len(self._unwritten) == _GROUP_MAX:
            self.write()

    def _write_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_later(_GROUP_S, self.write)
        except RuntimeError:  # no loop runs, so nobody would do it later
            self.write()

    def write(self) -> None:
        """Writes the waiting lines to the file now."""
        lines, self._unwritten = self._unwritten, []
        if self._file is None or not lines:
            return
        try:
            self._file.write(b"".join([self._encode(line) + b"\n" for line in lines]))
            if self._file.tell() > self._max_bytes:
                self._halve()
        except OSError:  # a full disk must not stop the master: nothing depends on the journal
            pass

    def about(self, about: str) -> Iterator[Line]:
        """Yields the lines about one object, the oldest first."""
        return (line for line in self.lines if line.about == about)

    def _halve(self) -> None:
        assert self._path and self._file
        data = self._path.read_bytes()
        half = data[data.find(b"\n", len(data) // 2) + 1 :]
        new = self._path.with_suffix(".new")
        new.write_bytes(half)
        os.replace(new, self._path)
        self._file.close()
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115


def _read(path: Path | None) -> Iterator[Line]:
    """Yields the lines that an earlier process wrote. Lines that a crash cut short, and lines of another form, are skipped."""
    if path is None or not path.is_file():
        return
    decode = msgspec.json.Decoder(Line).decode
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            yield decode(line)
