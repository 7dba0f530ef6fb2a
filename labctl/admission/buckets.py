"""Token buckets, one for each node: how much a node's agent may write in a burst, and how much for ever."""

from __future__ import annotations

from labctl.clock import Clock


class Buckets:
    """A node's bucket holds `burst` tokens, and gets `per_s` tokens a second."""

    def __init__(self, clock: Clock, burst: float, per_s: float) -> None:
        self._clock = clock
        self._burst, self._per_s = burst, per_s
        self._tokens: dict[str, tuple[float, float]] = {}  # node -> (tokens, when they were counted)

    def take(self, node: str, cost: float) -> bool:
        """Takes tokens. Returns False, and takes none, if there are not enough."""
        now_s = self._clock.now()
        tokens, counted_s = self._tokens.get(node, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - counted_s) * self._per_s)
        if tokens < cost:
            return False
        self._tokens[node] = tokens - cost, now_s
        return True
