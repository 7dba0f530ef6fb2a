"""What the store needs to know."""

from __future__ import annotations

import msgspec


class StoreSettings(msgspec.Struct, frozen=True):
    group: int = 512  # commits made durable by one fsync, at most
    lazy_s: float = 0.1  # how long a lazy commit waits for company
    watch_backlog: int = 10_000  # revisions a watcher may be behind before it is closed
    floor: int = 0  # the highest revision ever given, where the disk may know less (a restored store)
    history_bytes: int = 32 << 20  # how much history is held in memory, however new it is
