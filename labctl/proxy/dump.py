"""A machine's rules as it says them: `iptables-save -c`, with counters. Whoever is root there writes that text, so nothing in it is trusted.

`labctl trace` reads it. A line that is not understood (other programs have rules, too) is remembered and passed over; size and work are bounded.
"""

from __future__ import annotations

import re

import msgspec

from labctl.errors import LabctlError
from labctl.proxy.matches import Line, Unknown
from labctl.proxy.tracer import Tables

BYTES_MAX = 32 << 20
LINE_MAX = 4_096
UNREAD_MAX = 20  # lines that are told
WORK_MAX = 2_000_000  # lines that one trace may look at
_COUNTED = re.compile(r"\[(\d{1,20}):(\d{1,20})\] (-A .*)")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Counter(msgspec.Struct, frozen=True):
    """How often a rule was hit. In the table nat that is once for each connection, because only first packets pass it."""

    packets: int = 0
    bytes: int = 0


class Dump(Tables):
    """The tables of one machine. `plain` is the same text without counters, as the proxy compares it."""

    def __init__(self, text: str) -> None:
        if len(text) > BYTES_MAX:
            raise LabctlError(f"the machine's rules are longer than {BYTES_MAX >> 20} MiB")
        self.unread: dict[str, str] = {}  # a line -> what of it is not understood
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._lines: dict[tuple[str, str], list[Line]] = {}
        self._work = 0
        chains: dict[str, dict[str, list[str]]] = {}
        policies: dict[tuple[str, str], str] = {}
        kept: list[str] = []
        table = ""
        for line in text.splitlines():
            counted = _COUNTED.fullmatch(line) if len(line) <= LINE_MAX else None
            plain = counted[3] if counted else line
            if plain.startswith("*") and _NAME.fullmatch(plain[1:]):
                table = plain[1:]
                chains.setdefault(table, {})
            elif not table or not self._take(plain, counted, table, chains[table], policies):
                continue
            kept.append(plain)
        super().__init__(chains, policies)
        self.plain = "\n".join(kept) + "\n"

    def _take(
        self, line: str, counted: re.Match[str] | None, table: str, chains: dict[str, list[str]], policies: dict[tuple[str, str], str]
    ) -> bool:
        """Take one line of a table in. False if it is neither a chain nor a rule."""
        words = line.split(" ", 2)
        if line.startswith(":") and len(words) > 1 and _NAME.fullmatch(words[0][1:]):
            chains.setdefault(words[0][1:], [])
            policies[table, words[0][1:]] = words[1]
            return True
        if line.startswith("-A ") and len(line) <= LINE_MAX and len(words) > 1 and _NAME.fullmatch(words[1]):
            rest = words[2] if len(words) > 2 else ""
            chains.setdefault(words[1], []).append(rest)
            if counted:
                before = self._counters.get((table, words[1], rest), Counter())
                self._counters[table, words[1], rest] = Counter(before.packets + int(counted[1]), before.bytes + int(counted[2]))
            return True
        return line == "COMMIT"

    def counter(self, table: str, chain: str, rule: str) -> Counter:
        return self._counters.get((table, chain, rule), Counter())

    def lines(self, table: str, chain: str) -> list[Line]:
        """Return the lines of a chain that can be understood. Raises LabctlError if a trace looks at more lines than any real rules need."""
        found = self._lines.get((table, chain))
        if found is None:
            found = self._lines[table, chain] = [line for text in self.texts(table, chain) if (line := self._read(text)) is not None]
        self._work += len(found) + 1
        if self._work > WORK_MAX:
            raise LabctlError("the machine's rules lead through more lines than can be followed")
        return found

    def _read(self, text: str) -> Line | None:
        from labctl.proxy.matches import read

        try:
            return read(text)
        except Unknown as error:
            why = str(error).partition(" in ")[0]
        except (ValueError, StopIteration, RuntimeError):
            why = "it is no rule"
        if len(self.unread) < UNREAD_MAX:
            self.unread[text] = why
        return None
