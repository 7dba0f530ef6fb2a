"""DefaultTolerationSeconds: how long a pod stays on a node that is not ready or unreachable, where its author did not say.

A mutating step at creation and update, as Kubernetes' plugin of the same name: who replaces a pod with a file that says no tolerations takes none away.
The time is the setting `nodes.evict_s`, which is Kubernetes' 300 s by default.
"""

from __future__ import annotations

from labctl.resources.admission import Attributes, Verb
from labctl.resources.kind import Object
from labctl.resources.plurals import PODS
from labctl.resources.taints import NOT_READY, UNREACHABLE


class DefaultTolerationSeconds:
    name = "DefaultTolerationSeconds"
    kinds: frozenset[str] | None = frozenset({PODS})
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, stays_s: float) -> None:
        self._stays_s = int(stays_s)

    async def admit(self, attributes: Attributes) -> None:
        if attributes.new is None or attributes.subresource:
            return
        spec = attributes.new.setdefault("spec", {})
        said = spec.get("tolerations") or []
        missing = [key for key in (NOT_READY, UNREACHABLE) if not any(_speaks_of(toleration, key) for toleration in said)]
        if missing:
            spec["tolerations"] = [*said, *(self._toleration(key) for key in missing)]

    def _toleration(self, key: str) -> Object:
        return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": self._stays_s}


def _speaks_of(toleration: Object, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")
