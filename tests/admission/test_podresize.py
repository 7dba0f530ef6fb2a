"""A resize that the pod's node could never carry out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from labctl.admission.builtin import builtin_admission
from labctl.clock import SystemClock
from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.resources.client import Client
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.service import WriteOptions
from labctl.store.memory import memory_store

NO_ROOM = "node didn't have enough allocatable resources"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    clock = SystemClock()
    resources = Resources(memory_store(), builtin_registry(), clock, MemoryJournal(clock))
    client = Client(resources)
    resources.use_admission(builtin_admission(client, clock))
    await client.create("namespaces", {"metadata": {"name": "default"}})
    for name, system in (("here", "linux"), ("elsewhere", "windows")):
        allocatable = {"cpu": "2", "memory": "1Gi", "pods": "10"}
        labels = {"kubernetes.io/os": system}
        await client.create("nodes", {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}})
    yield client
    await resources.store.close()


async def resized(client: Client, node: str, **requests: str) -> None:
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}}]}
    await client.create("pods", {"metadata": {"name": "web", "namespace": "default"}, "spec": spec | ({"nodeName": node} if node else {})})
    patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}
    type_ = "application/strategic-merge-patch+json"
    await client.resources.patch(client.resources.registry["pods"], "default", "web", patch, type_, WriteOptions(), "resize")


@pytest.mark.parametrize(
    ("node", "requests", "why"),
    [
        ("here", {"cpu": "2"}, None),
        ("here", {"cpu": "2001m"}, f"{NO_ROOM}: cpu, requested: 2001, allocatable: 2000"),
        ("here", {"cpu": "900", "memory": "2Gi"}, f"{NO_ROOM}: cpu, requested: 900000, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824"),
        ("elsewhere", {"cpu": "900"}, 'pod resize is only supported on linux nodes, node "elsewhere" is "windows"'),
        ("gone", {"cpu": "2"}, 'node "gone" not found'),
        ("", {"cpu": "900"}, None),
    ],
)  # fmt: skip
async def test_a_resize_that_no_pod_of_the_node_could_get_is_refused(
    client: Client, node: str, requests: dict[str, str], why: str | None
) -> None:
    if why is None:
        await resized(client, node, **requests)
        return
    with pytest.raises(ApiError) as refused:
        await resized(client, node, **requests)
    assert refused.value.code == 403 and refused.value.message == f'pods "web" is forbidden: {why}'
    if node == "here":
        assert refused.value.details and refused.value.details["causes"] == [{"reason": "NodeCapacity"}]
