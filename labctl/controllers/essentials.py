"""Essentials: what every lab has from the start (resources/bootstrap.py) is made again when somebody deletes it.

`kubectl delete all --all` also deletes Service `kubernetes`, and without its virtual IP no pod finds the API. Keys are the object's
`RESOURCE/KEY`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from labctl.reconcile.plan import NOTHING, Create, Index, Key, Plan, Seen, View
from labctl.resources.bootstrap import Essential


class Essentials:
    """The controller that the module's docstring describes."""

    name = "essentials"
    kind = "essentials"

    def __init__(self, wanted: Iterable[Essential]) -> None:
        self._wanted = {f"{essential.resource}/{essential.key}": essential for essential in wanted}
        self.watches = {essential.resource: self._lost for essential in self._wanted.values()}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        essential = self._wanted[key]
        if view.get(essential.resource, essential.key) is not None:
            return NOTHING
        return Plan([Create(essential.resource, essential.object, why="made again: every lab has it")])

    def _lost(self, _view: View, seen: Seen) -> Iterable[Key]:
        key = f"{seen.kind}/{seen.key}"
        return (key,) if seen.new is None and key in self._wanted else ()
