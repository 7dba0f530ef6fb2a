"""Third step: the smallest change from what is there to what shall be, as input of `iptables-restore --noflush`.

Who calls it: the Proxy: for one Service (desired and actual hold only that Service's part) or for a whole machine (actual is its dump).
A restore is atomic per COMMIT, so the order of tables matters: what filter gains comes first, then nat, then what filter loses. A refusal is thus there
before the last translation goes, and goes after the first translation came: no packet finds neither.

A small patch is one commit per table. A big one is cut, because iptables-nft-restore takes quadratic time (5,000 Services: 8 s of CPU in one commit, 0.4 s in
twenty): first chains that are new, which nothing jumps to yet, targets before who jumps there; then the jumps; then what changes; then chains that go.
Legacy iptables copies the whole table for each commit, so there a patch is never cut.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from labctl.proxy.chains import BUILT_IN, Chains, Rules

LINES_AT_ONCE = 1500
NEVER_CUT = sys.maxsize

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

    def commits(self, at_once: int) -> Iterator[list[str]]:
        """Yield the lines of each commit, in order, with about `at_once` lines at most."""
        created = [_filled(one) for one in sorted(self.created, key=_rank)]
        dropped = [(chain, ()) for chain in self.dropped]
        changed = [line for one in self.rewritten for line in _filled(one)]
        if sum(map(len, created)) + len(self.added) + len(dropped) + len(self.removed) <= at_once:
            new = [line for lines in created for line in lines]
            emptied = [line for one in dropped for line in _filled(one)]
            yield [*_declarations_first([*new, *changed, *emptied]), *self.removed, *map(_add, self.added), *map(_drop, self.dropped)]
            return
        yield from map(_declarations_first, _groups(created, at_once))
        yield from _groups([[_add(line)] for line in self.added], at_once)
        if changed or self.removed:
            yield [*_declarations_first(changed), *self.removed]
        for _, same_rank in groupby(sorted(self.dropped, key=_rank_of, reverse=True), key=_rank_of):
            for group in _groups([[chain] for chain in same_rank], at_once):
                yield [*(line for chain in group for line in _filled((chain, ()))), *map(_drop, group)]


class Patch(msgspec.Struct, frozen=True):
    grow: TablePatch = TablePatch()  # filter
    nat: TablePatch = TablePatch()
    shrink: TablePatch = TablePatch()  # filter

    def __bool__(self) -> bool:
        return bool(self.grow or self.nat or self.shrink)

    def commits(self, at_once: int = LINES_AT_ONCE) -> list[str]:
        """Return texts for `iptables-restore --noflush`, to be applied in order. Each is applied as a whole or not at all."""
        steps = (("filter", self.grow), ("nat", self.nat), ("filter", self.shrink))
        return ["\n".join((f"*{name}", *lines, "COMMIT", "")) for name, step in steps if step for lines in step.commits(at_once)]

    def text(self) -> str:
        return "".join(self.commits())


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


_RANK = {
    "LABCTL-SEP-": 1,
    "LABCTL-SVC-": 2,
    "LABCTL-ALL-": 2,
    "LABCTL-HPT-": 2,
    "LABCTL-NPI-": 1,
    "LABCTL-NPE-": 1,
    "LABCTL-NPF-": 2,
    "LABCTL-EXT-": 3,
}  # a chain is made before those that jump to it; the base first


def _rank_of(chain: str) -> int:
    return _RANK.get(chain[:11], 0)


def _rank(one: Filled) -> int:
    return _rank_of(one[0])


def _drop(chain: str) -> str:
    return f"-X {chain}"


def _filled(one: Filled) -> list[str]:
    """Made if it is not there, emptied if it is."""
    chain, lines = one
    return [f":{chain} - [0:0]", *(f"-A {chain} {line}" for line in lines)]


def _declarations_first(lines: Sequence[str]) -> list[str]:
    """Sort the lines, because a chain must exist before a rule names it."""
    return [line for line in lines if line[0] == ":"] + [line for line in lines if line[0] != ":"]


def _groups(parts: Iterable[list[str]], at_once: int) -> Iterator[list[str]]:
    """Parts joined, none of them cut, to about `at_once` lines."""
    group: list[str] = []
    for part in parts:
        group += part
        if len(group) >= at_once:
            yield group
            group = []
    if group:
        yield group


def _add(line: str) -> str:
    """Ours come first in a built-in chain: a rule of somebody else's must not accept or refuse before us."""
    return f"{'-I' if line.partition(' ')[0] in BUILT_IN else '-A'} {line}"
