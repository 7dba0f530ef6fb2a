"""Which texts are addresses that rules may hold. One that is none, or of IPv6, would have a minion's iptables refuse all that it was given with it."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address


@lru_cache(maxsize=65_536)
def is_ipv4(text: str) -> bool:
    """Tell whether the text is an address of IPv4."""
    try:
        IPv4Address(text)
    except (AddressValueError, ValueError):
        return False
    return True
