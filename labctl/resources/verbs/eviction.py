"""pods/eviction: a deletion that asks the pod's disruption budget first.

The budget's controller writes how many disruptions are allowed. An eviction takes one of them in the same way as it takes anything: by an update at the
revision that it read. So two evictions never take the same one, whoever asks.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from labctl.clock import rfc3339
from labctl.errors import ApiError
from labctl.resources import encoding, failures
from labctl.resources.disruption import BY_EVICTION_API, disrupted
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.policy_v1.poddisruptionbudget import ALWAYS_ALLOW, PodDisruptionBudget
from labctl.resources.service import SYSTEM, DeleteOptions, WriteOptions, WriteResult
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.delete import delete
from labctl.resources.verbs.write import rewrite

BUDGETS = "poddisruptionbudgets.policy"
_FREE_PHASES = ("Failed", "Pending", "Succeeded")
_MOST_DISRUPTED = 2_000
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict(ctx: Context, kind: Kind, namespace: str, name: str, eviction: Object, options: WriteOptions) -> WriteResult:
    """Deletes the pod if its budget allows it. Raises 429 TooManyRequests with the reason if not, and 500 if the pod has several budgets."""
    asked = eviction.get("deleteOptions", {})
    preconditions = asked.get("preconditions", {})
    wanted = DeleteOptions(
        grace_period_seconds=asked.get("gracePeriodSeconds"),
        propagation_policy=asked.get("propagationPolicy"),
        precondition_uid=preconditions.get("uid", ""),
        precondition_resource_version=preconditions.get("resourceVersion", ""),
        dry_run=options.dry_run or bool(asked.get("dryRun")),
    )
    pod = ctx.view(ctx.existing(kind, namespace, name))
    budget = _budget_of(ctx, pod)
    if budget is not None and not _passes(pod, budget):
        await _take(ctx, budget, pod, dry_run=wanted.dry_run)
    if not wanted.dry_run and pod.metadata.deletion_timestamp is None:
        wanted = await _mark(ctx, kind, pod, wanted)
    return await delete(ctx, kind, namespace, name, wanted, options.user, admitted=True)


def _budget_of(ctx: Context, pod: Any) -> PodDisruptionBudget | None:
    kind = ctx.registry.get(BUDGETS)
    if kind is None:
        return None
    budgets = [ctx.view(entry) for entry in ctx.store.range(kind.prefix(pod.metadata.namespace)).entries]
    mine = [budget for budget in budgets if budget.pod_selector.matches(pod.metadata.labels)]
    if len(mine) > 1:
        words = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(500, "InternalError", words)
    return mine[0] if mine else None


def _passes(pod: Any, budget: PodDisruptionBudget) -> bool:
    """True if the pod may be evicted without its budget: it has ended, is pending or terminating, or is not ready and the budget allows that."""
    if pod.status.phase in _FREE_PHASES or pod.metadata.deletion_timestamp is not None:
        return True
    if pod.ready:
        return False
    status = budget.status
    healthy = status.current_healthy >= status.desired_healthy > 0
    return budget.spec.unhealthy_pod_eviction_policy == ALWAYS_ALLOW or healthy


async def _take(ctx: Context, budget: PodDisruptionBudget, pod: Any, *, dry_run: bool) -> None:
    """Records in the budget's status that this pod is one of its disruptions."""
    kind, metadata = ctx.registry[BUDGETS], budget.metadata

    def taken(obj: Object) -> tuple[Object, tuple[str, ...]]:
        status = obj.setdefault("status", {})
        if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
            raise _refused(budget, f"The disruption budget {metadata.name} is still being processed by the server.", retry_s=10)
        allowed = status.get("disruptionsAllowed", 0)
        if allowed <= 0:
            raise _refused(budget, _why(metadata.name, status))
        disrupted = status.setdefault("disruptedPods", {})
        if len(disrupted) > _MOST_DISRUPTED:
            raise failures.forbidden(kind, metadata.name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller")
        status["disruptionsAllowed"] = allowed - 1
        disrupted[pod.metadata.name] = rfc3339(ctx.clock.wall())
        return obj, ()

    if dry_run:
        taken(encoding.decode(encoding.encode(encoding.decoded(ctx.existing(kind, metadata.namespace, metadata.name)))))
        return
    await rewrite(ctx, kind, metadata.namespace, metadata.name, taken, WriteOptions(SYSTEM), subresource="status")


async def _mark(ctx: Context, kind: Kind, pod: Any, wanted: DeleteOptions) -> DeleteOptions:
    """Says in the pod's status that it is being evicted (KEP-3329), and returns options that name the revision which this made, if they named one."""
    metadata, asked = pod.metadata, wanted.precondition_resource_version
    done = False

    def marked(obj: Object) -> tuple[Object, tuple[str, ...]]:
        nonlocal done
        found = obj["metadata"]
        done = found["uid"] == metadata.uid and asked in ("", found.get("resourceVersion"))
        if done:  # else the deletion is going to be refused
            status = obj.setdefault("status", {})
            status["conditions"] = disrupted(obj, BY_EVICTION_API, "Eviction API: evicting", rfc3339(ctx.clock.wall()))
        return obj, ()

    written = await rewrite(ctx, kind, metadata.namespace, metadata.name, marked, WriteOptions(SYSTEM), subresource="status")
    return replace(wanted, precondition_resource_version=str(written.entry.revision)) if asked and done and written.entry else wanted


def _why(name: str, status: Object) -> str:
    """Tell why the budget allows no disruption. The numbers mean nothing where they could not be counted, and nothing where there are enough."""
    found: Object = next((one for one in status.get("conditions") or () if one["type"] == "DisruptionAllowed"), {})
    said = found.get("message", "") if found.get("status") == "False" else ""
    refuses = f"The disruption budget {name} does not allow evicting pods currently"
    needed, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    if said and found["reason"] == "SyncFailed":
        return f"{refuses} because it failed sync: {said}"
    if current <= needed:
        return f"The disruption budget {name} needs {needed} healthy pods and has {current} currently"
    return f"{refuses} ({found['reason']}): {said}" if said else refuses


def _refused(budget: PodDisruptionBudget, why: str, retry_s: int = 0) -> ApiError:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry_s:
        details["retryAfterSeconds"] = retry_s
    return ApiError(429, "TooManyRequests", _REFUSED, details=details)
