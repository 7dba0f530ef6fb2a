"""Isolated from the start: a pod that waits with the condition `NetworkReady: False` gets True when its own minion has the rules for its address.

Its agent starts no container before (resources/isolation.py). Only the pod's own minion counts: it fences both directions. What peers' rules let through
comes when it comes, as Kubernetes documents it: isolation first, then openings.

Who calls it: the Proxy, when a pod changes, when the table is settled and when a minion has caught up. What flows: one patch of the pod's status.
A pod whose policies have gone meanwhile gets True as well, and so does one that was waiting when the master was started again: what waits is read from
the objects, and nothing is remembered elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

from labctl.clock import Clock, rfc3339
from labctl.proxy.conditions import Conditions
from labctl.resources.isolation import NETWORK_READY, in_force
from labctl.resources.kind import Object
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition_status


class Isolation:
    """`settled(namespace)`: is the table up to date with its pods and policies? `reached(node)`: the sequence of the table that this minion has."""

    def __init__(self, conditions: Conditions, clock: Clock, settled: Callable[[str], bool], reached: Callable[[str], int]) -> None:
        self._conditions = conditions
        self._clock = clock
        self._settled = settled
        self._reached = reached
        self._waiting: dict[
            str, tuple[str, str, int]
        ] = {}  # pod -> its node, its address, the sequence of the table that has it; -1: none yet

    def pod(self, key: str, pod: Pod | None) -> bool:
        """Take in a change of a pod. Return True if the pod must be followed from now on."""
        if pod is None or not _waits(pod):
            self._waiting.pop(key, None)
            return False
        node, address = pod.spec.node_name, pod.status.pod_ip
        if self._waiting.get(key, ("", "", -1))[:2] == (node, address):
            return False
        self._waiting[key] = (node, address, -1)
        return True

    def look(self, sequence: int) -> None:
        """Look again, because the table is settled at `sequence`, or a minion has reached it."""
        for key, (node, address, since) in list(self._waiting.items()):
            if since < 0:
                if not self._settled(key.partition("/")[0]):
                    continue
                since = sequence
                self._waiting[key] = (node, address, since)
            if self._reached(node) >= since:
                del self._waiting[key]
                self._tell(key, node, address)

    def _tell(self, key: str, node: str, address: str) -> None:
        def ready(pod: Object) -> Object | None:
            """Its address may be another one by now: then the rules for that one are waited for."""
            status = pod.get("status", {})
            told: Object = next((each for each in status.get("conditions", ()) if each["type"] == NETWORK_READY), {})
            if told.get("status") != "False" or (pod["spec"].get("nodeName"), status.get("podIP")) != (node, address):
                return None
            return in_force(node, rfc3339(self._clock.wall()))

        self._conditions.tell(key, ready, f"{node} has the rules of its NetworkPolicies: it may start")


def _waits(pod: Pod) -> bool:
    leaving = pod.metadata.deletion_timestamp is not None
    return (
        bool(pod.status.pod_ip) and not pod.finished and not leaving and condition_status(pod.status.conditions, NETWORK_READY) == "False"
    )
