"""HorizontalPodAutoscalers with kubectl: made by `autoscale`, shown in both versions, refused in Kubernetes' words."""

import json

import pytest

from labctl.resources.client import Client
from tests.inprocess import ApiServer


@pytest.fixture
async def api(tmp_path):
    async with ApiServer.running(tmp_path) as api:
        await api.kubectl("create", "deployment", "web", "--image=nginx")
        yield api


async def test_autoscale_and_what_is_shown(api):
    ran = await api.kubectl("autoscale", "deployment", "web", "--min=2", "--max=5", "--cpu=70%")
    assert (ran.code, ran.out) == (0, "horizontalpodautoscaler.autoscaling/web autoscaled\n"), ran.err
    ran = await api.kubectl("get", "hpa")
    header, row = ran.out.splitlines()
    assert header.split() == ["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"]
    assert row.split()[:6] == ["web", "Deployment/web", "cpu:", "<unknown>/70%", "2", "5"]
    found = json.loads((await api.kubectl("get", "hpa", "web", "-o", "json")).out)
    assert found["apiVersion"] == "autoscaling/v2"
    assert found["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    older = json.loads((await api.kubectl("get", "horizontalpodautoscalers.v1.autoscaling", "web", "-o", "json")).out)
    assert older["apiVersion"] == "autoscaling/v1" and older["spec"]["targetCPUUtilizationPercentage"] == 70
    ran = await api.kubectl("describe", "hpa", "web")
    assert ran.code == 0 and "Deployment/web" in ran.out, ran.err


async def test_what_one_version_lacks_survives_it(api):
    memory = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}}}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "maxReplicas": 4,
        "metrics": [memory, cpu],
        "behavior": behavior,
    }
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec}
    ran = await api.kubectl("create", "-f", "-", stdin=body)
    assert ran.code == 0, ran.err
    older = json.loads((await api.kubectl("get", "horizontalpodautoscalers.v1.autoscaling", "web", "-o", "json")).out)
    assert older["spec"]["targetCPUUtilizationPercentage"] == 60
    assert json.loads(older["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]) == [memory]
    older["spec"]["maxReplicas"] = 9
    ran = await api.kubectl("replace", "-f", "-", stdin=older)
    assert ran.code == 0, ran.err
    found = json.loads((await api.kubectl("get", "hpa", "web", "-o", "json")).out)
    assert found["spec"]["maxReplicas"] == 9 and found["spec"]["metrics"] == [cpu, memory]
    assert found["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 5
    assert found["spec"]["behavior"]["scaleUp"]["policies"][0]["type"] == "Pods"
    assert not found["metadata"].get("annotations")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"maxReplicas": 0}, "spec.maxReplicas: Invalid value: 0: must be greater than 0"),
        ({"minReplicas": 7}, "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"),
        ({"minReplicas": -1}, "spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"minReplicas": 0},
            "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
        ),
        ({"scaleTargetRef": {"kind": "Deployment", "name": ""}}, "spec.scaleTargetRef.name: Required value"),
        (
            {"metrics": [{"type": "Resource"}]},
            "spec.metrics[0].resource: Required value: must populate information for the given metric source",
        ),
        ({"metrics": [{"type": "Magic"}]}, 'spec.metrics[0].type: Unsupported value: "Magic"'),
        (
            {"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 9999}]}}},
            "must be less than or equal to 1800",
        ),
    ],
)
async def test_what_is_refused(api, change, words):
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 3, **change}
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec}
    ran = await api.kubectl("create", "-f", "-", stdin=body)
    assert ran.code != 0 and words in ran.err, ran.err


async def test_a_pod_template_is_kept(api):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    body = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "tmpl", "namespace": "default"}, "template": template}
    ran = await api.kubectl("create", "-f", "-", stdin=body)
    assert ran.code == 0, ran.err
    assert (await api.kubectl("get", "podtemplates")).out.splitlines()[1].split()[:4] == ["tmpl", "c", "x:1", "a=b"]
    assert Client(api.resources).raw("podtemplates", "default/tmpl")["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
