"""The journal records what happened and why, in one JSON-lines file of bounded size. Every room adds lines to it.

`labctl why`, `labctl timeline` and the live page read it. A lost journal is no harm: the state of the lab is in the store. So lines are written to the file in
groups, a moment after they were noted: one write for each line took a tenth of the time of a create. A process that is killed loses the lines of that moment.
An urgent line (a fault, the end of a machine) is written at once, and for a while after it every line is written in the same turn of the loop: what follows a
fault is what people ask for, and the master may be what the fault kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from labctl.clock import Clock
from labctl.decoding import ready

_GROUP_MAX, _GROUP_S = 1_000, 0.05  # the most lines of one write, and how long a line waits for others
_URGENT_S = 10.0  # how long after an urgent line no line waits


class Line(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of the journal. Programs follow `rev`, `cause` and `also` from what happened to what it led to, and read `did`; people read `text`.

    `about` is `kind/namespace/name` or `machine/NAME`. `did` is one word: what a controller did (create, patch, replace, delete, bind), or what was seen
    (DID lists those words).
    """

    t: float  # seconds of CLOCK_MONOTONIC
    at: float  # seconds since the epoch
    room: str
    about: str
    text: str
    rev: int = 0  # the revision that was written or seen
    cause: int = 0  # the revision that led to it: the latest that was not acted on yet
    also: tuple[int, ...] = ()  # the others of them
    did: str = ""
    of: str = ""  # the object whose plan it was part of, where that is not the one it is about
    where: str = ""  # a machine
    age: float = 0.0  # how many seconds before `t` it happened, as who reported it says
    unsure: float = 0.0  # how many seconds longer that may have been


DID = {
    "injected": "a fault began",
    "healed": "a fault ended",
    "off": "the provider saw the end of a machine's boot",
    "up": "a master answers",
    "ssh-lost": "a machine's SSH connection ended",
    "rules": "a minion confirmed its rules",
    "repaired": "a minion's rules had been changed by somebody else, and were mended",
    "ready": "a pod became ready",
    "unready": "a pod is ready no longer",
    "ended": "a container ended",
    "leaving": "a pod was asked to leave",
    "image": "a container's image is there",
    "started": "a container's process was started",
    "probe": "a probe failed",
}


def came_and_went(came: Iterable[str], went: Iterable[str]) -> str:
    """Say in a sentence which endpoints serve now and which do no longer; `read_came_and_went` reads it. Each is `ADDRESS` or `ADDRESS POD`."""
    parts = [f"{word}: {', '.join(names)}" for word, some in (("ready now", came), ("no longer", went)) if (names := sorted(some))]
    return "; ".join(parts)


def read_came_and_went(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who came and who went by such a sentence."""
    said = dict(part.split(": ", 1) for part in text.split("; ") if ": " in part)
    came, went = (tuple(said[word].split(", ")) if word in said else () for word in ("ready now", "no longer"))
    return came, went


class Journal(Protocol):
    def note(
        self,
        room: str,
        about: str,
        text: str,
        *,
        rev: int = 0,
        cause: int = 0,
        also: tuple[int, ...] = (),
        did: str = "",
        of: str = "",
        where: str = "",
        age: float = 0.0,
        unsure: float = 0.0,
        urgent: bool = False,
    ) -> None: ...


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
        self._urgent_until = float("-inf")

    def note(
        self,
        room: str,
        about: str,
        text: str,
        *,
        rev: int = 0,
        cause: int = 0,
        also: tuple[int, ...] = (),
        did: str = "",
        of: str = "",
        where: str = "",
        age: float = 0.0,
        unsure: float = 0.0,
        urgent: bool = False,
    ) -> None:
        now = self._clock.now()
        line = Line(round(now, 6), round(self._clock.wall(), 6), room, about, text, rev, cause, also, did, of, where, age, unsure)
        self.lines.append(line)
        if self._file is None:
            return
        self._unwritten.append(line)
        if urgent:
            self._urgent_until = now + _URGENT_S
            self.write()
        elif len(self._unwritten) == 1:
            self._write_soon(0.0 if now < self._urgent_until else _GROUP_S)
        elif len(self._unwritten) == _GROUP_MAX:
            self.write()

    def _write_soon(self, delay_s: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no loop runs, so nobody would do it later
            self.write()
            return
        if delay_s:
            loop.call_later(delay_s, self.write)
        else:
            loop.call_soon(self.write)

    def since(self, t: float, at_most: int) -> list[Line]:
        """Return the lines noted at `t` or later, the oldest first; of more than `at_most` the first. Lines from before the host's last boot are left out."""
        found: list[Line] = []
        last = float("inf")
        for line in reversed(self.lines):
            if line.t < t or line.t > last:
                break
            last = line.t
            found.append(line)
        return found[: -at_most - 1 : -1]

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
    decode = msgspec.json.Decoder(ready(Line)).decode
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            yield decode(line)
