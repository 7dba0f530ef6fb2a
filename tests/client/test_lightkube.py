"""lightkube: typed objects, apply by a field manager, waits by conditions, watches, and custom kinds made at run time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("lightkube")
from lightkube import ApiError, Client, KubeConfig, codecs, operators  # noqa: E402 - only where it is installed
from lightkube.core.exceptions import ConditionError  # noqa: E402
from lightkube.generic_resource import create_namespaced_resource, load_in_cluster_generic_resources  # noqa: E402
from lightkube.models.apps_v1 import DeploymentSpec  # noqa: E402
from lightkube.models.autoscaling_v1 import ScaleSpec  # noqa: E402
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec  # noqa: E402
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta  # noqa: E402
from lightkube.resources.apps_v1 import Deployment  # noqa: E402
from lightkube.resources.core_v1 import ConfigMap, Node, Pod  # noqa: E402
from lightkube.types import CascadeType, PatchType  # noqa: E402

from tests.client.test_kopf_custom import definition  # noqa: E402

OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture
def client(labctl_api: Any) -> Iterator[Client]:
    with Client(KubeConfig.from_file(labctl_api.kubeconfig).get(), namespace=labctl_api.namespace, field_manager="lightkube-test") as made:
        yield made


def deployment(replicas: int) -> Deployment:
    labels = {"app": "web"}
    pod = PodTemplateSpec(metadata=ObjectMeta(labels=labels), spec=PodSpec(containers=[Container(name="web", image="nginx")]))
    spec = DeploymentSpec(replicas=replicas, selector=LabelSelector(matchLabels=labels), template=pod)
    return Deployment(metadata=ObjectMeta(name="web"), spec=spec)


def test_a_deployment(labctl_api: Any, client: Client) -> None:
    client.apply(deployment(2))
    client.wait(Deployment, "web", for_conditions=["Available"])
    assert [pod.status.phase for pod in client.list(Pod, labels={"app": operators.in_(["web", "other"])}, chunk_size=1)] == ["Running"] * 2
    again = client.apply(deployment(3), force=True)
    assert again.spec.replicas == 3 and again.metadata.generation == 2
    assert client.get(Deployment.Scale, "web").spec.replicas == 3
    client.replace(Deployment.Scale(metadata=ObjectMeta(name="web"), spec=ScaleSpec(replicas=1)), "web")
    labctl_api.wait(lambda: client.get(Deployment.Status, "web").status.replicas == 1)
    with pytest.raises(ApiError) as conflict:
        client.apply(deployment(5), field_manager="somebody-else")
    assert conflict.value.status.code == 409 and conflict.value.status.details.causes[0].reason == "FieldManagerConflict"
    client.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)
    labctl_api.wait(lambda: not list(client.list(Pod)))
    assert len(list(client.list(Node))) == 2


def test_patches_and_a_watch(client: Client) -> None:
    made = client.create(ConfigMap(metadata=ObjectMeta(name="c"), data={"a": "1"}), dry_run=True)
    assert made.metadata.uid and not list(client.list(ConfigMap, fields={"metadata.name": "c"}))
    begun = client.create(ConfigMap(metadata=ObjectMeta(name="c"), data={"a": "1"})).metadata.resourceVersion
    client.patch(ConfigMap, "c", {"data": {"b": "2"}}, patch_type=PatchType.MERGE)
    client.patch(ConfigMap, "c", [{"op": "remove", "path": "/data/a"}], patch_type=PatchType.JSON)
    client.patch(ConfigMap, "c", {"data": {"c": "3"}})
    seen = []
    for kind, each in client.watch(ConfigMap, resource_version=begun, fields={"metadata.name": "c"}, server_timeout=20):
        seen.append((kind, each.data))
        if len(seen) == 3:
            break
    assert seen == [("MODIFIED", {"a": "1", "b": "2"}), ("MODIFIED", {"b": "2"}), ("MODIFIED", {"b": "2", "c": "3"})]
    assert client.set(ConfigMap, "c", labels={"seen": "yes"}).metadata.labels == {"seen": "yes"}
    client.deletecollection(ConfigMap)
    assert not list(client.list(ConfigMap, labels={"seen": operators.exists()}))


def test_a_kind_of_ones_own(labctl_api: Any, client: Client) -> None:
    schema = {"type": "object", "properties": {"spec": OPEN, "status": OPEN}}
    labctl_api.apply(definition("boats", "Boat", "lightkube.example.com", "Namespaced", schema, subresources={"status": {}}))
    labctl_api.kubectl("wait", "--for=condition=Established", "crd/boats.lightkube.example.com", "--timeout=10s")
    load_in_cluster_generic_resources(client)
    [loaded] = codecs.load_all_yaml("{apiVersion: lightkube.example.com/v1, kind: Boat, metadata: {name: ark}, spec: {decks: 3}}")
    boat = create_namespaced_resource("lightkube.example.com", "v1", "Boat", "boats")
    client.apply(loaded)
    assert client.get(boat, "ark").spec == {"decks": 3}
    condition = {"type": "Sunk", "status": "True", "message": "an iceberg"}
    client.patch(boat.Status, "ark", {"status": {"conditions": [condition]}}, patch_type=PatchType.MERGE)
    with pytest.raises(ConditionError, match="an iceberg"):
        client.wait(boat, "ark", for_conditions=["Afloat"], raise_for_conditions=["Sunk"])
