"""RuntimeClass: a new pod may name only a RuntimeClass that exists, and gets what that class adds: overhead, node selector, tolerations.

A mutating step, as Kubernetes' plugin of the same name.
"""

from __future__ import annotations

import msgspec

from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.node_v1.runtimeclass import RuntimeClass as Class
from labctl.resources.plurals import PODS, RUNTIME_CLASSES


class RuntimeClass:
    name = "RuntimeClass"
    kinds: frozenset[str] | None = frozenset({PODS})
    verbs: frozenset[Verb] = frozenset({"create"})

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        if attributes.new is None or attributes.subresource:
            return
        spec = attributes.new.setdefault("spec", {})
        name = spec.get("runtimeClassName") or ""
        if not name:
            if spec.get("overhead"):
                raise failures.forbidden(
                    attributes.kind, attributes.name, "pod rejected: Overhead set without corresponding RuntimeClass defined Overhead"
                )
            return
        found: Class | None = self._client.get(RUNTIME_CLASSES, name)
        if found is None:
            raise failures.forbidden(attributes.kind, attributes.name, f'pod rejected: RuntimeClass "{name}" not found')
        self._add(attributes, spec, found)

    def _add(self, attributes: Attributes, spec: Object, class_: Class) -> None:
        if class_.overhead is not None:
            if spec.get("overhead") not in (None, class_.overhead.pod_fixed):
                why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                raise failures.forbidden(attributes.kind, attributes.name, why)
            spec["overhead"] = dict(class_.overhead.pod_fixed)
        if class_.scheduling is None:
            return
        selector = spec.get("nodeSelector") or {}
        if any(selector.get(key, value) != value for key, value in class_.scheduling.node_selector.items()):
            why = "pod rejected: conflict: runtimeClass.scheduling.nodeSelector differs from pod.spec.nodeSelector"
            raise failures.forbidden(attributes.kind, attributes.name, why)
        if class_.scheduling.node_selector:
            spec["nodeSelector"] = {**selector, **class_.scheduling.node_selector}
        added = [_plain(toleration) for toleration in class_.scheduling.tolerations]
        said = spec.get("tolerations") or []
        if added:
            spec["tolerations"] = [*said, *(toleration for toleration in added if toleration not in said)]


def _plain(toleration: object) -> Object:
    said: Object = msgspec.to_builtins(toleration)
    return {key: value for key, value in said.items() if value not in ("", None)}
