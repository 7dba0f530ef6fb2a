"""DefaultIngressClass: a new Ingress that names no class gets the one that is marked as the default, the newest if there are several.

A mutating step, as Kubernetes' plugin of the same name.
"""

from __future__ import annotations

from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import newest

INGRESSES, CLASSES = "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io"
OLD_NAME = "kubernetes.io/ingress.class"


class DefaultIngressClass:
    name = "DefaultIngressClass"
    kinds: frozenset[str] | None = frozenset({INGRESSES})
    verbs: frozenset[Verb] = frozenset({"create"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.new is not None
        spec = attributes.new.setdefault("spec", {})
        if spec.get("ingressClassName") is not None or OLD_NAME in (attributes.new["metadata"].get("annotations") or {}):
            return
        found = newest(each for each in self._client.list(CLASSES) if each.is_default)
        if found is not None:
            spec["ingressClassName"] = found.metadata.name
