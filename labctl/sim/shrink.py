"""Makes a failing run smaller before it is shown: fewer deeds, fewer nodes, as long as it still fails.

The deeds are removed in pieces, big ones first (delta debugging, Zeller and Hildebrandt 2002). Everything is deterministic: the same failing run becomes the
same small one. Each try plays a whole run, so their number is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from labctl.sim.script import Case

TRIES_MAX = 300


class Shrinker:
    """`fails(case)` plays a run and says whether it goes wrong."""

    def __init__(self, fails: Callable[[Case], bool], tries: int = TRIES_MAX) -> None:
        self._fails = fails
        self._left = tries

    def smaller(self, case: Case) -> Case:
        """Return the smallest run that was found to fail; the same one if nothing can be left out."""
        before = None
        while before != case and self._left > 0:
            before = case
            case = self._fewer_nodes(self._fewer_deeds(case))
        return case

    def _fewer_deeds(self, case: Case) -> Case:
        size = max(1, len(case.deeds) // 2)
        while size and self._left > 0:
            at = 0
            while at < len(case.deeds) and self._left > 0:
                shorter = msgspec.structs.replace(case, deeds=case.deeds[:at] + case.deeds[at + size :])
                if self._try(shorter):
                    case = shorter
                else:
                    at += size
            size //= 2
        return case

    def _fewer_nodes(self, case: Case) -> Case:
        for nodes in range(1, case.nodes):
            fewer = msgspec.structs.replace(case, nodes=nodes)
            if self._left > 0 and self._try(fewer):
                return fewer
        return case

    def _try(self, case: Case) -> bool:
        self._left -= 1
        return self._fails(case)
