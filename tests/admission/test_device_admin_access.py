"""Claims for devices that others use: only in namespaces that an admin marked for it."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.admission.builtin import builtin_admission
from labctl.clock import SystemClock
from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.resources.client import Client
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.store.memory import memory_store

CLAIMS, TEMPLATES = "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io"


@pytest.mark.parametrize("resource", [CLAIMS, TEMPLATES])
async def test_admin_access_is_for_namespaces_that_an_admin_marked(resource: str) -> None:
    clock = SystemClock()
    resources = Resources(memory_store(), builtin_registry(), clock, MemoryJournal(clock))
    client = Client(resources)
    resources.use_admission(builtin_admission(client, clock))
    labels = {"resource.kubernetes.io/admin-access": "true"}
    await client.create("namespaces", {"metadata": {"name": "plain"}})
    await client.create("namespaces", {"metadata": {"name": "admins", "labels": labels}})

    async def make(namespace: str, admin: bool) -> None:
        requests = [
            {"name": "own", "exactly": {"deviceClassName": "gpu"}},
            {"name": "all", "exactly": {"deviceClassName": "gpu", "adminAccess": admin}},
        ]
        spec: dict[str, Any] = {"devices": {"requests": requests}}
        metadata = {"name": f"with-{admin}".lower(), "namespace": namespace}
        await client.create(resource, {"metadata": metadata, "spec": spec if resource == CLAIMS else {"spec": spec}})

    await make("plain", False)
    await make("admins", True)
    with pytest.raises(ApiError) as refused:
        await make("plain", True)
    why = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
    assert refused.value.code == 422 and f"spec.devices.requests[1].adminAccess: Forbidden: {why}" in refused.value.message
    await resources.store.close()
