"""Addresses of IPv4, as texts: what is one, and in which order they stand. Each write of a Service's endpoints, and each compiling of its rules, asks for all of them.

The C library answers in a fraction of a microsecond where Python's `ipaddress` takes several, so no answer is remembered. A memory of N answers that is asked
for more than N addresses, one after the other, knows none of them; then each change of a Service cost more in a large lab than in a small one.
"""

from __future__ import annotations

from ipaddress import ip_address
from socket import AF_INET, inet_pton

_APART = frozenset((0, 127, 169))
"""The first byte of addresses of which some mean this machine, or this link. From 224 on they are multicast or reserved."""


def ipv4(text: str) -> bytes | None:
    """Return the four bytes of an address of IPv4, or None if the text is none, in the form that `ipaddress` takes: four decimal numbers without leading zeros."""
    try:
        return inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return None


def is_ipv4(text: str) -> bool:
    return ipv4(text) is not None


def is_ordinary_ipv4(text: str) -> bool:
    """Tell whether it is an address of IPv4 far from all that have a meaning of their own. False proves nothing: then the exact rules decide."""
    packed = ipv4(text)
    return packed is not None and packed[0] < 224 and packed[0] not in _APART


def in_order(text: str) -> bytes:
    """Return what addresses are sorted by: their bytes. Raises ValueError if it is no address, of IPv4 or IPv6."""
    return ipv4(text) or ip_address(text).packed
