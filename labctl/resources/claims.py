"""A claim is a key in the store that reserves a virtual IP or a node port, so that no two objects of a lab can have the same one.

    claims/ip/10.247.3.17      claims/nodeport/30080

The claim and the object that holds it are created and removed in one commit (verbs/allocation.py), so there is no lock, and nothing to repair after a crash.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Protocol

CLAIMS = "claims/"


def ip_claim(address: str) -> str:
    return f"{CLAIMS}ip/{address}"


def port_claim(port: int) -> str:
    """Returns the key of a node port. It names only the number, because a Service may use the same port for several protocols (DNS uses both)."""
    return f"{CLAIMS}nodeport/{port}"


class Ranges(Protocol):
    """The ranges from which a kind's `allocate` takes addresses and ports."""

    @property
    def network(self) -> IPv4Network:
        """Return the range of virtual IPs."""

    @property
    def ports(self) -> range:
        """Return the range of node ports."""

    def address(self, wanted: str = "") -> str | None:
        """Returns a free virtual IP, or the wanted one; None if none is free, or if another object has the wanted one."""

    def port(self, wanted: int = 0) -> int | None:
        """Returns a free node port, or the wanted one; None if none is free, or if another object has the wanted one."""
