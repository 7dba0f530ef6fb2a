"""The condition NetworkReady: a pod that a NetworkPolicy selects is isolated on its node before its first container starts, as Kubernetes documents it.

It is there from the write that gives the pod its node, as False, if a policy selects the pod then. Its agent makes the pod's network, reports the address, and
starts nothing yet; the Proxy says True as soon as the node's rules fence that address (proxy/isolation.py). Other pods don't have it, and wait for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labctl.resources.conditions import with_condition
from labctl.resources.kind import Object, Surroundings
from labctl.resources.plurals import NETWORK_POLICIES

if TYPE_CHECKING:
    from labctl.resources.kinds.networking_v1.networkpolicy import NetworkPolicy

NETWORK_READY = "labctl.internal/NetworkReady"
PENDING = "the rules of its NetworkPolicies are not in force on its node yet"


def pending(now: str) -> Object:
    """Return the condition of a pod whose rules are not in force. `now` is in RFC 3339's form."""
    return {"type": NETWORK_READY, "status": "False", "reason": "RulesPending", "message": PENDING, "lastTransitionTime": now}


def in_force(node: str, now: str) -> Object:
    """Return the condition of a pod that may start."""
    said = f"node {node} has the rules of its NetworkPolicies"
    return {"type": NETWORK_READY, "status": "True", "reason": "RulesInForce", "message": said, "lastTransitionTime": now}


def enter(pod: Object, around: Surroundings) -> None:
    """Lets a new pod that has a node already wait for its rules."""
    if pod["spec"].get("nodeName"):
        await_rules(pod, around)


def await_rules(pod: Object, around: Surroundings) -> None:
    """Adds the condition to a pod that is given its node, if a policy selects it now. A pod of the host's network has its node's address, and no policy
    applies to it."""
    metadata = pod["metadata"]
    if pod["spec"].get("hostNetwork"):
        return
    if is_selected(metadata.get("labels") or {}, around.views(NETWORK_POLICIES, metadata["namespace"])):
        status = pod.setdefault("status", {})
        status["conditions"] = with_condition(status.get("conditions") or (), pending(around.now()))


def is_selected(labels: Mapping[str, str], policies: Iterable[NetworkPolicy]) -> bool:
    return any(policy.pods().matches(labels) for policy in policies)
