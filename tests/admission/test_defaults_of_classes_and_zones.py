"""What the API fills in from other objects: an Ingress' class, and a pod's zone and region from its node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labctl.admission.builtin import builtin_admission
from labctl.clock import SystemClock
from labctl.journal import MemoryJournal
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.service import WriteOptions
from labctl.store.memory import memory_store

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
INGRESSES = "ingresses.networking.k8s.io"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    clock = SystemClock()
    resources = Resources(memory_store(), builtin_registry(), clock, MemoryJournal(clock))
    client = Client(resources)
    resources.use_admission(builtin_admission(client, clock))
    await client.create("namespaces", {"metadata": {"name": "default"}})
    await client.create("nodes", {"metadata": {"name": "n", "labels": {ZONE: "z", REGION: "r", "other": "o"}}})
    yield client
    await resources.store.close()


async def pod(client: Client, name: str, labels: dict[str, str], **spec: Any) -> None:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    await client.create("pods", {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "x"}], **spec}})


def stored(client: Client, resource: str, name: str) -> Object:
    found = client.raw(resource, name)
    assert found is not None
    return found


async def test_a_pod_has_its_nodes_zone_and_region(client: Client) -> None:
    kind = client.resources.registry.get("pods")
    assert kind is not None
    await pod(client, "bound", {"app": "a", ZONE: "mine"})
    assert stored(client, "pods", "default/bound")["metadata"]["labels"] == {"app": "a", ZONE: "mine"}
    binding = {"metadata": {"annotations": {"by": "hand"}, "labels": {"rack": "7"}}, "target": {"kind": "Node", "name": "n"}}
    await client.resources.create(kind, "default", binding, WriteOptions(), "bound", "binding")
    metadata = stored(client, "pods", "default/bound")["metadata"]
    assert metadata["labels"] == {"app": "a", ZONE: "z", REGION: "r", "rack": "7"} and metadata["annotations"]["by"] == "hand"
    await pod(client, "made", {"app": "a"}, nodeName="n")
    assert stored(client, "pods", "default/made")["metadata"]["labels"] == {"app": "a", ZONE: "z", REGION: "r"}
    await pod(client, "lost", {"app": "a"}, nodeName="gone")
    assert stored(client, "pods", "default/lost")["metadata"]["labels"] == {"app": "a"}


async def test_an_ingress_gets_the_newest_default_class(client: Client) -> None:
    async def ingress(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> str | None:
        backend = {"service": {"name": "s", "port": {"number": 80}}}
        metadata = {"name": name, "namespace": "default", "annotations": annotations or {}}
        await client.create(INGRESSES, {"metadata": metadata, "spec": {"defaultBackend": backend, **spec}})
        found: str | None = stored(client, INGRESSES, f"default/{name}")["spec"].get("ingressClassName")
        return found

    assert await ingress("none") is None
    for name, is_default in (("plain", "false"), ("b", "true"), ("a", "true")):
        metadata = {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": is_default}}
        await client.create("ingressclasses.networking.k8s.io", {"metadata": metadata, "spec": {"controller": "example.com/c"}})
    made = {each: stored(client, "ingressclasses.networking.k8s.io", each)["metadata"]["creationTimestamp"] for each in ("a", "b")}
    assert await ingress("silent") == ("a" if made["a"] >= made["b"] else "b")
    assert await ingress("own", ingressClassName="plain") == "plain"
    assert await ingress("old", {"kubernetes.io/ingress.class": "plain"}) is None
