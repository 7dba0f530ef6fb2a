"""Bounds and times of the store."""

from __future__ import annotations

import msgspec


class StoreSettings(msgspec.Struct, frozen=True):
    group_max: int = 512  # at most so many commits are made durable by one fsync
    lazy_s: float = 0.1  # a lazy commit waits so long for others that share its fsync
    watch_backlog: int = 10_000  # a watcher is closed if it is more revisions behind
    min_revision: int = 0  # revisions go on above this one, also if the disk knows only lower ones (a restored store)
    history_bytes: int = 32 << 20  # above this the history should be compacted, however new it is
