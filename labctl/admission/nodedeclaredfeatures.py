"""NodeDeclaredFeatureValidator: a pod on a node may be changed only in ways that the node says it can carry out (KEP-5328).

A validating step, as Kubernetes' plugin of that name. What a node can is in its `status.declaredFeatures`; the scheduler asks for what a new pod needs.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.plurals import NODES, PODS
from labctl.resources.quantities import parse

GUARANTEED_CPU = "GuaranteedQoSPodCPUResize"
POD_LEVEL = "InPlacePodLevelResourcesVerticalScaling"


class NodeDeclaredFeatures:
    name = "NodeDeclaredFeatureValidator"
    kinds: frozenset[str] | None = frozenset({PODS})
    verbs: frozenset[Verb] = frozenset({"update"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        new, old = attributes.new, attributes.old
        assert new is not None and old is not None
        name = new["spec"].get("nodeName")
        if attributes.subresource not in ("", "resize") or not name or new["spec"] == old["spec"]:
            return
        needed = list(_needed(new["spec"], old["spec"], (old.get("status") or {}).get("qosClass", "")))
        if not needed:
            return
        node = self._client.get(NODES, name)
        if node is None:
            raise failures.forbidden(attributes.kind, attributes.name, f'node "{name}" not found')
        lacking = [feature for feature in needed if feature not in node.status.declared_features]
        if lacking:
            why = f'pod update requires features {", ".join(lacking)} which are not available on node "{name}"'
            raise failures.forbidden(attributes.kind, attributes.name, why)


def _needed(new: Object, old: Object, qos: str) -> Iterator[str]:
    """Yields the features that a node needs to carry this change out."""
    pairs = zip(new.get("containers") or (), old.get("containers") or (), strict=False)
    if qos == "Guaranteed" and any(_cpu(one) != _cpu(other) for one, other in pairs):
        yield GUARANTEED_CPU
    if (new.get("resources") or {}) != (old.get("resources") or {}):
        yield POD_LEVEL


def _cpu(container: Object) -> object:
    return parse(((container.get("resources") or {}).get("requests") or {}).get("cpu", 0))
