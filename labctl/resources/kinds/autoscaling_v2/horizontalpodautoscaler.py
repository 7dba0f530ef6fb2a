"""HorizontalPodAutoscaler: how many replicas something is to have, by what its pods use. controllers/autoscaling/ carries it out.

Metrics of type Resource and ContainerResource (cpu, memory) come from the minions; those of other types from API servers of others, for whose groups somebody
registered an APIService.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from labctl.resources import fields, names, quantities
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1 import resource_rules
from labctl.resources.kinds.shared import Condition, Quantity

_TYPES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
_MISSING = {
    "Object": "must set either a target value or averageValue",
    "External": "must set either a target value for metric or a per-pod target",
    "Pods": "must specify a positive target averageValue",
}
_TARGETS = ("AverageValue", "Utilization", "Value")
_POLICIES = ("Percent", "Pods")
_SELECT = ("Disabled", "Max", "Min")
_MOST_WINDOW_S, _MOST_PERIOD_S = 3600, 1800
_POSITIVE, _ABOVE_ZERO = "must be greater than 0", "must be greater than zero"
_NOT_NEGATIVE = "must be greater than or equal to zero"
_NO_GROUP = "apiVersion must specify API group"


class TargetReference(msgspec.Struct, frozen=True, rename="camel", gc=False):
    kind: str = ""
    name: str = ""
    api_version: str = ""


class MetricTarget(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    value: Quantity = 0
    average_value: Quantity | None = None
    average_utilization: int | None = None


class ResourceMetric(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A metric of type Resource, or of type ContainerResource with the name of a container."""

    name: str = ""
    container: str = ""
    target: MetricTarget = MetricTarget()


class Identifier(msgspec.Struct, frozen=True, gc=False):
    """The name of a metric, and which of its series count (a metav1.LabelSelector; None: all)."""

    name: str = ""
    selector: dict[str, Any] | None = None


class OtherMetric(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A metric of type Pods, Object (which has a described object) or External."""

    metric: Identifier = Identifier()
    target: MetricTarget = MetricTarget()
    described_object: TargetReference = TargetReference()


class Metric(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    resource: ResourceMetric | None = None
    container_resource: ResourceMetric | None = None
    pods: OtherMetric | None = None
    object: OtherMetric | None = None
    external: OtherMetric | None = None


class Policy(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    value: int = 0
    period_seconds: int = 0


class Rules(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """How fast, and how far, an autoscaler may go in one direction."""

    stabilization_window_seconds: int | None = None
    select_policy: str = "Max"
    policies: tuple[Policy, ...] = ()
    tolerance: Quantity | None = None


class Behavior(msgspec.Struct, frozen=True, rename="camel", gc=False):
    scale_up: Rules | None = None
    scale_down: Rules | None = None


class HorizontalPodAutoscalerSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    scale_target_ref: TargetReference = TargetReference()
    min_replicas: int = 1
    max_replicas: int = 0
    metrics: tuple[Metric, ...] = ()
    behavior: Behavior = Behavior()


class CurrentValue(msgspec.Struct, frozen=True, rename="camel", gc=False):
    value: Quantity | None = None
    average_value: Quantity | None = None
    average_utilization: int | None = None


class CurrentResource(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    container: str = ""
    current: CurrentValue = CurrentValue()


class CurrentOther(msgspec.Struct, frozen=True, rename="camel", gc=False):
    metric: Identifier = Identifier()
    current: CurrentValue = CurrentValue()
    described_object: TargetReference = TargetReference()


class CurrentMetric(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    resource: CurrentResource | None = None
    container_resource: CurrentResource | None = None
    pods: CurrentOther | None = None
    object: CurrentOther | None = None
    external: CurrentOther | None = None


class HorizontalPodAutoscalerStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    observed_generation: int = 0
    last_scale_time: str | None = None
    current_replicas: int = 0
    desired_replicas: int = 0
    current_metrics: tuple[CurrentMetric, ...] | None = ()
    conditions: tuple[Condition, ...] | None = ()


class HorizontalPodAutoscaler(Viewed, frozen=True, rename="camel", gc=False):
    spec: HorizontalPodAutoscalerSpec = HorizontalPodAutoscalerSpec()
    status: HorizontalPodAutoscalerStatus = HorizontalPodAutoscalerStatus()


# -- rules


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    before = ((old or {}).get("spec") or {}).get("scaleTargetRef")
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 0:
        yield fields.invalid("spec.minReplicas", least, "must be greater than or equal to 0")
    if least == 0 and not any(each.get("type") in ("Object", "External") for each in spec.get("metrics") or ()):
        yield fields.forbidden("spec.metrics", "must specify at least one Object or External metric to support scaling to zero replicas")
    if most < 1:
        yield fields.invalid("spec.maxReplicas", most, _POSITIVE)
    if most < least:
        yield fields.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    target = spec.get("scaleTargetRef") or {}
    yield from _reference("spec.scaleTargetRef", target)
    if "/" not in target.get("apiVersion", "") and target.get("kind") != "ReplicationController" and (old is None or target != before):
        yield fields.invalid("spec.scaleTargetRef.apiVersion", target.get("apiVersion", ""), _NO_GROUP)
    for index, metric in enumerate(spec.get("metrics") or ()):
        yield from _metric(f"spec.metrics[{index}]", metric)
    for direction, rules in (spec.get("behavior") or {}).items():
        if rules:
            yield from _rules(f"spec.behavior.{direction}", rules)


def _reference(path: str, target: Mapping[str, Any]) -> Iterator[FieldError]:
    for field in ("kind", "name"):
        if not target.get(field):
            yield fields.required(f"{path}.{field}")
        else:
            yield from names.checked(f"{path}.{field}", target[field], names.path_segment)
    if target.get("apiVersion", "").count("/") > 1:
        why = f"unexpected GroupVersion string: {target['apiVersion']}"
        yield fields.invalid(f"{path}.apiVersion", target["apiVersion"], why)


def _metric(path: str, metric: Mapping[str, Any]) -> Iterator[FieldError]:
    kind = metric.get("type", "")
    if kind not in _TYPES:
        yield (
            fields.not_supported(f"{path}.type", kind, tuple(_TYPES))
            if kind
            else fields.required(f"{path}.type", "must specify a metric source type")
        )
        return
    source = metric.get(_TYPES[kind])
    if source is None:
        yield fields.required(f"{path}.{_TYPES[kind]}", "must populate information for the given metric source")
    for other in _TYPES.values():
        if other != _TYPES[kind] and metric.get(other) is not None:
            yield fields.forbidden(f"{path}.{other}", "must populate the given metric source only")
    if source is None:
        return
    at, target = f"{path}.{_TYPES[kind]}", source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        yield from _resource(at, source, target, container=kind == "ContainerResource")
        return
    if kind == "Object":
        yield from _reference(f"{at}.describedObject", source.get("describedObject") or {})
    name = (source.get("metric") or {}).get("name", "")
    if not name:
        yield fields.required(f"{at}.metric.name", "must specify a metric name")
    else:
        yield from names.checked(f"{at}.metric.name", name, names.path_segment)
    yield from _target(f"{at}.target", target)
    value, average = target.get("value"), target.get("averageValue")
    if average is None and (value is None or kind == "Pods"):
        yield fields.required(f"{at}.target.averageValue", _MISSING[kind])
    if kind == "External" and value is not None and average is not None:
        yield fields.forbidden(f"{at}.target.value", "may not set both a target value for metric and a per-pod target")


def _resource(path: str, source: Mapping[str, Any], target: Mapping[str, Any], *, container: bool) -> Iterator[FieldError]:
    if not source.get("name"):
        yield fields.required(f"{path}.name", "must specify a resource name")
    if container and not source.get("container"):
        yield fields.required(f"{path}.container", "must specify a container")
    elif container:
        yield from names.checked(f"{path}.container", source["container"], names.label)
    if container and source.get("name"):
        yield from resource_rules.name_in_container(f"{path}.name", source["name"])
    yield from _target(f"{path}.target", target)
    share, average = target.get("averageUtilization"), target.get("averageValue")
    if share is None and average is None:
        yield fields.required(f"{path}.target.averageUtilization", "must set either a target raw value or a target utilization")
    if share is not None and average is not None:
        yield fields.forbidden(f"{path}.target.averageValue", "may not set both a target raw value and a target utilization")


def _target(path: str, target: Mapping[str, Any]) -> Iterator[FieldError]:
    kind = target.get("type", "")
    if not kind:
        yield fields.required(f"{path}.type", "must specify a metric target type")
    elif kind not in _TARGETS:
        yield fields.invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue")
    for name in ("value", "averageValue"):
        if target.get(name) is not None and quantities.parse(target[name]) <= 0:
            yield fields.invalid(f"{path}.{name}", target[name], "must be positive")
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        yield fields.invalid(f"{path}.averageUtilization", share, _POSITIVE)


def _rules(path: str, rules: Mapping[str, Any]) -> Iterator[FieldError]:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        yield fields.invalid(f"{path}.stabilizationWindowSeconds", window, _NOT_NEGATIVE)
    if window is not None and window > _MOST_WINDOW_S:
        yield fields.invalid(f"{path}.stabilizationWindowSeconds", window, f"must be less than or equal to {_MOST_WINDOW_S}")
    if rules.get("selectPolicy") not in (None, *_SELECT):
        yield fields.not_supported(f"{path}.selectPolicy", rules["selectPolicy"], _SELECT)
    if not rules.get("policies"):
        yield fields.required(f"{path}.policies", "must specify at least one Policy")
    for index, policy in enumerate(rules.get("policies") or ()):
        yield from _policy(f"{path}.policies[{index}]", policy)
    tolerance = rules.get("tolerance")
    if tolerance is not None and quantities.parse(tolerance) < 0:
        yield fields.invalid(f"{path}.tolerance", tolerance, "must be greater than or equal to 0")


def _policy(path: str, policy: Mapping[str, Any]) -> Iterator[FieldError]:
    if policy.get("type") not in _POLICIES:
        yield fields.not_supported(f"{path}.type", policy.get("type", ""), _POLICIES)
    value, period = policy.get("value", 0), policy.get("periodSeconds", 0)
    if value <= 0:
        yield fields.invalid(f"{path}.value", value, _ABOVE_ZERO)
    if period <= 0:
        yield fields.invalid(f"{path}.periodSeconds", period, _ABOVE_ZERO)
    if period > _MOST_PERIOD_S:
        yield fields.invalid(f"{path}.periodSeconds", period, f"must be less than or equal to {_MOST_PERIOD_S}")


# -- defaults

UP_POLICIES = ({"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15})
DOWN_POLICIES = ({"type": "Percent", "value": 100, "periodSeconds": 15},)
DEFAULT_METRIC = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}


def defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [msgspec.to_builtins(DEFAULT_METRIC)]
    behavior = spec.get("behavior")
    if behavior is not None:
        _fill(behavior, "scaleUp", UP_POLICIES, {"stabilizationWindowSeconds": 0})
        _fill(behavior, "scaleDown", DOWN_POLICIES, {})


def _fill(behavior: dict[str, Any], direction: str, policies: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> None:
    rules = behavior.get(direction)
    if rules is None:
        rules = behavior[direction] = {}
    rules.setdefault("selectPolicy", "Max")
    for key, value in more.items():
        rules.setdefault(key, value)
    if not rules.get("policies"):
        rules["policies"] = [dict(policy) for policy in policies]


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"desiredReplicas": 0}


# -- what is shown


def _targets(view: HorizontalPodAutoscaler, _now_s: float) -> str:
    shown = [_shown(view, index, metric) for index, metric in enumerate(view.spec.metrics)]
    return ", ".join(shown) if len(shown) <= 2 else f"{', '.join(shown[:2])} + {len(shown) - 2} more..."


def _shown(view: HorizontalPodAutoscaler, index: int, metric: Metric) -> str:
    source = metric.resource or metric.container_resource
    seen = (view.status.current_metrics or ())[index] if index < len(view.status.current_metrics or ()) else CurrentMetric()
    if source is None:
        return _shown_other(metric, seen)
    found = seen.resource or seen.container_resource
    current = found.current if found else CurrentValue()
    name = f"{source.container}/{source.name}" if source.container else source.name
    if source.target.average_value is not None:
        return f"{name}: {_or_unknown(current.average_value)}/{source.target.average_value}"
    now = "<unknown>" if current.average_utilization is None else f"{current.average_utilization}%"
    return f"{name}: {now}/{source.target.average_utilization}%"


def _shown_other(metric: Metric, seen: CurrentMetric) -> str:
    source, found = metric.pods or metric.object or metric.external, seen.pods or seen.object or seen.external
    current = found.current if found else CurrentValue()
    if source is None:
        return "<unknown>/<unknown>"
    if source.target.average_value is None:
        return f"{_or_unknown(current.value)}/{source.target.value}"
    return f"{_or_unknown(current.average_value)}/{source.target.average_value}" + ("" if metric.pods else " (avg)")


def _or_unknown(value: Quantity | None) -> str:
    return "<unknown>" if value is None else str(value)


def _shown_reference(view: Any, _now_s: float) -> str:
    return f"{view.spec.scale_target_ref.kind}/{view.spec.scale_target_ref.name}"


def _status_rules(new: Object, _old: Object) -> Iterator[FieldError]:
    yield from fields.not_negative("status", status_rules.status_of(new), "currentReplicas", "desiredReplicas")


REFERENCE = Column("Reference", _shown_reference, description="What is scaled.")
BOUNDS = (
    Column("MinPods", lambda view, _now: str(view.spec.min_replicas), description="The fewest pods."),
    Column("MaxPods", lambda view, _now: view.spec.max_replicas, type="integer", description="The most pods."),
    Column("Replicas", lambda view, _now: view.status.current_replicas, type="integer", description="Pods that there are now."),
    AGE,
)
STATUS = status_rules.subresource(_status_rules)

KIND = Kind(
    group="autoscaling",
    version="v2",
    kind="HorizontalPodAutoscaler",
    plural="horizontalpodautoscalers",
    singular="horizontalpodautoscaler",
    namespaced=True,
    view=HorizontalPodAutoscaler,
    short_names=("hpa",),
    categories=("all",),
    columns=(NAME, REFERENCE, Column("Targets", _targets, description="What is used now, and what is wanted."), *BOUNDS),
    subresources=(STATUS,),
    has_status=True,
    has_generation=True,
    defaults=defaults,
    prepare=prepare,
    validate=validate,
    type_defaults={"io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler": TypeDefaults(absent={"spec": {}})},
)
