"""PodDisruptionBudget: how many of some pods may be evicted at once. Its controller counts; evictions ask (verbs/eviction.py)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields, shares
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules, workloads
from labctl.resources.kinds.shared import Condition
from labctl.resources.selectors import Selector, of_json

ALWAYS_ALLOW = "AlwaysAllow"


class PodDisruptionBudgetSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    selector: msgspec.Raw = msgspec.Raw(b"null")
    unhealthy_pod_eviction_policy: str = "IfHealthyBudget"


class PodDisruptionBudgetStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    observed_generation: int = 0
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    disrupted_pods: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()


class PodDisruptionBudget(Viewed, frozen=True, rename="camel", gc=False):
    spec: PodDisruptionBudgetSpec = PodDisruptionBudgetSpec()
    status: PodDisruptionBudgetStatus = PodDisruptionBudgetStatus()

    @property
    def pod_selector(self) -> Selector:
        """Return which pods it is about. Without a selector it selects none, with an empty one all of its namespace."""
        return of_json(bytes(self.spec.selector))


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        counts = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
        new["status"] = dict.fromkeys(counts, 0)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield fields.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for name in ("minAvailable", "maxUnavailable"):
        value = spec.get(name)
        if value is not None:
            yield from _count(f"spec.{name}", value)
    if spec.get("selector") is not None:
        yield from workloads.label_selector("spec.selector", spec["selector"], may_be_empty=True)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy not in (None, "IfHealthyBudget", ALWAYS_ALLOW):
        yield fields.not_supported("spec.unhealthyPodEvictionPolicy", policy, (ALWAYS_ALLOW, "IfHealthyBudget"))


def _count(path: str, value: int | str) -> Iterator[FieldError]:
    if isinstance(value, int):
        if value < 0:
            yield fields.invalid(path, value, "must be greater than or equal to 0")
    elif not shares.is_percent(value):
        yield fields.invalid(path, value, shares.WRONG_PERCENT)
    elif shares.percent(value) > 100:
        yield fields.invalid(path, value, "must not be greater than 100%")


def _status(new: Object, _old: Object) -> Iterator[FieldError]:
    status = status_rules.status_of(new)
    yield from status_rules.conditions("status.conditions", status.get("conditions") or ())
    yield from workloads.not_negative("status", status, "disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def _or_none(value: int | str | None) -> str:
    return "N/A" if value is None else str(value)


KIND = Kind(
    group="policy",
    version="v1",
    kind="PodDisruptionBudget",
    plural="poddisruptionbudgets",
    singular="poddisruptionbudget",
    namespaced=True,
    view=PodDisruptionBudget,
    short_names=("pdb",),
    columns=(
        NAME,
        Column("Min Available", lambda view, _now: _or_none(view.spec.min_available), description="How many must stay healthy."),
        Column("Max Unavailable", lambda view, _now: _or_none(view.spec.max_unavailable), description="How many may be missing."),
        Column(
            "Allowed Disruptions", lambda v, _now: v.status.disruptions_allowed, type="integer", description="How many may be evicted now."
        ),
        AGE,
    ),
    subresources=(status_rules.subresource(_status),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    acts_on=frozenset({"spec.maxUnavailable", "spec.minAvailable", "spec.selector", "spec.unhealthyPodEvictionPolicy"}),
    type_defaults={"io.k8s.api.policy.v1.PodDisruptionBudget": TypeDefaults(absent={"spec": {}})},
)
