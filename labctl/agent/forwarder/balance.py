"""Chooses the next backend: round-robin, or with affinity the client's last one while it is recent enough and still serves."""

from __future__ import annotations

from typing import Dict, List, Tuple

Backend = Tuple[str, int]
CLIENTS_MAX = 10_000


class Balance:
    """The backends of one Service port. With `affinity_s` above 0 a client keeps its backend for so many seconds after its last connection."""

    def __init__(self) -> None:
        self.backends: List[Backend] = []
        self.affinity_s = 0
        self._next = 0
        self._last: Dict[str, Tuple[Backend, float]] = {}  # client -> its backend, when it was seen

    def set(self, backends: List[Backend], affinity_s: int) -> List[Backend]:
        """Replace the backends. Return those that were removed."""
        gone = [backend for backend in self.backends if backend not in backends]
        self.backends, self.affinity_s = backends, affinity_s
        return gone

    def pick(self, client: str, now: float) -> List[Backend]:
        """Return all backends in the order in which to try them. `now` is in seconds of the monotonic clock."""
        if not self.backends:
            return []
        kept = self._last.get(client) if self.affinity_s else None
        if kept and kept[0] in self.backends and now - kept[1] <= self.affinity_s:
            at = self.backends.index(kept[0])
        else:
            at = self._next % len(self.backends)
            self._next = at + 1
        return self.backends[at:] + self.backends[:at]

    def served(self, client: str, backend: Backend, now: float) -> None:
        """Remember that this client reached this backend, for affinity."""
        if not self.affinity_s:
            return
        self._last.pop(client, None)
        self._last[client] = (backend, now)
        if len(self._last) > CLIENTS_MAX:
            del self._last[next(iter(self._last))]
