"""What the runner must know of those that follow the store: the indexes they need, and which of them a change of a kind concerns.

Who calls it: the runner, once when it is made, and the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from labctl.reconcile.plan import EVERY, Controller, Follower, Index, Key, Seen


def indexes_of(followers: Iterable[Follower]) -> dict[tuple[str, str], Index]:
    """Return all indexes of all followers. Two functions of one name are a mistake in the program."""
    indexes: dict[tuple[str, str], Index] = {}
    for follower in followers:
        for name, function in follower.indexes.items():
            assert indexes.setdefault(name, function) is function, f"{follower.name}: index {name} is somebody else's"
    return indexes


def watches_of(controllers: Sequence[Controller]) -> Mapping[str, list[tuple[int, Callable[[Any, Seen], Iterable[Key]]]]]:
    """Return for each kind the controllers that watch it, by number. EVERY has those that watch the kinds that nobody names."""
    named = [kind for controller in controllers for kind in controller.watches]
    watches: dict[str, list[tuple[int, Callable[[Any, Seen], Iterable[Key]]]]] = {kind: [] for kind in (*named, EVERY)}
    for number, controller in enumerate(controllers):
        for kind, concerned in watches.items():
            keys = controller.watches.get(kind) or controller.watches.get(EVERY)
            if keys is not None:
                concerned.append((number, keys))
    return watches
