"""DaemonSet: one pod of a template on every node that the template may run on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME, pairs
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules, workloads
from labctl.resources.kinds.apps_v1.deployment import RollingUpdate, rolling_limits
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_defaults import POD_TYPES
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition
from labctl.resources.selectors import Selector, of_json


class UpdateStrategy(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class DaemonSetSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The spec. `template` is kept as bytes, because a pod is made from all of it; `pod_template` decodes the part that labctl acts on."""

    min_ready_seconds: int = 0
    revision_history_limit: int | None = None
    update_strategy: UpdateStrategy = UpdateStrategy()
    selector: msgspec.Raw = msgspec.Raw(b"{}")
    template: msgspec.Raw = msgspec.Raw(b"{}")

    def pod_template(self) -> PodTemplate:
        return workloads.decode_template(self.template)


class DaemonSetStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    current_number_scheduled: int = 0
    desired_number_scheduled: int = 0
    number_misscheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    observed_generation: int = 0
    collision_count: int | None = None
    conditions: tuple[Condition, ...] = ()

    def numbers(self) -> dict[str, int]:
        """Returns the counts by their names in JSON."""
        whole: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in whole.items() if name not in ("collisionCount", "conditions")}


class DaemonSet(Viewed, frozen=True, rename="camel", gc=False):
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()

    @property
    def pod_selector(self) -> Selector:
        return of_json(bytes(self.spec.selector))


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        counts = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        new["status"] = dict.fromkeys(counts, 0)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from workloads.not_negative("spec", spec, "minReadySeconds", "revisionHistoryLimit")
    selector = spec.get("selector")
    yield from workloads.label_selector("spec.selector", selector, of="daemonset")
    yield from workloads.selector_immutable(new, old)
    if old is None or spec != old["spec"]:
        yield from _strategy(spec["updateStrategy"])
        yield from workloads.template("DaemonSet", spec, workloads.labelled_template(spec, selector))


def _strategy(strategy: Object) -> Iterator[FieldError]:
    path = "spec.updateStrategy"
    if strategy["type"] == "OnDelete":
        return
    if strategy["type"] != "RollingUpdate":
        yield fields.not_supported(path, strategy, ("OnDelete", "RollingUpdate"))
        return
    rolling = strategy.get("rollingUpdate") or {}
    yield from rolling_limits(f"{path}.rollingUpdate", rolling, ("maxUnavailable", "maxSurge"), whole=("maxUnavailable", "maxSurge"))
    zero = [str(rolling.get(name, 0)) in ("0", "0%") for name in ("maxUnavailable", "maxSurge")]
    if all(zero):
        yield fields.required(f"{path}.rollingUpdate.maxUnavailable", "cannot be 0 when maxSurge is 0")
    elif not any(zero):
        why = "may not be set when maxUnavailable is non-zero"
        yield fields.invalid(f"{path}.rollingUpdate.maxSurge", rolling.get("maxSurge"), why)


def _strategy_defaults(spec: Object) -> None:
    strategy = spec.setdefault("updateStrategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)


def _node_selector(view: DaemonSet, _now_s: float) -> str:
    return pairs(view.spec.pod_template().spec.node_selector)


_COUNTS = (
    *("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"),
    *("observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount"),
)


def _status(new: Object, old: Object) -> Iterator[FieldError]:
    yield from workloads.not_negative("status", status_rules.status_of(new), *_COUNTS)
    yield from status_rules.not_decremented(new, old)


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Desired", lambda v, _now: v.status.desired_number_scheduled, type="integer", description="How many nodes are to run it."),
    Column("Current", lambda v, _now: v.status.current_number_scheduled, type="integer", description="How many of them have a pod."),
    Column("Ready", lambda v, _now: v.status.number_ready, type="integer", description="How many have a ready pod."),
    Column(
        "Up-to-date", lambda v, _now: v.status.updated_number_scheduled, type="integer", description="How many have the template of now."
    ),
    Column("Available", lambda v, _now: v.status.number_available, type="integer", description="How many have an available pod."),
    Column("Node Selector", _node_selector, description="Which nodes are to run it."),
    AGE,
    workloads.CONTAINERS,
    workloads.IMAGES,
    workloads.SELECTOR,
)

ACTS_ON = ("spec.minReadySeconds", "spec.revisionHistoryLimit", "spec.selector", "spec.template.metadata", "spec.updateStrategy")

KIND = Kind(
    group="apps",
    version="v1",
    kind="DaemonSet",
    plural="daemonsets",
    singular="daemonset",
    namespaced=True,
    view=DaemonSet,
    short_names=("ds",),
    categories=("all",),
    columns=COLUMNS,
    subresources=(status_rules.subresource(_status),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=workloads.template_warnings,
    acts_on=acts_on("spec.template.spec") | frozenset(ACTS_ON),
    type_defaults={
        **POD_TYPES,
        "io.k8s.api.apps.v1.DaemonSet": TypeDefaults(absent={"spec": {}}),
        "io.k8s.api.apps.v1.DaemonSetSpec": TypeDefaults(absent={"revisionHistoryLimit": 10}, function=_strategy_defaults),
    },
)
