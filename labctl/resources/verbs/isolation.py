"""The write that gives a pod its node notes whether the pod must wait for the rules of NetworkPolicies (resources/isolation.py)."""

from __future__ import annotations

from labctl.clock import rfc3339
from labctl.resources import isolation
from labctl.resources.conditions import with_condition
from labctl.resources.kind import Object
from labctl.resources.plurals import NETWORK_POLICIES
from labctl.resources.verbs.context import Context


def await_rules(ctx: Context, pod: Object) -> None:
    """Adds the condition NetworkReady to a pod that a policy selects now. A pod of the host's network has its node's address, and no policy applies to it."""
    kind, metadata = ctx.registry.get(NETWORK_POLICIES), pod["metadata"]
    if kind is None or pod["spec"].get("hostNetwork"):
        return
    policies = (ctx.view(entry) for entry in ctx.store.range(kind.prefix(metadata["namespace"])).entries)
    if isolation.is_selected(metadata.get("labels") or {}, policies):
        status = pod.setdefault("status", {})
        status["conditions"] = with_condition(status.get("conditions") or (), isolation.pending(rfc3339(ctx.clock.wall())))
