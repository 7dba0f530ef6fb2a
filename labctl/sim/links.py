"""The network of a simulated lab: who can reach whom. `master` is one of the names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

MASTER = "master"


class Links:
    """Links between the master and the minions. All are open at first; `changed` is called after each change."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._cut: set[frozenset[str]] = set()
        self._alone: set[str] = set()

    def open(self, one: str, other: str) -> bool:
        return not {one, other} & self._alone and frozenset((one, other)) not in self._cut

    def cut(self, name: str) -> None:
        """Pull a machine's cable: it reaches nobody."""
        self._alone.add(name)
        self._changed()

    def restore(self, name: str) -> None:
        self._alone.discard(name)
        self._changed()

    def cut_between(self, ones: Iterable[str], others: Iterable[str]) -> None:
        """Part two groups: within each group everybody reaches everybody."""
        others = list(others)
        self._cut |= {frozenset((one, other)) for one in ones for other in others if one != other}
        self._changed()

    def heal(self) -> None:
        """Open every link again."""
        self._cut.clear()
        self._alone.clear()
        self._changed()
