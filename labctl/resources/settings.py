"""The settings of the resources room: ranges of addresses and ports, and bounds."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class ResourceSettings:
    service_range: str = defaults.SERVICE_RANGE
    dns_address: str = "10.247.0.10"  # kept free for a DNS Service that asks for it by address
    node_port_first: int = 30000
    node_port_last: int = 32767
    write_attempts: int = 16  # tries of a patch or an unconditional update that meets other writers
    object_bytes: int = 3 << 20  # of a stored object, which patches and appended lists could make larger than any one request's body
    warnings: int = 10  # Warning headers of one answer, at most
    bookmark_s: float = 60.0  # a watch with bookmarks says where it is this often, though nothing happened
    events_pending: int = 5_000  # Events waiting to be written, at most; the oldest are dropped
