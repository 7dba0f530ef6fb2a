"""kr8s: objects that one scales, waits for, labels and deletes, by its asynchronous and its synchronous faces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("kr8s")
import kr8s  # noqa: E402 - only where it is installed
import kr8s.asyncio  # noqa: E402
import kr8s.objects  # noqa: E402
from kr8s.asyncio.objects import ConfigMap, Deployment, Service, new_class  # noqa: E402

from tests.client.test_kopf_custom import definition  # noqa: E402

PATIENCE_S = 30
POD = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}
WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": POD},
}


@pytest.fixture
async def api(labctl_api: Any) -> Any:
    return await kr8s.asyncio.api(kubeconfig=str(labctl_api.kubeconfig), namespace=labctl_api.namespace)


async def test_a_deployment(api: Any) -> None:
    web = await Deployment(WEB, api=api)
    await web.create()
    await web.wait("condition=Available", timeout=PATIENCE_S)
    assert [pod.status.phase for pod in await web.pods()] == ["Running"] * 2
    await web.scale(3)
    async with asyncio.timeout(PATIENCE_S):
        while not await web.ready():
            await asyncio.sleep(0.05)
    await web.wait("jsonpath='{.status.readyReplicas}'=3", timeout=PATIENCE_S)
    await web.label({"tier": "front"})
    await web.annotate(note="kept")
    await web.remove_label("tier")
    assert "tier" not in web.labels and web.annotations["note"] == "kept"
    [found] = [each async for each in api.get("deploy", label_selector={}, field_selector="metadata.name=web")]
    assert found.name == "web"
    service = await Service({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}, api=api)
    await service.create()
    assert len(await service.ready_pods()) == 3
    await web.delete(propagation_policy="Foreground")
    await web.wait("delete", timeout=PATIENCE_S)
    assert not await web.exists() and not [pod async for pod in api.get("pods")]


async def test_a_watch_and_patches(api: Any) -> None:
    kept = await ConfigMap({"metadata": {"name": "c", "labels": {"kept": "yes"}}, "data": {"a": "1"}}, api=api)
    await kept.create()
    seen = []

    async def follow() -> None:
        async for event, each in api.watch("configmaps", label_selector="kept=yes"):
            seen.append((event, each.data))
            if event == "DELETED":
                return

    following = asyncio.create_task(follow())
    async with asyncio.timeout(PATIENCE_S):
        while not seen:
            await asyncio.sleep(0.02)
        await kept.patch({"data": {"b": "2"}})
        await kept.patch([{"op": "remove", "path": "/data/a"}], type="json")
        await kept.delete()
        await following
    assert [(event, each) for event, each in seen if event != "DELETED"] == [("ADDED", {"a": "1"}), ("MODIFIED", {"a": "1", "b": "2"}), ("MODIFIED", {"b": "2"})]  # fmt: skip


async def test_a_kind_of_ones_own_and_its_children(labctl_api: Any, api: Any) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    labctl_api.apply(definition("ships", "Ship", "kr8s.example.com", "Namespaced", schema))
    labctl_api.kubectl("wait", "--for=condition=Established", "crd/ships.kr8s.example.com", "--timeout=10s")
    ship_class = new_class(kind="Ship", version="kr8s.example.com/v1", namespaced=True)
    ship = await ship_class({"metadata": {"name": "argo"}, "spec": {"oars": 50}}, api=api)
    await ship.create()
    child = await ConfigMap({"metadata": {"name": "cargo"}}, api=api)
    await child.create()
    await ship.adopt(child)
    assert child.metadata.ownerReferences[0].kind == "Ship"
    await ship.delete()
    async with asyncio.timeout(PATIENCE_S):
        while await child.exists():
            await asyncio.sleep(0.05)


async def test_nodes_are_cordoned_and_whoami(api: Any) -> None:
    [node, *_] = [each async for each in api.get("nodes")]
    await node.cordon()
    assert node.spec.unschedulable
    await node.uncordon()
    assert not node.unschedulable and await api.whoami() and (await api.version())["major"] == "1"
    assert any(each["name"] == "deployments" for each in await api.api_resources())


def test_its_synchronous_face(labctl_api: Any) -> None:
    api = kr8s.api(kubeconfig=str(labctl_api.kubeconfig), namespace=labctl_api.namespace)
    pod = kr8s.objects.Pod.gen(name="one", image="nginx")
    pod.create()
    pod.wait("condition=Ready", timeout=PATIENCE_S)
    assert [each.name for each in api.get("pods", namespace=labctl_api.namespace)] == ["one"]
    pod.delete()
    pod.wait("delete", timeout=PATIENCE_S)
