"""A pod that NetworkPolicies select starts its containers when its node's rules fence it. Pure.

Its condition NetworkReady says so: the master makes it False when it gives the pod its node, and its proxy True for the address that the pod has in its
status. A network that was made anew, as after a boot of the machine, makes it False again. A pod without the condition waits for nobody.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

Object = Dict[str, Any]
NETWORK_READY = "labctl.internal/NetworkReady"
PENDING = "the rules of its NetworkPolicies are not in force on its node yet"


def said(pod: Object) -> str:
    """Return the status of the condition, or nothing if there is none."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((str(each.get("status")) for each in conditions if each["type"] == NETWORK_READY), "")


def may_start(pod: Object, address: str) -> bool:
    """Tell whether containers may start in a pod whose network has this address."""
    return not said(pod) or (said(pod) == "True" and _reported(pod) == address)


def told_again(pod: Object, address: str, anew: bool) -> Optional[Tuple[bool, str, str]]:
    """Return what the condition must say from now on, with reason and message; None: it stays as it is. `anew`: the network was made since it was True."""
    if said(pod) != "True" or not (anew or (address and _reported(pod) != address)):
        return None
    return False, "RulesPending", PENDING


def _reported(pod: Object) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")
