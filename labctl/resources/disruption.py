"""The condition DisruptionTarget: a pod is ended though it did nothing wrong (KEP-3329).

Whoever ends such a pod writes it into the pod's status first, with its own reason: the eviction API, the scheduler, the controllers of taints and of leftovers.
A Job's `podFailurePolicy` reads it.
"""

from __future__ import annotations

from labctl.resources.conditions import with_condition
from labctl.resources.kind import Object

DISRUPTION = "DisruptionTarget"
BY_EVICTION_API = "EvictionByEvictionAPI"
BY_SCHEDULER = "PreemptionByScheduler"
BY_TAINTS = "DeletionByTaintManager"
BY_GARBAGE_COLLECTOR = "DeletionByPodGC"


def disrupted(pod: Object, reason: str, message: str, now: str) -> list[Object]:
    """Return the conditions of a pod, given as JSON, with this one among them. `now` is in RFC 3339's form; a condition that is there keeps its own time."""
    conditions: list[Object] = pod.get("status", {}).get("conditions") or []
    before = next((each for each in conditions if each.get("type") == DISRUPTION and each.get("status") == "True"), {})
    generation = pod.get("metadata", {}).get("generation")
    told = {
        "type": DISRUPTION,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": before.get("lastTransitionTime") or now,
        **({"observedGeneration": generation} if generation else {}),
    }
    return with_condition(conditions, told)
