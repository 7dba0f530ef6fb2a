"""Leaving in order: a terminating pod gets the condition `Drained` when every minion sends new connections to the other endpoints.
Its agent waits for that, but not for long. Where no other endpoint is ready, minions go on sending to it until it ends (KEP-1669).

Who calls it: the Proxy, when a pod changes and when a minion has caught up. What flows: one patch of the pod's status, once.
A minion that is fenced is not waited for, nor one that is silent (its Node is not Ready) and not connected: it sends nothing that could arrive. One whose
connection alone was lost sends as before, and is waited for: it is connected again within moments, and the agent does not wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labctl.clock import Clock, rfc3339
from labctl.proxy.conditions import Conditions
from labctl.resources.kind import Object
from labctl.resources.kinds.shared import condition_status

DRAINED = "labctl.internal/Drained"


class Drain:
    """`serves(pod)`: is it in the table? `reached()`: the sequence of the table that every minion has at least that sends."""

    def __init__(self, conditions: Conditions, clock: Clock, serves: Callable[[str], bool], reached: Callable[[], int]) -> None:
        self._conditions = conditions
        self._clock = clock
        self._serves = serves
        self._reached = reached
        self._leaving: dict[str, int] = {}  # pod -> the sequence of the table that first was without it; 0: it is still in

    def pod(self, key: str, pod: Any) -> bool:
        """Take in a change of a pod. Return True if the pod must be followed from now on."""
        if pod is None or not pod.metadata.deletion_timestamp or condition_status(pod.status.conditions, DRAINED) == "True":
            self._leaving.pop(key, None)
            return False
        return self._leaving.setdefault(key, 0) == 0

    def look(self, sequence: int) -> None:
        """Look again, because the table is settled at `sequence`, or a minion has reached it."""
        if not self._leaving:
            return
        reached = self._reached()
        for key, since in list(self._leaving.items()):
            if self._serves(key):
                continue
            if not since:
                since = self._leaving[key] = sequence
            if reached >= since:
                del self._leaving[key]
                self._conditions.tell(key, self._drained, "no minion sends it anything new: it may stop")

    def _drained(self, pod: Object) -> Object | None:
        conditions = pod.get("status", {}).get("conditions", ())
        if any(each.get("type") == DRAINED and each.get("status") == "True" for each in conditions):
            return None
        now = rfc3339(self._clock.wall())
        said = "no reachable minion sends it new connections while another endpoint is ready"
        return {"type": DRAINED, "status": "True", "lastTransitionTime": now, "reason": "NoMinionSends", "message": said}
