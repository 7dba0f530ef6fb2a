"""HorizontalPodAutoscaler of autoscaling/v1: one target, a share of the requested CPU. The same objects as in autoscaling/v2, where they are stored.

What v1 has no field for is shown in annotations, as Kubernetes does it, and comes back from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.cells import NAME
from labctl.resources.encoding import NOT_JSON
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds.autoscaling_v2 import horizontalpodautoscaler as v2
from labctl.store.interface import Entry

_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _BEHAVIOR, _CONDITIONS, _CURRENT = (_PREFIX + each for each in ("metrics", "behavior", "conditions", "current-metrics"))


class Spec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    scale_target_ref: v2.TargetReference = v2.TargetReference()
    min_replicas: int = 1
    max_replicas: int = 0
    target_cpu: int | None = msgspec.field(default=None, name="targetCPUUtilizationPercentage")


class Status(msgspec.Struct, frozen=True, rename="camel", gc=False):
    current_replicas: int = 0
    current_cpu: int | None = msgspec.field(default=None, name="currentCPUUtilizationPercentage")


class HorizontalPodAutoscaler(Viewed, frozen=True, rename="camel", gc=False):
    spec: Spec = Spec()
    status: Status = Status()


class OneTarget:
    """Converts between the versions, either way."""

    def needed(self, kind: Kind, entry: Entry) -> bool:
        head = b'{"kind":"%s","apiVersion":"%s",' % (kind.kind.encode(), kind.api_version.encode())
        return not entry.value.startswith(head)

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        to = _to_v1 if kind.version == "v1" else _to_v2
        return [obj if obj.get("apiVersion") == kind.api_version else {**to(obj), "apiVersion": kind.api_version} for obj in objects]


def _is_cpu_share(metric: Any) -> bool:
    source = metric.get("resource") or {}
    return (
        metric.get("type") == "Resource"
        and source.get("name") == "cpu"
        and (source.get("target") or {}).get("averageUtilization") is not None
    )


def _to_v1(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metrics, behavior = spec.pop("metrics", None) or [], spec.pop("behavior", None)
    annotations = dict(obj["metadata"].get("annotations") or {})
    main = next((metric for metric in metrics if _is_cpu_share(metric)), None)
    if main:
        spec["targetCPUUtilizationPercentage"] = main["resource"]["target"]["averageUtilization"]
    current = status.pop("currentMetrics", None) or []
    cpu = next((each for each in current if (each.get("resource") or {}).get("name") == "cpu"), None)
    share = ((cpu or {}).get("resource") or {}).get("current", {}).get("averageUtilization")
    if share is not None:
        status["currentCPUUtilizationPercentage"] = share
    rest = {
        _METRICS: [metric for metric in metrics if metric is not main],
        _BEHAVIOR: behavior,
        _CONDITIONS: status.pop("conditions", None),
        _CURRENT: [each for each in current if each is not cpu or share is None],
    }
    annotations.update({key: msgspec.json.encode(value).decode() for key, value in rest.items() if value})
    status.setdefault("currentReplicas", 0)
    metadata = {**obj["metadata"], **({"annotations": annotations} if annotations else {})}
    return {**obj, "metadata": metadata, "spec": spec, "status": status}


def _to_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    share, metrics = spec.pop("targetCPUUtilizationPercentage", None), []
    if share is not None:
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}})
    metrics += _said(annotations, _METRICS) or []
    behavior = _said(annotations, _BEHAVIOR)
    current = _said(annotations, _CURRENT) or []
    cpu = status.pop("currentCPUUtilizationPercentage", None)
    if cpu is not None:
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": cpu}}}, *current]
    conditions = _said(annotations, _CONDITIONS)
    spec.update({key: value for key, value in (("metrics", metrics), ("behavior", behavior)) if value})
    status.update({key: value for key, value in (("currentMetrics", current), ("conditions", conditions)) if value})
    metadata = {**obj["metadata"], "annotations": annotations}
    if not annotations:
        del metadata["annotations"]
    return {**obj, "metadata": metadata, "spec": spec, "status": status}


def _said(annotations: dict[str, str], key: str) -> Any:
    """Take out and return what an annotation holds. Anything that is not JSON is ignored."""
    try:
        return msgspec.json.decode(annotations.pop(key, "null"))
    except NOT_JSON:
        return None


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    share = (new.get("spec") or {}).get("targetCPUUtilizationPercentage")
    if share is not None and share < 1:
        yield fields.invalid("spec.targetCPUUtilizationPercentage", share, "must be greater than 0")
    without_metrics = {**new, "spec": {key: value for key, value in (new.get("spec") or {}).items() if key != "metrics"}}
    yield from v2.validate(without_metrics, old)


def defaults(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is not None:
        spec.setdefault("minReplicas", 1)
        if spec.get("targetCPUUtilizationPercentage") is None and _METRICS not in (obj["metadata"].get("annotations") or {}):
            spec["targetCPUUtilizationPercentage"] = 80


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"currentReplicas": 0, "desiredReplicas": 0}


def _targets(view: HorizontalPodAutoscaler, _now_s: float) -> str:
    if view.spec.target_cpu is None:
        return "<none>"
    now = "<unknown>" if view.status.current_cpu is None else f"{view.status.current_cpu}%"
    return f"cpu: {now}/{view.spec.target_cpu}%"


CONVERSION = OneTarget()
KIND = Kind(
    group="autoscaling",
    version="v1",
    kind="HorizontalPodAutoscaler",
    plural="horizontalpodautoscalers",
    singular="horizontalpodautoscaler",
    namespaced=True,
    view=HorizontalPodAutoscaler,
    short_names=("hpa",),
    categories=("all",),
    columns=(NAME, v2.REFERENCE, Column("Targets", _targets, description="What is used now, and what is wanted."), *v2.BOUNDS),
    subresources=(v2.STATUS,),
    has_status=True,
    has_generation=True,
    defaults=defaults,
    prepare=prepare,
    validate=validate,
    storage=v2.KIND,
    conversion=CONVERSION,
    type_defaults={"io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler": TypeDefaults(absent={"spec": {}})},
)
