"""LimitRanger: a container that asks for nothing gets the namespace's defaults; who asks for too much or too little is refused.

The words are those of Kubernetes' plugin of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labctl.resources import failures, quantities
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.core_v1 import pod_totals
from labctl.resources.kinds.core_v1.limitrange import LimitRange, LimitRangeItem

LIMIT_RANGES = "limitranges"
ANNOTATION = "kubernetes.io/limit-ranger"
_POD_PARTS = ("containers", "initContainers")


class LimitDefaults:
    """A mutating step: limits and requests of containers that name none."""

    name = "LimitRanger"
    kinds: frozenset[str] | None = frozenset({"pods"})
    verbs: frozenset[Verb] = frozenset({"create"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        ranges: list[LimitRange] = self._client.list(LIMIT_RANGES, attributes.namespace)
        if not ranges or attributes.new is None:
            return
        items = [item for each in ranges for item in each.spec.limits if item.type == "Container"]
        said = [words for item in items for words in _fill(attributes.new.get("spec") or {}, item)]
        if said:
            annotations = attributes.new["metadata"].setdefault("annotations", {})
            annotations[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(said)


def _fill(spec: Object, item: LimitRangeItem) -> Iterator[str]:
    for part, what in zip(_POD_PARTS, ("container", "init container"), strict=True):
        for container in spec.get(part) or ():
            resources = container.setdefault("resources", {})
            own = dict(resources.get("limits") or {})
            for field, defaults, word in (("limits", item.default, "limit"), ("requests", item.default_request, "request")):
                added = [name for name in sorted(defaults) if name not in (resources.get(field) or {})]
                if field == "requests":  # a limit that the author wrote is a request as well, and goes before the default
                    added = [name for name in added if name not in own]
                    if own:
                        resources[field] = {**own, **(resources.get(field) or {})}
                if added:
                    resources[field] = {**(resources.get(field) or {}), **{name: defaults[name] for name in added}}
                    yield f"{', '.join(added)} {word} for {what} {container.get('name', '')}"


class LimitRanger:
    """A validating step: minima, maxima and ratios."""

    name = "LimitRanger"
    kinds: frozenset[str] | None = frozenset({"pods", "persistentvolumeclaims"})
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        resizes = attributes.subresource == "resize"
        if attributes.new is None or (attributes.subresource and not resizes):
            return
        if attributes.verb == "update" and attributes.kind.resource == "pods" and not resizes:
            return
        ranges: list[LimitRange] = self._client.list(LIMIT_RANGES, attributes.namespace)
        wrong = [words for each in ranges for item in each.spec.limits for words in _wrong(attributes, item)]
        if wrong:
            shown = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
            raise failures.forbidden(attributes.kind, attributes.name, shown)


def _wrong(attributes: Attributes, item: LimitRangeItem) -> Iterator[str]:
    assert attributes.new is not None
    spec = attributes.new.get("spec") or {}
    if attributes.kind.resource == "persistentvolumeclaims":
        if item.type == "PersistentVolumeClaim":
            yield from _compare(item, (spec.get("resources") or {}).get("requests") or {}, {})
    elif item.type == "Container":
        for part in _POD_PARTS:
            for container in spec.get(part) or ():
                resources = container.get("resources") or {}
                yield from _compare(item, resources.get("requests") or {}, resources.get("limits") or {})
    elif item.type == "Pod":
        yield from _compare(item, _total(spec, "requests"), _total(spec, "limits"))


def _total(spec: Object, part: str) -> dict[str, str]:
    return {name: quantities.text(total) for name, total in pod_totals.total(spec, part).items()}


def _compare(item: LimitRangeItem, requests: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[str]:
    for name, bound in sorted(item.min.items()):
        words = f"minimum {name} usage per {item.type} is {bound}"
        if name not in requests:
            yield f"{words}.  No request is specified"
        elif quantities.compare(requests[name], bound) < 0:
            yield f"{words}, but request is {requests[name]}"
        elif name in limits and quantities.compare(limits[name], bound) < 0:
            yield f"{words}, but limit is {limits[name]}"
    for name, bound in sorted(item.max.items()):
        words = f"maximum {name} usage per {item.type} is {bound}"
        claim = item.type == "PersistentVolumeClaim"
        if not claim and name not in limits:
            yield f"{words}.  No limit is specified"
        elif name in limits and quantities.compare(limits[name], bound) > 0:
            yield f"{words}, but limit is {limits[name]}"
        elif name in requests and quantities.compare(requests[name], bound) > 0:
            yield f"{words}, but request is {requests[name]}"
    for name, bound in sorted(item.max_limit_request_ratio.items()):
        yield from _ratio(item, name, bound, requests.get(name), limits.get(name))


def _ratio(item: LimitRangeItem, name: str, bound: Any, request: Any, limit: Any) -> Iterator[str]:
    words = f"{name} max limit to request ratio per {item.type} is {bound}"
    for what, said in (("request", request), ("limit", limit)):
        if said is None or not quantities.parse(said):
            yield f"{words}, but no {what} is specified or {what} is 0"
            return
    ratio = quantities.parse(limit) / quantities.parse(request)
    if ratio > quantities.parse(bound):
        yield f"{words}, but provided ratio is {float(ratio):f}"
