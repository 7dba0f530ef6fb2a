"""What an autoscaler's metrics ask for, by their types.

    Resource, ContainerResource   the pods' use, from their minions (calculate.py)
    Pods                          a number of each pod, averaged             ─┐
    Object                        a number of one object                      ├ from adapters, other API servers (resources/measures.py)
    External                      numbers of something outside, added up     ─┘

The formulas and words are those of Kubernetes' replica calculator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from labctl.controllers.autoscaling import calculate
from labctl.controllers.autoscaling.calculate import NoCount, Tolerance
from labctl.resources.kinds.autoscaling_v2.horizontalpodautoscaler import Metric, OtherMetric, ResourceMetric
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.measures import CUSTOM, EXTERNAL, MetricReader, Query
from labctl.resources.quantities import format_millicores, to_milli
from labctl.resources.registry import Registry
from labctl.resources.selectors import from_object
from labctl.resources.usage import UsageReader

_EACH = {"Pods": "pods metric", "Object": "object metric"}


class NotYet(Exception):
    """A server is being asked for `query`."""

    def __init__(self, query: Query) -> None:
        self.query = query


class Site(NamedTuple):
    """What one look counts on: the target's pods, its numbers, and who can be asked."""

    namespace: str
    pods: Sequence[Pod]
    selector: str
    wanted: int  # the scale's spec.replicas
    current: int  # its status.replicas
    tolerance: Tolerance
    wall_s: float
    registry: Registry
    usage: UsageReader
    metrics: MetricReader


class Asked(NamedTuple):
    """What one metric asks for, its title in messages, and what status.currentMetrics shows of it."""

    replicas: int
    title: str
    shown: Mapping[str, Any]


def ask(metric: Metric, site: Site) -> Asked:
    """Raises NoCount, whose text is what the autoscaler's condition says, and NotYet."""
    source = metric.resource or metric.container_resource
    if source is not None and metric.type in ("Resource", "ContainerResource"):
        return _resource(metric, source, site)
    if metric.type == "Pods" and metric.pods is not None:
        return _pods(metric.pods, site)
    if metric.type == "Object" and metric.object is not None:
        return _object(metric.object, site)
    if metric.type == "External" and metric.external is not None:
        return _external(metric.external, site)
    raise NoCount(f'unknown metric source type "{metric.type}"')


def failed(metric: Metric, why: str) -> str:
    """Return what the Event about all metrics says of one that failed."""
    source = metric.resource or metric.container_resource
    if source is not None:
        return f"failed to get {source.name} {'container' if metric.container_resource else 'resource'} metric value: {why}"
    if metric.external is not None:
        name = metric.external.metric.name
        inner = f"{name} external metric" if metric.external.target.average_value is not None else f"external metric {name}"
        return f"failed to get {name} external metric value: failed to get {inner}: {why}"
    return f"failed to get {_EACH.get(metric.type, metric.type)} value: {why}"


# -- use


def _resource(metric: Metric, source: ResourceMetric, site: Site) -> Asked:
    by_value = source.target.average_value is not None
    try:
        counted = calculate.count(source, site.pods, site.wanted, site.usage, site.tolerance, site.wall_s)
    except NoCount as why:
        raise NoCount(f"failed to get {source.name} {'usage' if by_value else 'utilization'}: {why}") from None
    current: dict[str, Any] = {"averageValue": format_millicores(counted.average) if source.name == "cpu" else str(counted.average)}
    if counted.share is not None:
        current["averageUtilization"] = counted.share
    kind = "container resource" if metric.container_resource else "resource"
    title = f"{source.name} {kind}" + ("" if by_value else " utilization (percentage of request)")
    if metric.container_resource:
        return Asked(
            counted.replicas,
            title,
            {"type": metric.type, "containerResource": {"name": source.name, "container": source.container, "current": current}},
        )
    return Asked(counted.replicas, title, {"type": metric.type, "resource": {"name": source.name, "current": current}})


# -- what other servers tell


def _pods(source: OtherMetric, site: Site) -> Asked:
    name = source.metric.name
    values = _values(site, _custom(site, source, "pods", "*", site.selector), f"unable to get metric {name}: ")
    if not values:
        raise NoCount(f"unable to get metric {name}: no metrics returned from custom metrics API")
    target = to_milli(source.target.average_value or 0)
    counted = calculate.plain(dict(values), site.pods, site.wanted, target, site.tolerance)
    return Asked(counted.replicas, f"pods metric {name}", _shown("pods", source, averageValue=counted.average))


def _object(source: OtherMetric, site: Site) -> Asked:
    name, about = source.metric.name, source.described_object
    of = f" on {site.namespace} {about.kind}/{about.name}"
    kind = site.registry.of(about.api_version or "v1", about.kind)
    if kind is None:
        raise NoCount(f'unable to get metric {name}: no matches for kind "{about.kind}" in version "{about.api_version or "v1"}"{of}')
    values = _values(site, _custom(site, source, kind.resource, about.name), f"unable to get metric {name}: ", of)
    if not values:
        raise NoCount(f"unable to get metric {name}: no metrics returned from custom metrics API{of}")
    described = {"describedObject": msgspec.to_builtins(about)}
    if source.target.average_value is not None:
        replicas, average = _per_pod(values[0][1], to_milli(source.target.average_value), site)
        return Asked(replicas, _outside(source), _shown("object", source, averageValue=average, **described))
    replicas = _whole(values[0][1], to_milli(source.target.value or 0), site)
    return Asked(replicas, f"{about.kind} metric {name}", _shown("object", source, value=values[0][1], **described))


def _external(source: OtherMetric, site: Site) -> Asked:
    name = source.metric.name
    query = Query(EXTERNAL, site.namespace, name, _selector(source))
    unable = f"unable to get external metric {site.namespace}/{name}/{_go(source.metric.selector)}: "
    values = _values(site, query, unable)
    if not values:
        raise NoCount(f"{unable}no metrics returned from external metrics API")
    total = sum(value for _, value in values)
    if source.target.average_value is not None:
        replicas, average = _per_pod(total, to_milli(source.target.average_value), site)
        return Asked(replicas, _outside(source), _shown("external", source, averageValue=average))
    return Asked(_whole(total, to_milli(source.target.value or 0), site), _outside(source), _shown("external", source, value=total))


def _custom(site: Site, source: OtherMetric, resource: str, name: str, selector: str = "") -> Query:
    return Query(CUSTOM, site.namespace, source.metric.name, _selector(source), resource, name, selector)


def _values(site: Site, query: Query, unable: str, of: str = "") -> Sequence[tuple[str, int]]:
    said = site.metrics.read(query)
    if said is None:
        raise NotYet(query)
    if isinstance(said, str):
        which = "external" if query.group == EXTERNAL else "custom"
        raise NoCount(f"{unable}unable to fetch metrics from {which} metrics API: {said}{of}")
    return said.values


def _whole(value: int, target: int, site: Site) -> int:
    """Return how many replicas bring a number that they all share to its target."""
    ratio = value / target
    if not site.wanted:
        return math.ceil(ratio)
    if site.tolerance.covers(ratio):
        return site.wanted
    if not site.pods:
        raise NoCount("unable to calculate ready pods: no pods returned by selector while calculating replica count")
    return math.ceil(ratio * sum(map(_ready, site.pods)))


def _per_pod(value: int, target: int, site: Site) -> tuple[int, int]:
    """Return how many replicas bring a number's share of each to its target, and that share now."""
    close = site.current and site.tolerance.covers(value / (target * site.current))
    return (site.current if close else math.ceil(value / target)), math.ceil(value / max(1, site.current))


def _ready(pod: Pod) -> bool:
    seen = condition(pod.status.conditions, "Ready")
    return pod.status.phase == "Running" and seen is not None and seen.status == "True"


def _shown(kind: str, source: OtherMetric, value: int | None = None, averageValue: int | None = None, **more: Any) -> Mapping[str, Any]:  # noqa: N803 - the field's name
    current = {"value": value, "averageValue": averageValue}
    identity = {"name": source.metric.name} | ({} if source.metric.selector is None else {"selector": dict(source.metric.selector)})
    shown = {"metric": identity, "current": {key: format_millicores(each) for key, each in current.items() if each is not None}, **more}
    return {"type": kind.capitalize(), kind: shown}


def _selector(source: OtherMetric) -> str:
    return "" if source.metric.selector is None else str(from_object(source.metric.selector))


def _outside(source: OtherMetric) -> str:
    return f"external metric {source.metric.name}({_go(source.metric.selector)})"


def _go(selector: Mapping[str, Any] | None) -> str:
    """Return a label selector as Go prints it, which is how it stands in Kubernetes' messages."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    rules = "".join(
        f"LabelSelectorRequirement{{Key:{each['key']},Operator:{each['operator']},Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{rules}}},}}"
