"""Which backend is next: round-robin; with affinity, a client's last one while it is young enough and still there."""

from __future__ import annotations

from typing import Dict, List, Tuple

Backend = Tuple[str, int]
CLIENTS_MAX = 10_000


class Balance:
    def __init__(self) -> None:
        self.backends: List[Backend] = []
        self.affinity_s = 0
        self._next = 0
        self._last: Dict[str, Tuple[Backend, float]] = {}  # client -> its backend, when it was seen

    def set(self, backends: List[Backend], affinity_s: int) -> List[Backend]:
        """Answers those that are gone."""
        gone = [backend for backend in self.backends if backend not in backends]
        self.backends, self.affinity_s = backends, affinity_s
        return gone

    def pick(self, client: str, now: float) -> List[Backend]:
        """Every backend, the one to try first, first. Empty when nobody serves."""
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
        """This client reached this backend."""
        if not self.affinity_s:
            return
        self._last.pop(client, None)
        self._last[client] = (backend, now)
        if len(self._last) > CLIENTS_MAX:
            del self._last[next(iter(self._last))]
