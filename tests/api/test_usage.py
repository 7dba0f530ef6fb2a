"""metrics.k8s.io as clients ask for it."""

import pytest

from labctl.resources.client import Client
from labctl.resources.usage import ContainerUse, NodeUse
from tests.inprocess import ApiServer

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "x:1"}]},
}
METRICS = "/apis/metrics.k8s.io/v1beta1"


class Usage:
    """minion-1 runs whatever pods there are."""

    def __init__(self):
        self.pods, self.asked = {}, []

    def node(self, name):
        return NodeUse(1_767_366_245.0, 15.0, ContainerUse(250_000_000, 3 << 20), self.pods) if name == "minion-1" else None

    async def refresh(self, names=None):
        self.asked.append(names)


@pytest.fixture
async def served(tmp_path):
    usage = Usage()
    async with ApiServer.running(tmp_path, usage=usage) as api, api.session() as http:
        client = Client(api.resources)
        for name in ("minion-1", "minion-2"):
            await client.create("nodes", {"metadata": {"name": name}})
        for name, node in (("web", "minion-1"), ("other", "minion-2")):
            await client.create(
                "pods",
                {**POD, "metadata": {**POD["metadata"], "name": name, "namespace": "default"}, "spec": {**POD["spec"], "nodeName": node}},
            )
            await client.patch("pods", f"default/{name}", {"status": {"phase": "Running"}}, "status")
        usage.pods = {client.get("pods", f"default/{name}").metadata.uid: {"c": ContainerUse(1_500_000, 2048)} for name in ("web", "other")}
        yield http, usage, api


async def got(http, path, code=200):
    async with http.get(path) as answer:
        assert answer.status == code, await answer.text()
        return await answer.json()


async def test_nodes(served):
    http, usage, _ = served
    [node] = (await got(http, f"{METRICS}/nodes"))["items"]
    assert node["metadata"]["name"] == "minion-1" and node["usage"] == {"cpu": "250000000n", "memory": "3072Ki"}
    assert (node["timestamp"], node["window"]) == ("2026-01-02T15:04:05Z", "15.000s")
    assert usage.asked == [{"minion-1", "minion-2"}]
    assert (await got(http, f"{METRICS}/nodes/minion-1"))["kind"] == "NodeMetrics"
    assert (await got(http, f"{METRICS}/nodes/minion-2", 404))["message"] == 'nodes.metrics.k8s.io "minion-2" not found'


async def test_pods_are_believed_to_their_own_node_only(served):
    http, usage, _ = served
    listed = await got(http, f"{METRICS}/pods")
    assert listed["kind"] == "PodMetricsList"
    [pod] = listed["items"]  # minion-1 speaks of the other pod, too, which runs elsewhere
    assert (pod["metadata"]["name"], pod["metadata"]["labels"]) == ("web", {"app": "web"})
    assert pod["containers"] == [{"name": "c", "usage": {"cpu": "1500000n", "memory": "2Ki"}}]
    assert (await got(http, f"{METRICS}/namespaces/default/pods?labelSelector=app%3Dno"))["items"] == []
    assert usage.asked[-1] == set(), "nobody is asked for nothing"
    assert (await got(http, f"{METRICS}/namespaces/default/pods/web"))["kind"] == "PodMetrics"
    missing = await got(http, f"{METRICS}/namespaces/default/pods/none", 404)
    assert missing["message"] == 'pods.metrics.k8s.io "default/none" not found'


async def test_nothing_else_can_be_done_with_them(served):
    http, _, _ = served
    await got(http, f"{METRICS}/pods?watch=true", 405)
    async with http.post(f"{METRICS}/namespaces/default/pods", json={}) as answer:
        assert answer.status == 405
    resources = (await got(http, METRICS))["resources"]
    assert [(each["name"], each["verbs"]) for each in resources] == [("nodes", ["get", "list"]), ("pods", ["get", "list"])]


async def test_kubectl_top(served):
    *_, api = served
    ran = await api.kubectl("top", "nodes")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[1].split()[:3] == ["minion-1", "250m", "<unknown>"] or "250m" in ran.out, ran.out
    ran = await api.kubectl("top", "pods", "--containers")
    assert ran.out.splitlines() == ["POD   NAME   CPU(cores)   MEMORY(bytes)   ", "web   c      2m           0Mi             "], ran.out
    assert "not found" in (await api.kubectl("top", "pod", "none")).err


async def test_both_versions_say_the_same_and_the_stable_one_is_preferred(served):
    http, _, _ = served
    for path in ("nodes", "nodes/minion-1", "pods", "namespaces/default/pods/web"):
        old, new = [await got(http, f"/apis/metrics.k8s.io/{version}/{path}") for version in ("v1beta1", "v1")]
        assert (old.pop("apiVersion"), new.pop("apiVersion")) == ("metrics.k8s.io/v1beta1", "metrics.k8s.io/v1")
        assert old == new
    group = await got(http, "/apis/metrics.k8s.io")
    assert [each["version"] for each in group["versions"]] == ["v1", "v1beta1"]
    assert group["preferredVersion"]["version"] == "v1"
    for version in ("v1beta1", "v1"):
        listed = await got(http, f"/apis/metrics.k8s.io/{version}")
        assert [(each["name"], each["verbs"]) for each in listed["resources"]] == [("nodes", ["get", "list"]), ("pods", ["get", "list"])]
