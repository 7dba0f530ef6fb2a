"""What can be set about providers. Composed by `lab/settings.py`; units are in the names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NamespaceSettings:
    """The embedded provider's. `suite` and `mirror` go to mmdebstrap; an empty mirror is apt's default for that suite."""

    network: str = "10.245.1.0/24"
    mtu_bytes: int = 1500
    suite: str = "bookworm"
    mirror: str = ""
    boot_deadline_s: float = 20.0
    kill_deadline_s: float = 10.0
    rescan_s: float = 1.0  # how soon a machine that another process started is noticed
