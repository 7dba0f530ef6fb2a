"""Values that say how much CPU and memory something uses, and the seam by which the API and the autoscaler read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec


class ContainerUse(msgspec.Struct, frozen=True, gc=False):
    """CPU in billionths of a core, on average over a window; memory now, without page cache that can be dropped; CPU time since the start of what used it."""

    nanocores: int = 0
    memory_bytes: int = 0
    cpu_ns: int = 0


class NodeUse(msgspec.Struct, frozen=True):
    """One minion's reading. `pods`: uid of a pod -> name of a container -> its use."""

    at_s: float  # wall clock
    window_s: float
    machine: ContainerUse
    pods: Mapping[str, Mapping[str, ContainerUse]] = {}


class UsageReader(Protocol):
    def node(self, name: str) -> NodeUse | None:
        """Return the use of a minion and its pods, or None if nothing recent is known."""

    async def refresh(self, names: Iterable[str] | None = None) -> None:
        """Asks minions anew (None: all), as far as their readings are old. Returns when they have answered, or failed to."""


class NoUsage:
    """Where there are no machines: nothing is known."""

    def node(self, _name: str) -> NodeUse | None:
        return None

    async def refresh(self, names: Iterable[str] | None = None) -> None:
        return None
