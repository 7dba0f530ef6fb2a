"""An adapter for metrics as Prometheus' and KEDA's are one: a real server over TLS behind two APIServices, of which the autoscaler asks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.client.test_aggregation import Wardle, registration, service_of

EXTERNAL, CUSTOM = "external.metrics.k8s.io", "custom.metrics.k8s.io"
SERVED = ((EXTERNAL, "v1beta1"), (CUSTOM, "v1beta2"))
CONTROLLER = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


class Adapter(Wardle):
    """Tells one number for every metric. `broken` is what it answers instead."""

    value, broken = "12", ""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked: list[tuple[str, dict[str, str], str]] = []

    async def _serve(self) -> None:
        app = web.Application()
        for group, version in SERVED:
            app.router.add_get(f"/apis/{group}/{version}", self._discover)
        app.router.add_get(f"/apis/{EXTERNAL}/v1beta1/namespaces/{{namespace}}/{{metric}}", self._metric)
        app.router.add_get(f"/apis/{CUSTOM}/v1beta2/namespaces/{{namespace}}/{{resource}}/{{name}}/{{metric}}", self._metric)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]

    async def _discover(self, request: web.Request) -> web.StreamResponse:
        group_version = request.path.removeprefix("/apis/")
        return web.json_response({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": []})

    async def _metric(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.query), request.headers["X-Remote-User"]))
        if self.broken:
            return web.Response(text=self.broken, content_type="application/json")
        described = {"kind": "Service", "namespace": "x", "name": request.match_info.get("name", ""), "apiVersion": "v1"}
        item = {
            "describedObject": described,
            "metricName": request.match_info["metric"],
            "timestamp": "2026-01-01T00:00:00Z",
            "value": self.value,
        }
        return web.json_response({"kind": "List", "apiVersion": "v1beta1", "metadata": {}, "items": [item]})


@pytest.fixture
def adapter(labctl_api: Any, tmp_path: Path) -> Iterator[Adapter]:
    config = json.loads(labctl_api.kubectl("get", "-n", "kube-system", "configmap", "extension-apiserver-authentication", "-o", "json"))
    server = Adapter(tmp_path / "adapter", config["data"]["requestheader-client-ca-file"], f"adapter.{labctl_api.namespace}.svc")
    server.start()
    labctl_api.apply(service_of("adapter"))
    for group, version in SERVED:
        labctl_api.apply(registration(labctl_api, server, "adapter", group, version))
        labctl_api.kubectl("wait", "--for=condition=Available", f"apiservice/{version}.{group}", "--timeout=20s")
    try:
        yield server
    finally:
        server.stop()


def until(told: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def autoscaler(*metrics: dict[str, Any]) -> dict[str, Any]:
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 9}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {**spec, "metrics": metrics},
    }


QUEUE = {
    "type": "External",
    "external": {
        "metric": {"name": "jobs", "selector": {"matchLabels": {"queue": "mail"}}},
        "target": {"type": "AverageValue", "averageValue": "2"},
    },
}
HITS = {
    "type": "Object",
    "object": {
        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"},
        "metric": {"name": "hits"},
        "target": {"type": "Value", "value": "4"},
    },
}


@pytest.mark.labctl(fresh=True)
def test_a_deployment_follows_what_the_adapter_tells(labctl_api: Any, adapter: Adapter) -> None:
    labctl_api.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    labctl_api.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
    labctl_api.apply(autoscaler(QUEUE, HITS))
    until(lambda: labctl_api.kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "6")
    namespace = labctl_api.namespace
    assert {(path, *sorted(query.items()), who) for path, query, who in adapter.asked} == {
        (f"/apis/{EXTERNAL}/v1beta1/namespaces/{namespace}/jobs", ("labelSelector", "queue=mail"), CONTROLLER),
        (f"/apis/{CUSTOM}/v1beta2/namespaces/{namespace}/services/front/hits", CONTROLLER),
    }
    until(lambda: "6/2 (avg), 12/4" in labctl_api.kubectl("get", "hpa", "web"))
    assert "external metric" in labctl_api.kubectl("get", "events", "--field-selector=reason=SuccessfulRescale")
    assert '"jobs"' in labctl_api.kubectl("describe", "hpa", "web")
    for group, resource in ((EXTERNAL, "jobs"), (CUSTOM, "services")):  # an adapter asks about whoever comes
        asked = {"namespace": namespace, "verb": "get", "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": CONTROLLER, "resourceAttributes": asked},
        }
        said = labctl_api.kubectl("create", "-f", "-", "-o", "jsonpath={.status}", input=json.dumps(review))
        assert json.loads(said)["allowed"] is True


@pytest.mark.labctl(fresh=True)
@pytest.mark.parametrize(
    "broken", ["{", '{"items": 3}', '{"items": [{"value": "many"}]}', '{"items": [{"value": ' + "9" * 5000 + "}]}", "[" * 100_000]
)
def test_an_adapter_that_talks_nonsense_harms_nobody(labctl_api: Any, adapter: Adapter, broken: str) -> None:
    adapter.broken = broken
    labctl_api.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    labctl_api.apply(autoscaler(QUEUE))
    condition = 'jsonpath={.status.conditions[?(@.type=="ScalingActive")].reason}'
    until(lambda: labctl_api.kubectl("get", "hpa", "web", "-o", condition) == "FailedGetExternalMetric")
    adapter.broken = ""
    until(lambda: labctl_api.kubectl("get", "hpa", "web", "-o", condition) == "ValidMetricFound", 40)
