"""Third step: the smallest change from what is there to what shall be, as input of `iptables-restore --noflush`.

Who calls it: the Proxy: for one Service (desired and actual hold only that Service's part) or for a whole machine (actual is its dump).
A restore is atomic per COMMIT, so the order of tables matters: what filter gains comes first, then nat, then what filter loses. A refusal is thus there
before the last translation goes, and goes after the first translation came: no packet finds neither.

A small patch is one commit per table. A big one is cut, because iptables-nft-restore takes quadratic time (5,000 Services: 9 s of CPU in one commit, 0.5 s in
twenty): first chains that are new, which nothing jumps to yet, targets before who jumps there; then the jumps; what changes or goes is one commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from labctl.proxy.chains import BUILT_IN, Chains, Rules

LINES_AT_ONCE = 1500

Filled = tuple[str, tuple[str, ...]]
"""A chain and its lines."""


class TablePatch(msgspec.Struct, frozen=True):
    """One table's changes."""

    created: tuple[Filled, ...] = ()
    rewritten: tuple[Filled, ...] = ()
    removed: tuple[str, ...] = ()  # shared lines
    added: tuple[str, ...] = ()  # shared lines
    dropped: tuple[str, ...] = ()  # chains

    def __bool__(self) -> bool:
        return bool(self.created or self.rewritten or self.removed or self.added or self.dropped)

    def commits(self) -> Iterator[list[str]]:
        """The lines of each commit, in order."""
        created = [_filled(one) for one in sorted(self.created, key=lambda one: _RANK.get(one[0][:11], 0))]
        changed = [line for one in self.rewritten for line in _filled(one)]
        gone = [f":{chain} - [0:0]" for chain in self.dropped], [f"-X {chain}" for chain in self.dropped]
        small = sum(map(len, created)) + len(self.added) <= LINES_AT_ONCE
        if small:
            new = [line for lines in created for line in lines]
            yield [*_declarations_first([*new, *changed, *gone[0]]), *self.removed, *map(_add, self.added), *gone[1]]
            return
        for group in _groups(created):
            yield _declarations_first(group)
        for group in _groups([[_add(line)] for line in self.added]):
            yield group
        if changed or self.removed or self.dropped:
            yield [*_declarations_first([*changed, *gone[0]]), *self.removed, *gone[1]]


class Patch(msgspec.Struct, frozen=True):
    grow: TablePatch = TablePatch()  # filter
    nat: TablePatch = TablePatch()
    shrink: TablePatch = TablePatch()  # filter

    def __bool__(self) -> bool:
        return bool(self.grow or self.nat or self.shrink)

    def _steps(self) -> Iterator[tuple[str, list[str]]]:
        for name, step in (("filter", self.grow), ("nat", self.nat), ("filter", self.shrink)):
            if step:
                yield from ((name, lines) for lines in step.commits())

    @property
    def commits(self) -> int:
        return sum(1 for _ in self._steps())

    @property
    def lines(self) -> int:
        return sum(len(lines) for _, lines in self._steps())

    def text(self) -> str:
        """Input for `iptables-restore --noflush`."""
        return "".join("\n".join((f"*{name}", *lines, "COMMIT", "")) for name, lines in self._steps())


def diff(desired: Rules, actual: Rules) -> Patch:
    """Applied to `actual`, it makes `desired`."""
    filters = _changes(desired.filter, actual.filter)
    grow = TablePatch(created=filters.created, rewritten=filters.rewritten, added=filters.added)
    shrink = TablePatch(removed=filters.removed, dropped=filters.dropped)
    return Patch(grow, _changes(desired.nat, actual.nat), shrink)


def join(patches: Iterable[Patch]) -> Patch:
    """Several Services' patches as one: they name different chains and lines."""
    patches = list(patches)
    return Patch(*(_join([getattr(p, step) for p in patches]) for step in ("grow", "nat", "shrink")))


def _join(steps: Sequence[TablePatch]) -> TablePatch:
    return TablePatch(*(tuple(one for step in steps for one in getattr(step, field)) for field in TablePatch.__struct_fields__))


def _changes(desired: Chains, actual: Chains) -> TablePatch:
    want, have = Counter(desired.shared), Counter(actual.shared)
    return TablePatch(
        created=tuple(one for one in desired.owned.items() if one[0] not in actual.owned),
        rewritten=tuple(one for one in desired.owned.items() if actual.owned.get(one[0], one[1]) != one[1]),
        removed=tuple(f"-D {line}" for line in (have - want).elements()),
        added=tuple((want - have).elements()),
        dropped=tuple(chain for chain in actual.owned if chain not in desired.owned),
    )


_RANK = {"LABCTL-SEP-": 1, "LABCTL-SVC-": 2, "LABCTL-EXT-": 2}  # what is jumped to is made before what jumps there; the base first


def _filled(one: Filled) -> list[str]:
    """Made if it is not there, emptied if it is."""
    chain, lines = one
    return [f":{chain} - [0:0]", *(f"-A {chain} {line}" for line in lines)]


def _declarations_first(lines: Sequence[str]) -> list[str]:
    """A chain must be there before a rule names it."""
    return [line for line in lines if line[0] == ":"] + [line for line in lines if line[0] != ":"]


def _groups(parts: Iterable[list[str]]) -> Iterator[list[str]]:
    """Parts joined, none of them cut, to about LINES_AT_ONCE."""
    group: list[str] = []
    for part in parts:
        group += part
        if len(group) >= LINES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _add(line: str) -> str:
    """Ours come first in a built-in chain: a rule of somebody else's must not accept or refuse before us."""
    return f"{'-I' if line.partition(' ')[0] in BUILT_IN else '-A'} {line}"
