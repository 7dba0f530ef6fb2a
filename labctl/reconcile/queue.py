"""The keyed queue holds the keys that are to be planned next. Each key is in it at most once, so it is never longer than the number of objects.

Only the runner calls it, on one loop. `add` says that a key must be planned; `add_later` asks for another plan at a given time; `pop` hands a key out. Until
`done` is called the key is not handed out again, however often it is added meanwhile.
`fail` is `done` with a delay that doubles each time. The queue never waits and reads no clock.
Keys may belong to a group and have a rank in it: then the places that the group's keys have in the queue go to the highest ranks first.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K")


Place = tuple[Hashable, int]
"""A group of keys, and a rank in it: higher is handed out earlier."""


class KeyedQueue(Generic[K]):
    def __init__(
        self,
        backoff_min_s: float,
        backoff_max_s: float,
        wake: Callable[[], None] = lambda: None,
        place: Callable[[K], Place | None] = lambda _key: None,
    ) -> None:
        self._backoff_min_s = backoff_min_s
        self._backoff_max_s = backoff_max_s
        self._wake = wake
        self._place = place
        self._ready: deque[K | _Group[K]] = deque()  # a group stands once for each of its keys
        self._groups: dict[Hashable, _Group[K]] = {}
        self._dirty: set[K] = set()  # in _ready, or added while under way
        self._busy: set[K] = set()
        self._due: dict[K, float] = {}  # the earliest later look that was asked for
        self._heap: list[tuple[float, int, K]] = []  # of _due, with outdated items left in
        self._order = 0
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Tell whether no key is waiting and none is being worked on. Keys that are due later do not count."""
        return not self._ready and not self._busy

    def add(self, key: K) -> None:
        """Have the key planned as soon as it is not being worked on."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._busy:
            self._enter(key)

    def add_later(self, key: K, at: float) -> None:
        """Plan the key at `at` even if nothing changes; of several requests the earliest counts."""
        if key in self._due and self._due[key] <= at:
            return
        self._due[key] = at
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))
        self._wake()

    def pop(self, now: float) -> K | None:
        """Return the next key, in the order they became dirty, or None if there is nothing to do before `next_due`."""
        self._move_due(now)
        if not self._ready:
            return None
        first = self._ready.popleft()
        key = first.pop() if isinstance(first, _Group) else first
        self._dirty.discard(key)
        self._due.pop(key, None)  # a look now makes the later one the next plan's affair
        self._busy.add(key)
        return key

    def done(self, key: K) -> None:
        """Note that the key was planned, and that the plan was carried out."""
        self._failures.pop(key, None)
        self._release(key)

    def fail(self, key: K, now: float, *, raced: bool = False) -> float:
        """Note that the plan could not be carried out. Return the delay after which the key is handed out again; changes meanwhile don't shorten it.

        `raced`: another writer was faster, so the first retry follows at once.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = 0.0 if raced and not failures else min(self._backoff_max_s, self._backoff_min_s * 2 ** min(failures, 30))
        self._dirty.discard(key)
        self._release(key)
        self._due.pop(key, None)
        self.add_later(key, now + delay_s)
        return delay_s

    def next_due(self) -> float | None:
        """Return the time at which the next key becomes due, or None if no key is waiting for a time."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _move_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key)

    def _release(self, key: K) -> None:
        self._busy.discard(key)
        if key in self._dirty:
            self._enter(key)

    def _enter(self, key: K) -> None:
        place = self._place(key)
        if place is None:
            self._ready.append(key)
        else:
            group = self._groups.setdefault(place[0], _Group())
            group.push(key, place[1])
            self._ready.append(group)
        self._wake()


class _Group(Generic[K]):
    """Keys of which the highest rank comes first, and of one rank the first that was added."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, K]] = []
        self._order = 0

    def push(self, key: K, rank: int) -> None:
        self._order += 1
        heapq.heappush(self._heap, (-rank, self._order, key))

    def pop(self) -> K:
        return heapq.heappop(self._heap)[2]
