"""Access to devices beside their owners (`adminAccess`, KEP-5018) is for claims in namespaces that an admin marked for it.

A validating step, though it is part of the kinds' own validation in Kubernetes: it must know the claim's namespace.
"""

from __future__ import annotations

from labctl.resources import failures, fields
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.plurals import NAMESPACES

LABEL = "resource.kubernetes.io/admin-access"
_CLAIMS, _TEMPLATES = "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io"


class DeviceAdminAccess:
    name = "DeviceAdminAccess"
    kinds: frozenset[str] | None = frozenset({_CLAIMS, _TEMPLATES})
    verbs: frozenset[Verb] = frozenset({"create"})  # the spec of neither can be changed

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admit(self, attributes: Attributes) -> None:
        obj = attributes.new
        assert obj is not None
        spec = obj.get("spec") or {}
        if attributes.kind.resource == _TEMPLATES:
            spec = spec.get("spec") or {}
        requests = (spec.get("devices") or {}).get("requests") or ()
        wanted = next((index for index, each in enumerate(requests) if (each.get("exactly") or {}).get("adminAccess")), None)
        if wanted is None:
            return
        namespace = self._client.get(NAMESPACES, obj["metadata"]["namespace"])
        if namespace is not None and namespace.metadata.labels.get(LABEL) == "true":
            return
        why = f"admin access to devices requires the `{LABEL}: true` label on the containing namespace"
        error = fields.forbidden(f"spec.devices.requests[{wanted}].adminAccess", why)
        raise failures.invalid(attributes.kind, attributes.name, [error])
