"""Bounds the requests that are under way: of each user, and of all together, as Kubernetes' limits in flight and its API Priority and Fairness do.

The server asks for each request of whoever it knows. More than a user may have are refused with 429, which client-go and kubectl try again after a second.
When all together are too many, only those who have few are served. What lasts (watches, logs, exec, proxies) is counted apart, and in the large.
Admins (`system:masters`) are not counted, so that they can always look at what happens.

Lists and watches that a user asks for at once are begun in turns, a few in each pass of the event loop: those of two hundred clients would make everybody wait
for all of them.
A request is under way from its head until its answer is sent, however slowly its client reads, and also if the client has gone and the work goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from labctl.api import status
from labctl.api.settings import ApiSettings

BEGUN_AT_ONCE = 4  # lists and watches of one user in one pass of the event loop
CALLERS_KEPT = 1024
COSTLY = frozenset({"list", "watch", "deletecollection"})
"""Verbs that look through all objects of a kind, at once: they wait for their turn."""
LASTING = frozenset({"exec", "attach", "portforward", "proxy", "log"})
"""The subresources whose requests last, as in kube-apiserver. Beside them, watches do."""


class Caller:
    """What one user has under way."""

    __slots__ = ("begun", "lasting", "name", "short", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.short = self.lasting = 0
        self.begun = 0  # since a request had to wait for its turn
        self.waiting: deque[asyncio.Future[None]] = deque()


class InFlight:
    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._callers: dict[str, Caller] = {}
        self._most = CALLERS_KEPT
        self.short = self.lasting = 0
        self.refused = 0

    def enter(self, name: str, *, lasting: bool) -> tuple[Caller, Callable[[], None]]:
        """Counts a request. Returns whose it is, and what has to be called when it is over. Raises 429."""
        caller = self._known(name)
        if self._full(caller, lasting):
            self.refused += 1
            raise status.too_many("Too many requests, please try again later.")
        if lasting:
            caller.lasting += 1
            self.lasting += 1
        else:
            caller.short += 1
            self.short += 1
        return caller, partial(self._leave, caller, lasting)

    async def turn(self, caller: Caller) -> None:
        """Waits until another request of this user may begin: of a few that come one after another, not at all."""
        if caller.begun < BEGUN_AT_ONCE and not caller.waiting:
            caller.begun += 1
            return
        loop = asyncio.get_running_loop()
        if not caller.waiting:
            loop.call_soon(self._next, caller)
        waiter = loop.create_future()
        caller.waiting.append(waiter)
        await waiter

    def _full(self, caller: Caller, lasting: bool) -> bool:
        most = self._settings
        if lasting:
            return caller.lasting >= most.lasting_of_one
        return caller.short >= most.requests_of_one or (self.short >= most.requests and caller.short >= most.requests_always)

    def _next(self, caller: Caller) -> None:
        """Lets the next ones begin. Is called in each pass of the loop, as long as some wait."""
        caller.begun = 0
        while caller.waiting and caller.begun < BEGUN_AT_ONCE:
            waiter = caller.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                caller.begun += 1
        if caller.waiting:
            asyncio.get_running_loop().call_soon(self._next, caller)

    def _known(self, name: str) -> Caller:
        """Returns the caller. Those who have nothing under way are kept, because their turns count on, and forgotten when they have become many."""
        caller = self._callers.get(name)
        if caller is None:
            if len(self._callers) >= self._most:
                self._callers = {each.name: each for each in self._callers.values() if each.short or each.lasting}
                self._most = max(CALLERS_KEPT, 2 * len(self._callers))
            caller = self._callers[name] = Caller(name)
        return caller

    def _leave(self, caller: Caller, lasting: bool) -> None:
        if lasting:
            caller.lasting -= 1
            self.lasting -= 1
        else:
            caller.short -= 1
            self.short -= 1
