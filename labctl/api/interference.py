"""Delays and refuses requests of named clients on purpose. Faults of the API set it (room `faults`); the server asks it for each request while any is set.

A request is met after its caller is known and before anything else is decided, as API Priority and Fairness would refuse it. What heals faults always passes.
"""

from __future__ import annotations

import asyncio
from random import Random

import msgspec

from labctl.api.extensions import ROOT
from labctl.api.route import Target
from labctl.errors import ApiError
from labctl.resources.plurals import FAULTS

_REFUSALS = {
    429: ("TooManyRequests", "Too many requests, please try again later."),
    500: ("InternalError", "Internal error occurred."),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}
_PASSES = tuple(FAULTS.split(".", 1))


class ApiFault(msgspec.Struct, frozen=True):
    """What happens to a share of a user's requests: they wait `delay_s`, or are refused with `code`."""

    name: str  # of the fault, which the refusal names
    user: str
    share: float = 1.0
    delay_s: float = 0.0
    code: int = 0
    retry_after_s: int = 0


class Interference:
    """The faults of one server. It is false while there are none, so that a request costs nothing then."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._faults: dict[str, ApiFault] = {}
        self._by_user: dict[str, tuple[ApiFault, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_user)

    def put(self, fault: ApiFault) -> None:
        """Let the fault meet its user's requests from now on. It may be put again."""
        self._faults[fault.name] = fault
        self._sort()

    def remove(self, name: str) -> bool:
        """Let the fault meet no further request. Return whether there was such a fault."""
        was_there = self._faults.pop(name, None) is not None
        self._sort()
        return was_there

    async def meet(self, user: str, path: str, target: Target | None) -> None:
        """Delays this request, or raises the ApiError with which it is refused."""
        faults = self._by_user.get(user)
        if not faults or (target is not None and (target.resource, target.group) == _PASSES) or path.startswith(f"{ROOT}/"):
            return
        struck = [fault for fault in faults if fault.share >= 1 or self._rng.random() < fault.share]
        if delay_s := sum(fault.delay_s for fault in struck):
            await asyncio.sleep(delay_s)
        for fault in struck:
            if fault.code:
                reason, message = _REFUSALS[fault.code]
                raise ApiError(fault.code, reason, f"{message} (fault {fault.name})", retry_after_s=fault.retry_after_s)

    def _sort(self) -> None:
        users = dict.fromkeys(fault.user for fault in self._faults.values())
        self._by_user = {user: tuple(fault for fault in self._faults.values() if fault.user == user) for user in users}
