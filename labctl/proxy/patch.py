"""Third step: the smallest change from what is there to what shall be, as input of `iptables-restore --noflush`.

Who calls it: the Proxy: for one Service (desired and actual hold only that Service's part) or for a whole machine (actual is its dump).
A restore is atomic per table, so the order of tables matters: what filter gains comes first, then nat, then what filter loses. A refusal is thus there
before the last translation goes, and goes after the first translation came: no packet finds neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from labctl.proxy.chains import BUILT_IN, Chains, Rules


class TablePatch(msgspec.Struct, frozen=True):
    """Lines of one restore, in order: chains made or emptied, shared lines gone, lines added, chains gone."""

    declared: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()  # chains

    def __bool__(self) -> bool:
        return bool(self.declared or self.removed or self.added or self.dropped)

    def lines(self) -> list[str]:
        return [
            *(f":{chain} - [0:0]" for chain in (*self.declared, *self.dropped)),
            *self.removed,
            *self.added,
            *(f"-X {chain}" for chain in self.dropped),
        ]


class Patch(msgspec.Struct, frozen=True):
    grow: TablePatch = TablePatch()  # filter
    nat: TablePatch = TablePatch()
    shrink: TablePatch = TablePatch()  # filter

    def __bool__(self) -> bool:
        return bool(self.grow or self.nat or self.shrink)

    def _steps(self) -> list[tuple[str, TablePatch]]:
        return [(name, step) for name, step in (("filter", self.grow), ("nat", self.nat), ("filter", self.shrink)) if step]

    @property
    def commits(self) -> int:
        return len(self._steps())

    def text(self) -> str:
        """Input for `iptables-restore --noflush`."""
        return "".join("\n".join((f"*{name}", *step.lines(), "COMMIT", "")) for name, step in self._steps())


def diff(desired: Rules, actual: Rules) -> Patch:
    """Applied to `actual`, it makes `desired`; the same patch applied again is refused or changes nothing else."""
    filters = _changes(desired.filter, actual.filter)
    grow = TablePatch(declared=filters.declared, added=filters.added)
    shrink = TablePatch(removed=filters.removed, dropped=filters.dropped)
    return Patch(grow, _changes(desired.nat, actual.nat), shrink)


def join(patches: Iterable[Patch]) -> Patch:
    """Several Services' patches as one: they name different chains and lines."""
    patches = list(patches)
    return Patch(*(_join(getattr(p, step) for p in patches) for step in ("grow", "nat", "shrink")))


def _join(steps: Iterable[TablePatch]) -> TablePatch:
    steps = list(steps)
    return TablePatch(*(tuple(line for s in steps for line in getattr(s, field)) for field in TablePatch.__struct_fields__))


def _changes(desired: Chains, actual: Chains) -> TablePatch:
    rewritten = [chain for chain, lines in desired.owned.items() if actual.owned.get(chain) != lines]
    dropped = [chain for chain in actual.owned if chain not in desired.owned]
    want, have = Counter(desired.shared), Counter(actual.shared)
    return TablePatch(
        declared=tuple(rewritten),
        removed=tuple(f"-D {line}" for line in (have - want).elements()),
        added=tuple(
            [_add(line) for line in (want - have).elements()]
            + [f"-A {chain} {line}" for chain in rewritten for line in desired.owned[chain]]
        ),
        dropped=tuple(dropped),
    )


def _add(line: str) -> str:
    """Ours come first in a built-in chain: a rule of somebody else's must not accept or refuse before us."""
    return f"{'-I' if line.partition(' ')[0] in BUILT_IN else '-A'} {line}"
