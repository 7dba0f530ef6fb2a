"""pykube-ng: queries by selector, updates by difference, rolling updates, waits by watch, and a kind found by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pykube = pytest.importorskip("pykube")
POD = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}


@pytest.fixture
def api(labctl_api: Any) -> Iterator[Any]:
    made = pykube.HTTPClient(pykube.KubeConfig.from_file(str(labctl_api.kubeconfig)), timeout=20)
    yield made
    made.session.close()


def test_a_deployment(labctl_api: Any, api: Any) -> None:
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": POD}
    web = pykube.Deployment(api, {"metadata": {"name": "web", "namespace": labctl_api.namespace}, "spec": spec})
    web.create()
    assert web.exists()

    labctl_api.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    web.reload()
    assert web.ready
    web.scale(replicas=3)
    pods = pykube.Pod.objects(api, namespace=labctl_api.namespace).filter(selector={"app__in": {"web", "other"}})
    labctl_api.wait(lambda: len([pod for pod in pods.all() if pod.ready]) == 3)
    web.patch({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}})
    assert "nginx:2" in labctl_api.kubectl("get", "deployment", "web", "-o", "wide")
    web.delete(propagation_policy="Foreground")
    labctl_api.wait(lambda: not web.exists())


def test_a_watch_and_kinds_by_name(labctl_api: Any, api: Any) -> None:
    maps = pykube.ConfigMap.objects(api, namespace=labctl_api.namespace).filter(field_selector={"metadata.name": "c"})
    made = pykube.ConfigMap(api, {"metadata": {"name": "c", "namespace": labctl_api.namespace}, "data": {"a": "1"}})
    made.create()
    events = iter(maps.watch())
    assert next(events).type == "ADDED"
    made.patch({"data": {"a": "2"}})
    changed = next(events)
    assert (changed.type, changed.object.obj["data"]) == ("MODIFIED", {"a": "2"})
    made.labels["tier"] = "front"
    made.update()
    assert [each.name for each in pykube.ConfigMap.objects(api, namespace=labctl_api.namespace).filter(selector="tier=front")] == ["c"]
    assert next(events).object.labels == {"tier": "front"}
    made.delete()
    assert next(events).type == "DELETED"
    jobs = pykube.object_factory(api, "batch/v1", "Job")
    assert list(jobs.objects(api, namespace=labctl_api.namespace)) == []
    with pytest.raises(pykube.exceptions.HTTPError) as twice:
        pykube.Namespace(api, {"metadata": {"name": labctl_api.namespace}}).create()
    assert twice.value.code == 409
