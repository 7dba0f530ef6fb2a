"""Changes of pods that only some nodes can carry out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from labctl.admission.builtin import builtin_admission
from labctl.admission.nodedeclaredfeatures import GUARANTEED_CPU, POD_LEVEL
from labctl.clock import SystemClock
from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.resources.client import Client
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.service import WriteOptions
from labctl.store.memory import memory_store


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    clock = SystemClock()
    resources = Resources(memory_store(), builtin_registry(), clock, MemoryJournal(clock))
    client = Client(resources)
    resources.use_admission(builtin_admission(client, clock))
    await client.create("namespaces", {"metadata": {"name": "default"}})
    for name, features in (("plain", []), ("able", [GUARANTEED_CPU, POD_LEVEL])):
        await client.create(
            "nodes", {"metadata": {"name": name}, "status": {"declaredFeatures": features, "allocatable": {"cpu": "8", "memory": "8Gi"}}}
        )
    yield client
    await resources.store.close()


async def resized(client: Client, node: str, spec: dict[str, Any], patch: dict[str, Any], subresource: str = "resize") -> None:
    whole = {"containers": [{"name": "c", "image": "i"}], "nodeName": node, **spec}
    kind = client.resources.registry["pods"]
    await client.create("pods", {"metadata": {"name": f"on-{node}", "namespace": "default"}, "spec": whole})
    type_ = "application/strategic-merge-patch+json"
    await client.resources.patch(kind, "default", f"on-{node}", {"spec": patch}, type_, WriteOptions(), subresource)


def amounts(cpu: str, memory: str = "1Gi") -> dict[str, Any]:
    each = {"cpu": cpu, "memory": memory}
    return {"resources": {"requests": each, "limits": each}}


def container(**resources: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "i", **resources}]}


CASES = [
    (container(**amounts("1")), container(**amounts("2")), GUARANTEED_CPU),
    (amounts("1"), amounts("2"), POD_LEVEL),
]


@pytest.mark.parametrize(("before", "after", "feature"), CASES)
async def test_what_a_node_does_not_declare_is_refused(client: Client, before: dict[str, Any], after: dict[str, Any], feature: str) -> None:
    await resized(client, "able", before, after)
    words = f'pods "on-plain" is forbidden: pod update requires features {feature} which are not available on node "plain"'
    with pytest.raises(ApiError) as caught:
        await resized(client, "plain", before, after)
    assert (caught.value.code, caught.value.message) == (403, words)


async def test_a_node_that_is_gone_declares_nothing(client: Client) -> None:
    with pytest.raises(ApiError, match='node "gone" not found'):
        await resized(client, "gone", amounts("1"), amounts("2"))


@pytest.mark.parametrize(
    ("before", "after", "subresource"),
    [
        (container(**amounts("1")), container(**amounts("1000m", "2Gi")), "resize"),
        (container(resources={"requests": {"cpu": "1"}}), container(resources={"requests": {"cpu": "2"}}), "resize"),
        (container(**amounts("1")), {"activeDeadlineSeconds": 5}, ""),
    ],
    ids=["memory", "burstable", "another-field"],
)
async def test_other_changes_need_nothing(client: Client, before: dict[str, Any], after: dict[str, Any], subresource: str) -> None:
    await resized(client, "plain", before, after, subresource)
