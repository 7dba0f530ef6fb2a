"""Deployment: pods that are rolled from one template to the next, through a ReplicaSet for each template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from labctl.resources import fields, shares
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, ScalePaths, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules, workloads
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_defaults import POD_TYPES
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import Condition
from labctl.resources.selectors import Selector, of_json


class RollingUpdate(msgspec.Struct, frozen=True, rename="camel", gc=False):
    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


class Strategy(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None

    @property
    def recreates(self) -> bool:
        return self.type == "Recreate"

    @property
    def limits(self) -> tuple[int | str, int | str]:
        """Return maxSurge and maxUnavailable. With the strategy Recreate there is no surge, and all pods may be unavailable."""
        if self.recreates:
            return 0, "100%"
        rolling = self.rolling_update or RollingUpdate()
        return rolling.max_surge, rolling.max_unavailable


class DeploymentSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The spec. `template` is kept as bytes, because a ReplicaSet is made from all of it; `pod_template` decodes the part that labctl acts on."""

    replicas: int = 1
    min_ready_seconds: int = 0
    paused: bool = False
    progress_deadline_seconds: int | None = None
    revision_history_limit: int | None = None
    strategy: Strategy = Strategy()
    selector: msgspec.Raw = msgspec.Raw(b"{}")
    template: msgspec.Raw = msgspec.Raw(b"{}")

    def pod_template(self) -> PodTemplate:
        return workloads.decode_template(self.template)


class DeploymentStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    terminating_replicas: int = 0
    collision_count: int | None = None
    conditions: tuple[Condition, ...] = ()

    def numbers(self) -> dict[str, int]:
        """Returns the counts by their names in JSON."""
        whole: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in whole.items() if name not in ("collisionCount", "conditions")}

    def plain_conditions(self) -> list[dict[str, Any]]:
        """Returns the conditions as in JSON, without empty fields."""
        return [{name: value for name, value in whole.items() if value} for whole in map(msgspec.to_builtins, self.conditions)]


class Deployment(Viewed, frozen=True, rename="camel", gc=False):
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()

    @property
    def pod_selector(self) -> Selector:
        return of_json(bytes(self.spec.selector))


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    yield from workloads.not_negative("spec", spec, "replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    selector = spec.get("selector")
    yield from workloads.label_selector("spec.selector", selector)
    yield from workloads.selector_immutable(new, old)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        yield fields.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
    if old is None or spec != old["spec"]:
        yield from _strategy(spec["strategy"])
        yield from workloads.template("Deployment", spec, workloads.labelled_template(spec, selector))


def _status(new: Object, old: Object) -> Iterator[FieldError]:
    status = status_rules.status_of(new)
    yield from workloads.not_negative("status", status, "unavailableReplicas")
    yield from status_rules.replicas(status, "updatedReplicas", "readyReplicas", "availableReplicas")
    yield from status_rules.not_decremented(new, old)


def _strategy(strategy: Object) -> Iterator[FieldError]:
    path = "spec.strategy"
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        yield fields.not_supported(path, strategy, ("Recreate", "RollingUpdate"))
        return
    rolling = strategy.get("rollingUpdate") or {}
    if strategy["type"] == "Recreate":
        if strategy.get("rollingUpdate") is not None:
            yield fields.forbidden(f"{path}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
        return
    yield from rolling_limits(f"{path}.rollingUpdate", rolling, ("maxUnavailable", "maxSurge"))
    if all(str(rolling.get(name, "25%")) in ("0", "0%") for name in ("maxUnavailable", "maxSurge")):
        yield fields.invalid(f"{path}.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0")


def rolling_limits(
    path: str, rolling: Object, named: tuple[str, ...], whole: tuple[str, ...] = ("maxUnavailable",)
) -> Iterator[FieldError]:
    """Validates the limits of a rolling update, which are numbers or percentages of pods. Those in `whole` may not be over 100%."""
    for name in named:
        value = rolling.get(name, 0)
        if isinstance(value, int):
            if value < 0:
                yield fields.invalid(f"{path}.{name}", value, "must be greater than or equal to 0")
        elif not shares.is_percent(value):
            yield fields.invalid(f"{path}.{name}", value, shares.WRONG_PERCENT)
        elif name in whole and shares.percent(value) > 100:
            yield fields.invalid(f"{path}.{name}", value, "must not be greater than 100%")


def _strategy_defaults(spec: Object) -> None:
    """Fills in the default strategy: a rolling update with both limits at 25%."""
    strategy = spec.setdefault("strategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        for name in ("maxUnavailable", "maxSurge"):
            rolling.setdefault(name, "25%")


def _ready(view: Deployment, _now_s: float) -> str:
    return f"{view.status.ready_replicas}/{view.spec.replicas}"


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Ready", _ready, description="How many pods are ready, of how many there shall be."),
    Column("Up-to-date", lambda view, _now: view.status.updated_replicas, type="integer", description="How many have the template of now."),
    Column("Available", lambda view, _now: view.status.available_replicas, type="integer", description="How many are available."),
    AGE,
    workloads.CONTAINERS,
    workloads.IMAGES,
    workloads.SELECTOR,
)

ACTS_ON = (
    "spec.minReadySeconds",
    "spec.paused",
    "spec.progressDeadlineSeconds",
    "spec.replicas",
    "spec.revisionHistoryLimit",
    "spec.selector",
    "spec.strategy",
    "spec.template.metadata",
)

KIND = Kind(
    group="apps",
    version="v1",
    kind="Deployment",
    plural="deployments",
    singular="deployment",
    namespaced=True,
    view=Deployment,
    short_names=("deploy",),
    categories=("all",),
    columns=COLUMNS,
    subresources=(
        Subresource("scale", ("get", "patch", "update"), kind="Scale", group="autoscaling", version="v1"),
        status_rules.subresource(_status, keeps=("labels", "finalizers", "ownerReferences")),
    ),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=workloads.named_template_warnings,
    acts_on=acts_on("spec.template.spec") | frozenset(ACTS_ON),
    scale=ScalePaths(workloads.scale_selector),
    type_defaults={
        **POD_TYPES,
        "io.k8s.api.apps.v1.Deployment": TypeDefaults(absent={"spec": {}}),
        "io.k8s.api.apps.v1.DeploymentSpec": TypeDefaults(
            absent={"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}, function=_strategy_defaults
        ),
    },
)
