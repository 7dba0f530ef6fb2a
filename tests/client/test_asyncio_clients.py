"""`kubernetes_asyncio`, and the copy of it that the official client carries since version 36 (`kubernetes.aio`): the same flows by both."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest

PATIENCE_S = 30
CONFIG_MAPS = {"apiVersion": "v1", "kind": "ConfigMap"}


@pytest.fixture(params=["kubernetes_asyncio", "kubernetes.aio"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    for part in ("client", "config", "watch", "dynamic", "utils"):
        pytest.importorskip(f"{request.param}.{part}")
    return importlib.import_module(request.param)


@pytest.fixture
async def api_client(labctl_api: Any, library: ModuleType) -> AsyncIterator[Any]:
    made = await library.config.new_client_from_config(str(labctl_api.kubeconfig))
    async with made:
        yield made


async def test_a_deployment_from_create_to_delete(labctl_api: Any, library: ModuleType, api_client: Any) -> None:
    namespace, apps, core = labctl_api.namespace, library.client.AppsV1Api(api_client), library.client.CoreV1Api(api_client)
    pod = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}
    body = {"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": pod}}
    await apps.create_namespaced_deployment(namespace, body)
    async with asyncio.timeout(PATIENCE_S), library.watch.Watch() as watching:
        async for event in watching.stream(apps.list_namespaced_deployment, namespace, timeout_seconds=PATIENCE_S):
            if event["object"].status.ready_replicas == 3:
                break
    first = await core.list_namespaced_pod(namespace, limit=2)
    rest = await core.list_namespaced_pod(namespace, limit=2, _continue=first.metadata._continue)
    assert len(first.items) == 2 and len(rest.items) == 1 and not rest.metadata._continue
    await apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 1}})
    kept = await core.create_namespaced_config_map(namespace, {"metadata": {"name": "kept"}})
    kept.data = {"a": "1"}
    assert (await core.replace_namespaced_config_map("kept", namespace, kept)).data == {"a": "1"}
    with pytest.raises(library.client.ApiException) as stale:
        await core.replace_namespaced_config_map("kept", namespace, kept)
    assert stale.value.status == 409
    await apps.delete_collection_namespaced_deployment(namespace, propagation_policy="Foreground")
    async with asyncio.timeout(PATIENCE_S):
        while (await core.list_namespaced_pod(namespace)).items:
            await asyncio.sleep(0.05)


async def test_a_watch_goes_on_where_it_was(labctl_api: Any, library: ModuleType, api_client: Any) -> None:
    namespace, core = labctl_api.namespace, library.client.CoreV1Api(api_client)

    async def follow(version: str, most: int) -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []
        async with asyncio.timeout(PATIENCE_S), library.watch.Watch() as watching:
            wanted = {"resource_version": version, "allow_watch_bookmarks": True, "timeout_seconds": PATIENCE_S}
            async for event in watching.stream(core.list_namespaced_config_map, namespace, label_selector="seen", **wanted):
                if event["type"] != "BOOKMARK":
                    seen.append((event["type"], event["object"].metadata.name))
                if len(seen) == most:
                    break
        return seen

    begun = (await core.list_namespaced_config_map(namespace)).metadata.resource_version
    following = asyncio.create_task(follow(begun, 2))
    for name in ("one", "two"):
        made = await core.create_namespaced_config_map(namespace, {"metadata": {"name": name, "labels": {"seen": "yes"}}})
    assert await following == [("ADDED", "one"), ("ADDED", "two")]
    await core.delete_namespaced_config_map("one", namespace)
    assert await follow(made.metadata.resource_version, 1) == [("DELETED", "one")]


async def test_the_dynamic_client_applies(labctl_api: Any, library: ModuleType, api_client: Any) -> None:
    namespace, kinds = labctl_api.namespace, await library.dynamic.DynamicClient(api_client)
    maps = await kinds.resources.get(api_version="v1", kind="ConfigMap")
    body = {**CONFIG_MAPS, "metadata": {"name": "c"}, "data": {"a": "1"}}
    applied = await maps.server_side_apply(body=body, name="c", namespace=namespace, field_manager="one")
    assert applied.data.to_dict() == {"a": "1"}
    try:  # one of them raises, the other returns the Status
        refused = str(await maps.server_side_apply(body={**body, "data": {"a": "2"}}, name="c", namespace=namespace, field_manager="two"))
    except library.dynamic.exceptions.ConflictError as error:
        refused = str(error.body)
    assert "Apply failed with 1 conflict" in refused
    forced = {"field_manager": "two", "force_conflicts": True}
    assert (await maps.server_side_apply(body={**body, "data": {"a": "2"}}, name="c", namespace=namespace, **forced)).data.a == "2"
    deployments = await kinds.resources.get(api_version="apps/v1", kind="Deployment")
    assert (await deployments.get(namespace=namespace)).items == []


async def test_manifests_from_dicts(labctl_api: Any, library: ModuleType, api_client: Any) -> None:
    bodies = [{**CONFIG_MAPS, "metadata": {"name": name}} for name in ("a", "b")]
    for body in bodies:
        await library.utils.create_from_dict(api_client, body, namespace=labctl_api.namespace)
    with pytest.raises(library.utils.FailToCreateError):
        await library.utils.create_from_dict(api_client, bodies[0], namespace=labctl_api.namespace)
