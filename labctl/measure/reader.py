"""Reads what the load program on one machine says, line by line, and keeps its requests.

The machine may be a victim, and hostile: every line is bounded and checked, and the first that the load program would not have said ends the belief in this source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from labctl.decoding import from_json
from labctl.measure.clocks import ClockComparison
from labctl.measure.records import NEVER_S, OUTCOMES, Outcome, Request, Source

_MAX_LINE_BYTES = 8192
_MAX_NAMES = 4096
_LATE_S, _LATE_SHARE = 0.005, 0.01  # a source kept up if at most this share of its requests began this much late
_LETTERS: dict[str, Outcome] = {
    "n": "unsent", "o": "ok", "f": "refused", "t": "timeout", "e": "reset", "u": "unreachable", "s": "bad-status", "b": "bad-answer",
}  # fmt: skip
assert set(_LETTERS.values()) == set(OUTCOMES)
_WHO = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}\Z")
_MAX_US = 10**11


class Facts(msgspec.Struct, frozen=True):
    """What the program says first about where it runs."""

    time: str  # the namespace of its clocks
    in_flight: int


class State(msgspec.Struct, frozen=True):
    """How the program fares: its share of a core since the beginning, and its own trouble."""

    cpu: float = 0.0
    trouble: str = ""


class Record(NamedTuple):
    """One request as it was reported. Times are microseconds since it was intended; -1 is never."""

    number: int
    started: int
    connected: int
    first: int
    ended: int
    outcome: Outcome
    status: int
    who: int


class BadLine(ValueError):
    """The load program does not say such a line."""


class SourceReader:
    """Everything that one source has said. `clock_answered(text, there_s)` is called for an answer to `clock`."""

    def __init__(self, count: int, clock_answered: Callable[[str, float], None]) -> None:
        self.facts: Facts | None = None
        self.state = State()
        self.records: list[Record] = []
        self.names = [""]
        self.ended = False
        self.refusal = ""  # the program can't do what was asked
        self._seen = bytearray(count)
        self._clock_answered = clock_answered
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes what was read. Raises BadLine."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            raise BadLine("a line without end")
        for line in lines:
            try:
                self._line(line.decode("ascii"))
            except (ValueError, IndexError, KeyError, msgspec.MsgspecError) as error:
                raise BadLine(f"{line[:60]!r} ({str(error)[:100]})") from None

    def _line(self, line: str) -> None:
        word, _, value = line.partition(" ")
        if word == "r":
            self._record(value.split())
        elif word == "c":
            text, _, there = value.partition(" ")
            if not 0 <= float(there) < 1e10:
                raise ValueError("no time")
            self._clock_answered(text, float(there))
        elif word == "w":
            self._name(*value.split())
        elif word in ("s", "e"):
            self.state = from_json(value, State)
            self.ended = self.ended or word == "e"
        elif word == "h":
            self.facts = from_json(value, Facts)
        elif word == "x":
            self.refusal = value[:300] or "no reason given"
        else:
            raise ValueError("no such word")

    def _record(self, words: list[str]) -> None:
        number, started, connected, first, ended = map(int, words[:5])
        status, who = map(int, words[6:])
        record = Record(number, started, connected, first, ended, _LETTERS[words[5]], status, who)
        reached = [each for each in record[1:5] if each >= 0]
        if number < 0 or self._seen[number]:
            raise ValueError("reported twice")
        if ended < 0 or reached != sorted(reached) or ended > _MAX_US or not 0 <= status <= 999 or not 0 <= who < len(self.names):
            raise ValueError("impossible")
        self._seen[number] = 1
        self.records.append(record)

    def _name(self, number: str, text: str) -> None:
        if int(number) != len(self.names) or len(self.names) > _MAX_NAMES or not _WHO.match(text):
            raise ValueError("no name")
        self.names.append(text)


def requests(
    name: str, reader: SourceReader, begin_there_s: float, rate: float, clock: ClockComparison, pod_of: Callable[[str, float], str]
) -> Iterator[Request]:
    """Yields the source's requests by the master's host's clock. `pod_of(who, at_s)` is the pod that had an address, or has that name."""
    for record in sorted(reader.records):
        there_s = begin_there_s + record.number / rate
        zero = there_s + clock.offset_s(there_s)
        started_s, connected_s, first_s, ended_s = (round(zero + us / 1e6, 6) if us >= 0 else NEVER_S for us in record[1:5])
        pod = pod_of(reader.names[record.who], zero) if record.who else ""
        answered = record.first >= 0
        yield Request(
            name,
            round(zero, 6),
            record.outcome,
            started_s,
            connected_s,
            first_s,
            ended_s,
            status=record.status,
            answered_by=pod if answered else "",
            sent_to="" if answered else pod,
        )


def summarized(name: str, reader: SourceReader, begin_there_s: float, clock: ClockComparison, trouble: str) -> Source:
    """Returns the source with what it says about itself."""
    unsent = sum(record.outcome == "unsent" for record in reader.records)
    late = sum(record.started > _LATE_S * 1e6 for record in reader.records)
    sent = len(reader.records) - unsent
    kept_up = not unsent and late <= _LATE_SHARE * sent
    said = [trouble, reader.state.trouble[:200]]
    if not kept_up:
        said.append(
            f"{late} of {sent} requests began more than {_LATE_S * 1000:.0f} ms late; its share of a core was {reader.state.cpu:.0%}"
        )
    return Source(
        name,
        round(clock.offset_s(begin_there_s), 7),
        round(clock.uncertainty_s, 7),
        kept_up,
        round(max(0.0, reader.state.cpu), 4),
        sent,
        unsent,
        "; ".join(each for each in said if each)[:500],
    )
