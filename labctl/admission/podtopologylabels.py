"""PodTopologyLabels: a pod has its node's zone and region as labels of its own (KEP-4742), so that its programs can be told them by the downward API.

A mutating step, as Kubernetes' plugin of the same name: of the Binding, whose labels the pod is given, and of new pods that name their node themselves.
The node knows better: what the pod said before is replaced.
"""

from __future__ import annotations

from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kinds.core_v1.node import ZONE
from labctl.resources.plurals import NODES, PODS

LABELS = (ZONE, "topology.kubernetes.io/region")


class PodTopologyLabels:
    name = "PodTopologyLabels"
    kinds: frozenset[str] | None = frozenset({PODS})
    verbs: frozenset[Verb] = frozenset({"create", "post"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        new = attributes.new
        if new is None:
            return
        if attributes.verb == "create":
            name = "" if attributes.subresource else (new.get("spec") or {}).get("nodeName")
        else:
            target = new.get("target") or {} if attributes.subresource == "binding" else {}
            name = target.get("name") if target.get("kind") == "Node" else ""
        node = self._client.get(NODES, name) if name else None
        found = {key: node.metadata.labels[key] for key in LABELS if key in node.metadata.labels} if node is not None else {}
        if found:
            metadata = new.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **found}
