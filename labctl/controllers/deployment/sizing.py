"""How many pods each ReplicaSet of a Deployment gets: arithmetic only, on frozen values, in Kubernetes' order and with its rounding.

`Sized` is one ReplicaSet as numbers. Every function returns the new sizes by name, but only those that change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from labctl.resources.shares import share


class Sized(NamedTuple):
    """One ReplicaSet: wanted pods, available pods, and the most pods that its Deployment allowed when it was last scaled (None if not
    written on it).
    """

    name: str
    replicas: int
    available: int = 0
    max_before: int | None = None


Sizes = dict[str, int]


def fenceposts(max_surge: int | str, max_unavailable: int | str, replicas: int) -> tuple[int, int]:
    """Return how many pods more than wanted, and how many unavailable ones, a rolling update allows.

    If both were zero the update could never proceed, so then one may be unavailable.
    """
    surge, unavailable = share(max_surge, replicas), share(max_unavailable, replicas, up=False)
    return surge, min(unavailable or int(surge == 0), replicas)


def size_of_new(wanted: int, new: int, total: int, surge: int | None) -> int:
    """Return the size that the new ReplicaSet may have now.

    `total` counts the wanted pods of all sets; without `surge`, all are made at once (Recreate).
    """
    if surge is None or new > wanted:
        return wanted
    room = wanted + surge - total
    return new if room <= 0 else new + min(room, wanted - new)


def shrunk(old: Sequence[Sized], new: Sized | None, wanted: int, unavailable: int) -> Sizes:
    """Return how old sets shrink during a rolling update, the oldest first: first unavailable pods, then as many as the minimum allows."""
    minimum = wanted - unavailable
    waiting = new.replicas - new.available if new else 0
    total = sum(each.replicas for each in old) + (new.replicas if new else 0)
    may_go = total - minimum - waiting
    if may_go <= 0:
        return {}
    sizes = _without_unhealthy(old, may_go)
    spare = sum(each.available for each in old) + (new.available if new else 0) - minimum
    for each in old:
        size = sizes.get(each.name, each.replicas)
        gone = min(size, spare)
        if gone > 0:
            sizes[each.name] = size - gone
            spare -= gone
    return sizes


def _without_unhealthy(old: Sequence[Sized], most: int) -> Sizes:
    sizes: Sizes = {}
    for each in old:
        gone = min(most, each.replicas - each.available)
        if gone > 0:
            sizes[each.name] = each.replicas - gone
            most -= gone
    return sizes


def in_proportion(sets: Sequence[Sized], wanted: int, surge: int, status_replicas: int) -> Sizes:
    """Spread the difference over the active sets by their sizes, when a Deployment is scaled while it rolls. The first gets what rounding
    leaves.

    `sets` are in Kubernetes' order: bigger first, then newer first when growing and older first when shrinking.
    """
    allowed = wanted + surge if wanted > 0 else 0
    to_add = allowed - sum(each.replicas for each in sets)
    if to_add == 0:
        return {}
    sizes: Sizes = {}
    added = 0
    for each in sets:
        share = _fraction(each, wanted, surge, status_replicas)
        left = to_add - added
        change = min(share, left) if to_add > 0 else max(share, left)
        sizes[each.name] = each.replicas + (change if each.replicas else 0)
        added += sizes[each.name] - each.replicas
    if sets:
        first = sets[0]
        sizes[first.name] = max(0, sizes[first.name] + to_add - added)
    return {each.name: sizes[each.name] for each in sets if sizes[each.name] != each.replicas}


def _fraction(each: Sized, wanted: int, surge: int, status_replicas: int) -> int:
    if wanted == 0:
        return -each.replicas
    before = each.max_before or status_replicas or each.replicas
    return _rounded(each.replicas * (wanted + surge) / before) - each.replicas if before else 0


def _rounded(value: float) -> int:
    """Round half away from zero, as Go does."""
    return math.floor(value + 0.5)
