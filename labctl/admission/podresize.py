"""PodResizeValidator: a resize that the pod's node could never carry out is refused before it is stored (KEP-1287).

A validating step, as Kubernetes' plugin of that name (on by default since 1.36). The agent still looks at what it is given, since other pods may be in the way,
and a node may shrink: then the pod's condition PodResizePending says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from labctl.resources import failures, quantities
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kinds.core_v1 import pod_totals
from labctl.resources.plurals import NODES, PODS

_UNITS = {"cpu": 1000, "memory": 1}
"""The resources that can be resized, and how many of the units in which they are told make one."""


class PodResize:
    name = "PodResizeValidator"
    kinds: frozenset[str] | None = frozenset({PODS})
    verbs: frozenset[Verb] = frozenset({"update"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        new, old = attributes.new, attributes.old
        assert new is not None and old is not None
        name = new["spec"].get("nodeName")
        if attributes.subresource != "resize" or not name or new["spec"] == old["spec"]:
            return
        node = self._client.get(NODES, name)
        if node is None:
            raise failures.forbidden(attributes.kind, attributes.name, f'node "{name}" not found')
        system = node.metadata.labels.get("kubernetes.io/os", "linux")
        if system != "linux":
            why = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
            raise failures.forbidden(attributes.kind, attributes.name, why, [{"reason": "UnsupportedPlatform"}])
        requests = pod_totals.with_overhead(new["spec"], "requests")
        lacking = "; ".join(_lacking(requests, {each: quantities.parse(amount) for each, amount in node.status.allocatable.items()}))
        if lacking:
            why = f"node didn't have enough allocatable resources: {lacking}"
            raise failures.forbidden(attributes.kind, attributes.name, why, [{"reason": "NodeCapacity"}])


def _lacking(requests: pod_totals.Usage, allocatable: pod_totals.Usage) -> Iterator[str]:
    for name, units in _UNITS.items():
        asked, there = requests.get(name, Fraction(0)), allocatable.get(name, Fraction(0))
        if asked > there:
            yield f"{name}, requested: {ceil(asked * units)}, allocatable: {ceil(there * units)}"
