"""`nodes/NAME/proxy`: what tools ask of kubelets, answered behind a fake minion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.resources.client import Client
from labctl.resources.usage import ContainerUse, NodeUse
from tests.api import minions
from tests.inprocess import ApiServer

BASE = "/api/v1/nodes/minion-1/proxy"
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}


class Usage:
    """minion-1 at a quarter of a core; its pods as they are put in."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, ContainerUse]] = {}
        self.silent = False

    def node(self, _name: str) -> NodeUse | None:
        return None if self.silent else NodeUse(1_767_366_245.0, 15.0, ContainerUse(250_000_000, 3 << 20, 9_000_000_000), self.pods)

    async def refresh(self, names: Any = None) -> None:
        assert names == {"minion-1"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, aiohttp.ClientSession, Usage]]:
    usage = Usage()
    async with minions.lab(tmp_path, usage) as (api, _, _), api.session() as http:
        client = Client(api.resources)
        await client.patch("nodes", "minion-1", {"status": READY}, "status")
        await minions.make_pod(api, "elsewhere", "nginx", node="minion-2")
        pods = [client.get("pods", f"default/{name}") for name in ("web", "elsewhere")]
        usage.pods = {pod.metadata.uid: {"nginx": ContainerUse(1_500_000, 2048, 2_500_000_000)} for pod in pods}
        yield api, http, usage


async def got(http: aiohttp.ClientSession, path: str, code: int = 200) -> str:
    async with http.get(BASE + path) as answered:
        text = await answered.text()
        assert answered.status == code, text
        return text


async def test_health_and_pods(served: Any) -> None:
    api, http, _ = served
    assert await got(http, "/healthz") == "ok"
    async with http.get(f"{BASE}/pods/") as answered:
        listed = await answered.json()
    assert (listed["kind"], [pod["metadata"]["name"] for pod in listed["items"]]) == ("PodList", ["web"])
    assert (await api.kubectl("get", "--raw", "/api/v1/nodes/https:minion-1:10250/proxy/healthz")).out == "ok"


async def test_the_summary_has_the_minions_own_figures_and_only_its_pods(served: Any) -> None:
    _, http, _ = served
    async with http.get(f"{BASE}/stats/summary") as answered:
        summary = await answered.json()
    node = summary["node"]
    assert (node["nodeName"], node["cpu"]["usageNanoCores"], node["memory"]["workingSetBytes"]) == ("minion-1", 250_000_000, 3 << 20)
    [pod] = summary["pods"]
    assert pod["podRef"]["name"] == "web" and pod["cpu"] == pod["containers"][0]["cpu"]
    assert pod["cpu"] == {"time": "2026-01-02T15:04:05Z", "usageNanoCores": 1_500_000, "usageCoreNanoSeconds": 2_500_000_000}
    assert (pod["containers"][0]["name"], pod["memory"]["workingSetBytes"]) == ("nginx", 2048)


async def test_samples_for_prometheus(served: Any) -> None:
    _, http, _ = served
    told = await got(http, "/metrics/resource")
    assert 'container_cpu_usage_seconds_total{container="nginx",namespace="default",pod="web"} 2.5 1767366245000' in told
    assert 'pod_memory_working_set_bytes{namespace="default",pod="web"} 2048.0 1767366245000' in told
    assert "node_cpu_usage_seconds_total 9.0 1767366245000" in told and "resource_scrape_error 0.0" in told
    assert "elsewhere" not in told
    told = await got(http, "/metrics/cadvisor")
    [line] = [each for each in told.splitlines() if each.startswith("container_cpu_usage_seconds_total") and 'container="nginx"' in each]
    assert 'cpu="total"' in line and 'image="x"' in line and 'pod="web"' in line and line.endswith(" 2.5 1767366245000")
    assert 'id="/"' in told and "elsewhere" not in told


async def test_logs_of_a_container_of_this_node(served: Any) -> None:
    _, http, _ = served
    assert await got(http, "/containerLogs/default/web/nginx?tailLines=2") == "line 1\nline 2\n"
    assert "does not exist" in await got(http, "/containerLogs/default/elsewhere/nginx", 404)
    await got(http, "/containerLogs/default/lost/nginx", 404)


@pytest.mark.parametrize(
    "path", ["", "/", "/run/default/web/nginx", "/exec/default/web/nginx", "/containerLogs/default/web", "/logs/", "/podsx"]
)
async def test_what_is_not_served(served: Any, path: str) -> None:
    _, http, _ = served
    assert await got(http, path, 404) == "404 page not found\n"


async def test_only_reading(served: Any) -> None:
    _, http, _ = served
    async with http.post(f"{BASE}/pods") as answered:
        assert answered.status == 405


async def test_a_minion_that_nobody_reaches_has_no_kubelet(served: Any) -> None:
    api, http, usage = served
    async with http.get("/api/v1/nodes/nobody/proxy/healthz") as answered:
        assert answered.status == 404
    async with http.get("/api/v1/nodes/minion-1:9999/proxy/healthz") as answered:
        assert answered.status == 503
    usage.silent = True
    assert "does not say what it uses" in await got(http, "/stats/summary", 503)
    silent = {"conditions": [{**READY["conditions"][0], "status": "Unknown"}]}
    await Client(api.resources).patch("nodes", "minion-1", {"status": silent}, "status")
    assert "does not answer" in await got(http, "/healthz", 503)


async def test_it_needs_the_right_to_the_nodes_proxy(served: Any) -> None:
    """Whoever may read nodes may not; `nodes/metrics` and its kin are for those who ask a kubelet itself (KEP-2862)."""
    api, _, _ = served
    rules = [{"apiGroups": [""], "resources": ["nodes", "nodes/metrics", "nodes/stats"], "verbs": ["get"]}]
    client = Client(api.resources)
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "scrape"}
    await client.create("clusterroles.rbac.authorization.k8s.io", {"metadata": {"name": "scrape"}, "rules": rules})
    bound = {"metadata": {"name": "scrape"}, "roleRef": role, "subjects": [subject]}
    await client.create("clusterrolebindings.rbac.authorization.k8s.io", bound)
    path = f"{BASE}/metrics/resource"
    refused = await api.kubectl("get", "--raw", path, "--as", "jane")
    assert refused.code and 'cannot get resource "nodes/proxy"' in refused.err
    rules[0]["resources"].append("nodes/proxy")
    await client.patch("clusterroles.rbac.authorization.k8s.io", "scrape", {"rules": rules})
    assert "node_cpu_usage_seconds_total" in (await api.kubectl("get", "--raw", path, "--as", "jane")).out
