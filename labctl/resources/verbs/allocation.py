"""This module allocates addresses and ports, which are claim keys in the store. It chooses at random, so that a freed address is not reused at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from labctl.resources.claims import ip_claim, port_claim
from labctl.resources.verbs.context import Context

T = TypeVar("T")
_GUESSES = 64  # a random guess is nearly always free; if so many fail, the range is nearly full and is searched in order


@lru_cache
def _network(cidr: str) -> IPv4Network:
    return IPv4Network(cidr)


class StoreRanges:
    """Allocates for one write. `held` are the claims that the object itself has already; they count as free."""

    def __init__(self, ctx: Context, held: set[str]) -> None:
        self._ctx = ctx
        self._held = held
        self._given: set[str] = set()

    @property
    def network(self) -> IPv4Network:
        return _network(self._ctx.settings.service_range)

    @property
    def ports(self) -> range:
        return range(self._ctx.settings.node_port_first, self._ctx.settings.node_port_last + 1)

    def address(self, wanted: str = "") -> str | None:
        if wanted:
            return wanted if self._take(ip_claim(wanted)) else None
        network = self.network
        reserved = {str(network[1]), self._ctx.settings.dns_address}  # only for Services that ask for them by address

        def free(number: int) -> str | None:
            text = str(IPv4Address(number))
            return text if text not in reserved and self._take(ip_claim(text)) else None

        return self._search(int(network[1]), int(network[-2]), free)

    def port(self, wanted: int = 0) -> int | None:
        if wanted:
            return wanted if port_claim(wanted) in self._given or self._take(port_claim(wanted)) else None
        ports = self.ports
        return self._search(ports[0], ports[-1], lambda number: number if self._take(port_claim(number)) else None)

    def _take(self, claim: str) -> bool:
        if claim in self._given or (claim not in self._held and self._ctx.store.get(claim) is not None):
            return False
        self._given.add(claim)
        return True

    def _search(self, first: int, last: int, free: Callable[[int], T | None]) -> T | None:
        for _ in range(_GUESSES):
            found = free(self._ctx.rng.randint(first, last))
            if found is not None:
                return found
        return next((found for number in range(first, last + 1) if (found := free(number)) is not None), None)
