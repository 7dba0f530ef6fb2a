"""Who may do what, asked over TLS with real certificates: an admin everything, an agent its own, all else 403 in Kubernetes' words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.agent.client import Refused
from labctl.agent.events import Recorder, of_pod
from tests.inprocess import ApiServer

MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
PODS = "/api/v1/namespaces/default/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Lab:
    """Two nodes with a pod each; `mine` is on minion-1 and uses ConfigMap `used` and Secret `used`."""

    def __init__(self, admin: aiohttp.ClientSession, agent: aiohttp.ClientSession) -> None:
        self.admin = admin
        self.agent = agent

    async def as_admin(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, dict[str, Any]]:
        return await send(self.admin, method, path, body, headers)

    async def as_agent(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, dict[str, Any]]:
        return await send(self.agent, method, path, body, headers)


async def send(http: aiohttp.ClientSession, method: str, path: str, body: Any, headers: Any) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body)
    kind = {"Content-Type": "application/json"} if body is not None else {}
    async with http.request(method, path, data=data, headers={**kind, **(headers or {})}) as answered:
        return answered.status, await answered.json(content_type=None)


def pod(name: str, node: str) -> dict[str, Any]:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "used", "key": "k"}}}]
    volumes = [{"name": "v", "secret": {"secretName": "used"}}] if name == "mine" else []
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "x", "env": env if name == "mine" else []}], "volumes": volumes}
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with ApiServer.running(tmp_path) as api, api.session() as admin, api.session("node:minion-1") as agent:
        lab = Lab(admin, agent)
        for number in (1, 2):
            node = {"metadata": {"name": f"minion-{number}"}, "spec": {"podCIDR": f"10.246.{number}.0/24"}}
            assert (await lab.as_admin("POST", "/api/v1/nodes", node))[0] == 201
        for name, on in (("mine", "minion-1"), ("other", "minion-2")):
            code, made = await lab.as_admin("POST", PODS, pod(name, on))
            assert code == 201, made
        for name in ("used", "unused"):
            assert (await lab.as_admin("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": name}}))[0] == 201
            assert (await lab.as_admin("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": name}}))[0] == 201
        yield lab


@pytest.mark.parametrize(
    "path",
    [
        f"{PODS}?fieldSelector=spec.nodeName%3Dminion-1",
        "/api/v1/pods?fieldSelector=spec.nodeName=minion-1",
        f"{PODS}/mine",
        "/api/v1/nodes/minion-1",
        "/api/v1/nodes?fieldSelector=metadata.name=minion-1",
        "/api/v1/namespaces/default/configmaps/used",
        "/api/v1/namespaces/default/secrets/used",
        "/api/v1/services",
        "/api/v1/endpoints",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/apis/certificates.k8s.io/v1/clustertrustbundles",
        "/api",
        "/apis",
        "/api/v1",
        "/openapi/v3",
        "/version",
    ],
)
async def test_an_agent_may_read(lab: Lab, path: str) -> None:
    assert (await lab.as_agent("GET", path))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        PODS,
        f"{PODS}?fieldSelector=spec.nodeName=minion-2",
        f"{PODS}/other",
        f"{PODS}/mine/log",
        "/api/v1/nodes",
        "/api/v1/nodes/minion-2",
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/namespaces/default/configmaps/unused",
        "/api/v1/namespaces/default/secrets",
        "/api/v1/namespaces/default/secrets/unused",
        "/api/v1/namespaces",
        "/api/v1/events",
        f"{LEASES}/minion-2",
        "/apis/labctl.internal/v1/machines",
        "/api/v1/replicationcontrollers",
        "/labctl/v1/why/pod/default/mine",
        "/labctl/v1/journal",
        "/labctl/v1/timeline/machine/minion-1",
        "/labctl/v1/wanted",
        "/somewhere",
    ],
)
async def test_an_agent_may_not_read(lab: Lab, path: str) -> None:
    code, status = await lab.as_agent("GET", path)
    assert (code, status["reason"]) == (403, "Forbidden")


async def test_an_agent_may_not_watch_what_it_may_not_list(lab: Lab) -> None:
    code, status = await lab.as_agent("GET", "/api/v1/secrets?watch=1")
    assert (
        status["message"]
        == 'secrets is forbidden: User "system:node:minion-1" cannot watch resource "secrets" in API group "" at the cluster scope'
    )


async def test_the_words(lab: Lab) -> None:
    _, status = await lab.as_agent("GET", f"{PODS}/other")
    assert status["message"] == (
        'pods "other" is forbidden: User "system:node:minion-1" cannot get resource "pods" in API group "" in the namespace "default"'
    )
    assert status["details"] == {"name": "other", "kind": "pods"}
    _, status = await lab.as_agent("PATCH", f"{LEASES}/minion-2", {}, MERGE)
    assert status["message"] == (
        'leases.coordination.k8s.io "minion-2" is forbidden: User "system:node:minion-1" cannot patch resource "leases" '
        'in API group "coordination.k8s.io" in the namespace "kube-node-lease"'
    )
    _, status = await lab.as_agent("GET", "/somewhere")
    assert status["message"] == 'forbidden: User "system:node:minion-1" cannot get path "/somewhere"'


async def test_its_own_node(lab: Lab) -> None:
    assert (await lab.as_admin("DELETE", "/api/v1/nodes/minion-1"))[0] == 200
    registration = {"metadata": {"name": "minion-1", "labels": {"kubernetes.io/hostname": "minion-1", "kubernetes.io/arch": "amd64"}}}
    assert (await lab.as_agent("POST", "/api/v1/nodes", registration))[0] == 201
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert (await lab.as_agent("PATCH", "/api/v1/nodes/minion-1/status", ready, STRATEGIC))[0] == 200
    assert (await lab.as_agent("DELETE", "/api/v1/nodes/minion-1"))[0] == 403
    assert (await lab.as_agent("PATCH", "/api/v1/nodes/minion-2/status", ready, STRATEGIC))[0] == 403
    assert (await lab.as_agent("PATCH", "/api/v1/nodes/minion-1", {"spec": {"unschedulable": True}}, MERGE))[0] == 403


@pytest.mark.parametrize(
    "node",
    [
        {"metadata": {"name": "minion-3"}},
        {"metadata": {"name": "minion-1"}, "spec": {"podCIDR": "10.0.0.0/8"}},
        {"metadata": {"name": "minion-1"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
        {"metadata": {"name": "minion-1", "labels": {"node-restriction.kubernetes.io/zone": "secret"}}},
        {"metadata": {"name": "minion-1", "labels": {"node-role.kubernetes.io/control-plane": ""}}},
    ],
)
async def test_a_node_it_may_not_register(lab: Lab, node: dict[str, Any]) -> None:
    await lab.as_admin("DELETE", "/api/v1/nodes/minion-1")
    code, status = await lab.as_agent("POST", "/api/v1/nodes", node)
    assert (code, status["reason"]) == (403, "Forbidden")


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"annotations": {"a": "b"}}},
    ],
)
async def test_its_node_status_changes_nothing_else(lab: Lab, patch: dict[str, Any]) -> None:
    assert (await lab.as_agent("PATCH", "/api/v1/nodes/minion-1/status", patch, MERGE))[0] == 403


async def test_its_own_lease(lab: Lab) -> None:
    lease = {"metadata": {"name": "minion-1"}, "spec": {"holderIdentity": "minion-1"}}
    assert (await lab.as_agent("POST", LEASES, lease))[0] == 201
    assert (await lab.as_agent("PUT", f"{LEASES}/minion-1", lease))[0] == 200
    assert (await lab.as_agent("GET", f"{LEASES}/minion-1"))[0] == 200
    assert (await lab.as_agent("POST", LEASES, {"metadata": {"name": "minion-2"}}))[0] == 403
    elsewhere = LEASES.replace("kube-node-lease", "default")
    assert (await lab.as_agent("POST", elsewhere, lease))[0] == 403


async def test_the_status_of_its_own_pods_with_addresses_of_its_own(lab: Lab) -> None:
    def report(ip: str) -> dict[str, Any]:
        return {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}

    assert (await lab.as_agent("PATCH", f"{PODS}/mine/status", report("10.246.1.7"), STRATEGIC))[0] == 200
    assert (await lab.as_agent("PATCH", f"{PODS}/mine/status", report("10.246.2.7"), STRATEGIC))[0] == 422  # merged: two of one family
    code, status = await lab.as_agent("PATCH", f"{PODS}/mine/status", report("10.246.2.7"), MERGE)
    assert code == 403
    assert status["message"].endswith('address 10.246.2.7 is not in the pod range of node "minion-1"')
    assert (await lab.as_agent("PATCH", f"{PODS}/other/status", report("10.246.1.7"), STRATEGIC))[0] == 403
    assert (await lab.as_agent("PATCH", f"{PODS}/mine", {"metadata": {"labels": {"a": "b"}}}, MERGE))[0] == 403
    assert (await lab.as_agent("PATCH", f"{PODS}/mine/status", {"metadata": {"labels": {"a": "b"}}}, MERGE))[0] == 403
    json_patch = {"Content-Type": "application/json-patch+json"}
    assert (await lab.as_agent("PATCH", f"{PODS}/mine/status", [{"op": "remove", "path": "/metadata/labels"}], json_patch))[0] == 403


async def test_it_finishes_a_deletion_but_begins_none(lab: Lab) -> None:
    now = {"gracePeriodSeconds": 0}
    assert (await lab.as_agent("DELETE", f"{PODS}/mine", now))[0] == 403
    assert (await lab.as_admin("DELETE", f"{PODS}/mine"))[0] == 200  # with grace: it is only marked
    assert (await lab.as_agent("DELETE", f"{PODS}/mine", now))[0] == 200
    assert (await lab.as_admin("GET", f"{PODS}/mine"))[0] == 404
    assert (await lab.as_agent("DELETE", f"{PODS}/other", now))[0] == 403


async def test_events_about_its_own(lab: Lab) -> None:
    def event(name: str, kind: str = "Pod") -> dict[str, Any]:
        ref = {"kind": kind, "name": name, **({"namespace": "default"} if kind == "Pod" else {})}
        source = {"component": "kubelet", "host": "minion-1"}
        return {"metadata": {"name": f"{name}.1"}, "involvedObject": ref, "reason": "Started", "type": "Normal", "source": source}

    events = "/api/v1/namespaces/default/events"
    assert (await lab.as_agent("POST", events, event("mine")))[0] == 201
    assert (await lab.as_agent("POST", events, event("minion-1", "Node")))[0] == 201
    assert (await lab.as_agent("PATCH", f"{events}/mine.1", {"count": 2}, MERGE))[0] == 200
    assert (await lab.as_agent("POST", events, event("other")))[0] == 403
    assert (await lab.as_agent("POST", events, event("minion-2", "Node")))[0] == 403
    assert (await lab.as_agent("POST", events, event("anything", "Secret")))[0] == 403


class AgentsApi:
    """What the agent's own code needs of the API, with a node's certificate."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.codes: list[int] = []

    async def create(self, path: str, value: Any) -> Any:
        return await self._send("POST", path, value, {})

    async def patch(self, path: str, value: Any, kind: str) -> Any:
        return await self._send("PATCH", path, value, {"Content-Type": kind})

    async def _send(self, method: str, path: str, value: Any, headers: Any) -> Any:
        code, said = await self._lab.as_agent(method, path, value, headers)
        self.codes.append(code)
        if code >= 400:
            raise Refused(code, said["reason"], said["message"])
        return said


async def test_an_event_that_the_agent_repeats_is_counted(lab: Lab) -> None:
    _, mine = await lab.as_admin("GET", f"{PODS}/mine")
    api = AgentsApi(lab)
    recorder = Recorder(api, "minion-1")  # type: ignore[arg-type]
    telling = asyncio.create_task(recorder.run())
    try:
        for _ in range(3):
            recorder.record(of_pod(mine, "c"), "Warning", "BackOff", "Back-off restarting failed container")
        async with asyncio.timeout(10):
            while len(api.codes) < 3:
                await asyncio.sleep(0.01)
    finally:
        telling.cancel()
    assert api.codes == [201, 200, 200]
    _, listed = await lab.as_admin("GET", "/api/v1/namespaces/default/events?fieldSelector=reason%3DBackOff")
    assert [event["count"] for event in listed["items"]] == [3]


async def test_nothing_else_is_an_agents_to_write(lab: Lab) -> None:
    for method, path, body in (
        ("POST", PODS, pod("new", "minion-1")),
        ("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}}),
        ("POST", f"{PODS}/mine/binding", {"target": {"name": "minion-1"}}),
        ("POST", f"{PODS}/mine/eviction", {}),
        ("PUT", "/api/v1/namespaces/default/secrets/used", {"metadata": {"name": "used"}}),
        ("DELETE", PODS, None),
        ("POST", f"{PODS}/mine/exec?command=ls", None),
    ):
        assert (await lab.as_agent(method, path, body))[0] == 403, (method, path)


async def test_a_certificate_without_a_group_may_look_at_discovery_only(api: ApiServer) -> None:
    async with api.session(api.authority.issue("somebody")) as http:
        assert (await send(http, "GET", "/api/v1", None, None))[0] == 200
        code, status = await send(http, "GET", "/api/v1/pods", None, None)
        assert (code, status["message"]) == (
            403,
            'pods is forbidden: User "somebody" cannot list resource "pods" in API group "" at the cluster scope',
        )


async def test_a_name_alone_makes_no_node(api: ApiServer) -> None:
    """The CN of a node without its group is nobody special."""
    async with api.session(api.authority.issue("system:node:minion-1")) as http:
        assert (await send(http, "GET", "/api/v1/services", None, None))[0] == 403
