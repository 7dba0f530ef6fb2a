"""What is handed out once in a lab: virtual IPs and node ports. Each taken one is a key in the store beside the object that holds it.

    claims/ip/10.247.3.17      claims/nodeport/30080

Key and object are made and removed in one commit (verbs/allocation.py), so there is no lock, and nothing to repair after a crash.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Protocol

CLAIMS = "claims/"


def ip_claim(address: str) -> str:
    return f"{CLAIMS}ip/{address}"


def port_claim(port: int) -> str:
    """One Service has a node port for all its protocols (DNS listens on both): the claim is the number's."""
    return f"{CLAIMS}nodeport/{port}"


class Ranges(Protocol):
    """What a kind's `allocate` is handed."""

    @property
    def network(self) -> IPv4Network:
        """Where virtual IPs come from."""

    @property
    def ports(self) -> range:
        """Where node ports come from."""

    def address(self, wanted: str = "") -> str | None:
        """A free virtual IP, or the wanted one; None if there is none, or it is another's."""

    def port(self, wanted: int = 0) -> int | None:
        """A free node port, or the wanted one; None if there is none, or it is another's."""
