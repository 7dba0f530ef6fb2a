"""Which address a pod gets: the node's range, used round-robin, so that an address that was just freed rests as long as it can.

The last one given is kept on disk; which are taken is what the sandboxes on the machine say.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Collection

from .runtime.records import read_json, write_json


class NoAddress(Exception):
    """The node has no pod range yet, or every address of it is taken."""


def next_address(cidr: str, last: str, taken: Collection[str]) -> str:
    """Return the first free address after `last`. The range's first two (network, its .1) and its last are never given."""
    network = ipaddress.ip_network(cidr)
    low, high = int(network.network_address) + 2, int(network.broadcast_address) - 1
    try:
        start = int(ipaddress.ip_address(last)) + 1
    except ValueError:
        start = low
    if not low <= start <= high:
        start = low
    for candidate in (*range(start, high + 1), *range(low, start)):
        address = str(ipaddress.ip_address(candidate))
        if address not in taken:
            return address
    raise NoAddress(f"every address of {cidr} is taken")


class Range:
    """The node's pod range, once the API has told it; remembered for an agent that starts while the API is away."""

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, "range.json")
        kept = read_json(self._path) or {}
        self.cidr: str = kept.get("cidr", "")
        self._last: str = kept.get("last", "")

    def set(self, cidr: str) -> None:
        if cidr != self.cidr:
            self.cidr = cidr
            self._save()

    def give(self, taken: Collection[str]) -> str:
        if not self.cidr:
            raise NoAddress("the node has no podCIDR yet")
        self._last = next_address(self.cidr, self._last, taken)
        self._save()
        return self._last

    def _save(self) -> None:
        write_json(self._path, {"cidr": self.cidr, "last": self._last})
