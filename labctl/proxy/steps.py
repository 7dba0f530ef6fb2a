"""Steps: from the rules that a minion had for one key to those that it gets, and what that means for it.

The minions' workers ask (minion.py, flows.py). Machines that differ only in what a Service's rules don't depend on share one value of them (rules.py), so
most minions take the same step. What was worked out for one of them is remembered for the others: a change of one Service costs its difference once, however
many minions there are, and each of them the sending of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from labctl.proxy.chains import Chains, Rules, destinations
from labctl.proxy.patch import Patch, diff

REMEMBERED = 256
"""Minions work one after the other, each through all that changed meanwhile; each step may hold the rules of a large Service, tens of kilobytes."""
Endpoint = tuple[str, int]
"""An address and a port."""


class Step:
    """What lies between two values of rules. Each answer is worked out when somebody asks for it first."""

    def __init__(self, had: Rules, has: Rules) -> None:
        self.had, self.has = had, has

    @cached_property
    def patch(self) -> Patch:
        """Return the smallest change that makes the one of the other."""
        return diff(self.has, self.had)

    @cached_property
    def came(self) -> frozenset[Endpoint]:
        """Return the TCP endpoints in chains that came or changed. A large Service changes a chain or two of its hundreds: only those are read."""
        return _endpoints(_other(self.has, self.had))

    @cached_property
    def went(self) -> frozenset[Endpoint]:
        """Return the TCP endpoints in chains that went or changed, without those that came."""
        return _endpoints(_other(self.had, self.has)) - self.came

    @cached_property
    def serving(self) -> frozenset[Endpoint]:
        """Return all TCP endpoints that are there now."""
        return _endpoints(self.has)


_steps: dict[tuple[int, int], Step] = {}


def step(had: Rules, has: Rules) -> Step:
    """Return the step between two values that many minions share. It holds both, so no other value has the identity of one of them meanwhile."""
    known = _steps.get((id(had), id(has)))
    if known is None:
        known = _steps[id(had), id(has)] = Step(had, has)
        if len(_steps) > REMEMBERED:
            del _steps[next(iter(_steps))]
    return known


def moved(steps: Iterable[Step]) -> tuple[frozenset[Endpoint], frozenset[Endpoint]]:
    """Return the TCP endpoints that went, all steps together, and those in chains that came or changed."""
    steps = list(steps)
    came = frozenset[Endpoint]().union(*(each.came for each in steps))
    went = frozenset[Endpoint]().union(*(each.went for each in steps)) - came
    return went.difference(*(each.serving for each in steps)) if went else went, came


def _other(rules: Rules, than: Rules) -> Rules:
    """Those of the chains that are not the same in the other rules."""
    owned = than.nat.owned
    return Rules(Chains({chain: lines for chain, lines in rules.nat.owned.items() if owned.get(chain) != lines}))


def _endpoints(rules: Rules) -> frozenset[Endpoint]:
    return frozenset((address, port) for protocol, address, port in destinations(rules) if protocol == "tcp")
