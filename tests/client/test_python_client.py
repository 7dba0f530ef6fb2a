"""The official Python client against a real server. It is synchronous, so each call runs in a thread while the server's loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

from tests.inprocess import ApiServer


@pytest.fixture
def core(api: ApiServer) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig)))


async def away(call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(call, *arguments, **more), 20)


def pod(name: str) -> client.V1Pod:
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels={"app": "a"}),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="nginx", resources={"limits": {"cpu": "500m"}})]),
    )


async def test_create_read_patch_replace_delete(core: client.CoreV1Api) -> None:
    made = await away(core.create_namespaced_pod, "default", pod("p"))
    assert made.metadata.uid and made.spec.containers[0].image_pull_policy == "Always"
    read = await away(core.read_namespaced_pod, "p", "default")
    assert read.metadata.resource_version == made.metadata.resource_version
    patched = await away(core.patch_namespaced_pod, "p", "default", {"metadata": {"labels": {"b": "c"}}})
    assert patched.metadata.labels == {"app": "a", "b": "c"}
    patched.metadata.labels["d"] = "e"
    replaced = await away(core.replace_namespaced_pod, "p", "default", patched)
    assert replaced.metadata.labels["d"] == "e"
    with pytest.raises(ApiException) as stale:
        await away(core.replace_namespaced_pod, "p", "default", read)
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    await away(core.delete_namespaced_pod, "p", "default", grace_period_seconds=0)
    with pytest.raises(ApiException) as gone:
        await away(core.read_namespaced_pod, "p", "default")
    assert gone.value.status == 404


async def test_lists_in_pieces_and_by_label(core: client.CoreV1Api) -> None:
    for number in range(5):
        await away(core.create_namespaced_pod, "default", pod(f"p{number}"))
    first = await away(core.list_namespaced_pod, "default", limit=2)
    assert [p.metadata.name for p in first.items] == ["p0", "p1"]
    assert first.metadata.remaining_item_count == 3
    rest = await away(core.list_namespaced_pod, "default", _continue=first.metadata._continue)
    assert [p.metadata.name for p in rest.items] == ["p2", "p3", "p4"]
    assert len((await away(core.list_pod_for_all_namespaces, label_selector="app in (a,b)")).items) == 5
    assert not (await away(core.list_namespaced_pod, "default", label_selector="app!=a")).items


async def test_a_watch(core: client.CoreV1Api) -> None:
    def follow() -> list[tuple[str, str]]:
        seen = []
        for event in watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=10):
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) == 3:
                return seen
        return seen

    following = asyncio.create_task(away(follow))
    await away(core.create_namespaced_pod, "default", pod("p"))
    await away(core.patch_namespaced_pod, "p", "default", {"metadata": {"labels": {"b": "c"}}})
    await away(core.delete_namespaced_pod, "p", "default", grace_period_seconds=0)
    seen = await following
    assert seen[0] == ("ADDED", "p") and seen[-1][0] == "DELETED"


async def test_scale(core: client.CoreV1Api) -> None:
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels={"a": "b"}), spec=pod("x").spec)
    rc = client.V1ReplicationController(
        metadata=client.V1ObjectMeta(name="r"), spec=client.V1ReplicationControllerSpec(replicas=1, selector={"a": "b"}, template=template)
    )
    await away(core.create_namespaced_replication_controller, "default", rc)
    scale = await away(core.read_namespaced_replication_controller_scale, "r", "default")
    assert (scale.spec.replicas, scale.status.selector) == (1, "a=b")
    await away(core.patch_namespaced_replication_controller_scale, "r", "default", {"spec": {"replicas": 3}})
    assert (await away(core.read_namespaced_replication_controller, "r", "default")).spec.replicas == 3
