"""What hostile clients send. Each attack here was seen to work once; each is refused in words, changes nothing, and makes no traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.api.extensions import ExtensionRequest, Extensions
from tests.inprocess import ApiServer

# -- a node's certificate -----------------------------------------------------------------------------------------------------------------

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
NODES, PODS, EVENTS = "/api/v1/nodes", "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
MACHINES = "/apis/labctl.internal/v1/machines"
LABELS = {"kubernetes.io/hostname": "minion-1", "disk": "ssd", "node-role.kubernetes.io/gold": ""}


class Stolen:
    """minion-1's certificate, in somebody else's hands. `resolved` is what the image store was asked for."""

    def __init__(self, admin: aiohttp.ClientSession, node: aiohttp.ClientSession, resolved: list[str]) -> None:
        self.admin, self.node, self.resolved = admin, node, resolved

    async def __call__(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> tuple[int, str]:
        return await _send(self.node, method, path, body, content_type)

    async def make(self, path: str, body: Any) -> None:
        code, said = await _send(self.admin, "POST", path, body)
        assert code == 201, said

    async def everything(self) -> str:
        """All that the node could have changed."""
        paths = (NODES, PODS, EVENTS, LEASES)
        return "".join([json.dumps(json.loads((await _send(self.admin, "GET", path))[1])["items"]) for path in paths])


async def _send(
    http: aiohttp.ClientSession, method: str, path: str, body: Any = None, content_type: str = "application/json"
) -> tuple[int, str]:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    async with http.request(method, path, data=data, headers={"Content-Type": content_type} if data else {}) as answered:
        return answered.status, await answered.text()


@pytest.fixture
async def stolen(tmp_path: Path) -> AsyncIterator[Stolen]:
    resolved: list[str] = []

    async def resolve(request: ExtensionRequest) -> dict[str, str]:
        resolved.append(request.query.first("name"))
        return {}

    extensions = Extensions()
    extensions.add("GET", "/labctl/v1/images/resolve", resolve)
    async with (
        ApiServer.running(tmp_path, extensions=extensions) as api,
        api.session() as admin,
        api.session("node:minion-1") as node,
    ):
        stolen = Stolen(admin, node, resolved)
        for number in (1, 2):
            name = f"minion-{number}"
            await stolen.make(MACHINES, {"metadata": {"name": name}, "spec": {"number": number, "address": f"10.245.1.1{number}"}})
            labels = {**LABELS, "kubernetes.io/hostname": name}
            metadata = {"name": name, "labels": labels, "annotations": {"people": "wrote this"}}
            await stolen.make(NODES, {"metadata": metadata, "spec": {"podCIDR": f"10.246.{number}.0/24"}})
            spec = {"nodeName": name, "containers": [{"name": "c", "image": "nginx"}]}
            await stolen.make(PODS, {"metadata": {"name": f"pod-{number}", "labels": {"app": "web"}}, "spec": spec})
            await stolen.make(EVENTS, event(f"pod-{number}", name))
        await stolen.make(EVENTS, {**event("pod-1", "minion-1"), "metadata": {"name": "scheduled"}, "source": {}, "reportingInstance": ""})
        host = {"nodeName": "minion-1", "hostNetwork": True, "containers": [{"name": "c", "image": "host"}]}
        host["volumes"] = [{"name": "v", "image": {"reference": "files:1"}}]
        await stolen.make(PODS, {"metadata": {"name": "host-1"}, "spec": host})
        await stolen.make(LEASES, {"metadata": {"name": "minion-1"}, "spec": {"holderIdentity": "minion-1"}})
        yield stolen


def event(pod: str, host: str, **more: Any) -> dict[str, Any]:
    reference = {"kind": "Pod", "namespace": "default", "name": pod}
    return {"metadata": {"name": f"{pod}.1"}, "involvedObject": reference, "reason": "R", "type": "Normal", **reported(host), **more}


def reported(host: str) -> dict[str, Any]:
    return {"source": {"component": "kubelet", "host": host}, "reportingComponent": "kubelet", "reportingInstance": host}


def address(text: str, type_: str = "InternalIP") -> dict[str, Any]:
    return {"status": {"addresses": [{"type": type_, "address": text}]}}


NODE_STATUS, POD_STATUS = f"{NODES}/minion-1/status", f"{PODS}/pod-1/status"

ATTACKS: dict[str, tuple[str, str, Any, str]] = {
    "another node by a generated name": ("POST", NODES, {"metadata": {"generateName": "minion-"}}, ""),
    "another node, prefixed with its own name": ("POST", NODES, {"metadata": {"generateName": "minion-1"}}, ""),
    "another node by its name": ("POST", NODES, {"metadata": {"name": "minion-3"}}, ""),
    "no labels": ("PATCH", NODE_STATUS, {"metadata": {"labels": None}}, MERGE),
    "no labels, strategically": ("PATCH", NODE_STATUS, {"metadata": {"labels": None}}, STRATEGIC),
    "labels replaced": ("PATCH", NODE_STATUS, {"metadata": {"labels": {"$patch": "replace"}}}, STRATEGIC),
    "metadata replaced": ("PATCH", NODE_STATUS, {"metadata": {"$patch": "replace", "name": "minion-1"}}, STRATEGIC),
    "labels deleted": ("PATCH", NODE_STATUS, {"metadata": {"$patch": "delete"}}, STRATEGIC),
    "no metadata": ("PATCH", NODE_STATUS, {"metadata": None}, MERGE),
    "no annotations": ("PATCH", NODE_STATUS, {"metadata": {"annotations": None}}, MERGE),
    "a person's label taken": ("PATCH", NODE_STATUS, {"metadata": {"labels": {"disk": None}}}, MERGE),
    "a person's label changed": ("PATCH", NODE_STATUS, {"metadata": {"labels": {"disk": "gold"}}}, STRATEGIC),
    "another's host name": ("PATCH", NODE_STATUS, {"metadata": {"labels": {"kubernetes.io/hostname": "minion-2"}}}, STRATEGIC),
    "its annotation": ("PATCH", NODE_STATUS, {"metadata": {"annotations": {"a": "b"}}}, STRATEGIC),
    "field managers": ("PATCH", NODE_STATUS, {"metadata": {"managedFields": [{"manager": "people"}]}}, MERGE),
    "every address": ("PATCH", NODE_STATUS, address("0.0.0.0/0"), STRATEGIC),
    "another machine's address": ("PATCH", NODE_STATUS, address("10.245.1.12"), STRATEGIC),
    "the master's address, outside": ("PATCH", NODE_STATUS, address("10.245.1.1", "ExternalIP"), STRATEGIC),
    "an address of no type": ("PATCH", NODE_STATUS, address("10.245.1.12", ""), STRATEGIC),
    "an address as a name": ("PATCH", NODE_STATUS, address("10.245.1.12", "Hostname"), STRATEGIC),
    "another's name": ("PATCH", NODE_STATUS, address("minion-2", "InternalDNS"), STRATEGIC),
    "another pod's address": ("PATCH", POD_STATUS, {"status": {"podIP": "10.246.2.7", "podIPs": [{"ip": "10.246.2.7"}]}}, MERGE),
    "another pod's address, second": ("PATCH", POD_STATUS, {"status": {"podIPs": [{"ip": "10.246.1.7"}, {"ip": "10.246.2.7"}]}}, MERGE),
    "its machine's address for a pod with its own": ("PATCH", POD_STATUS, {"status": {"podIP": "10.245.1.11"}}, MERGE),
    "a range as a pod's address": ("PATCH", POD_STATUS, {"status": {"podIP": "10.246.1.0/24"}}, MERGE),
    "a word as a pod's address": ("PATCH", POD_STATUS, {"status": {"podIP": "localhost"}}, MERGE),
    "another pod's address on the host's network": ("PATCH", f"{PODS}/host-1/status", {"status": {"podIP": "10.246.2.7"}}, MERGE),
    "another host's address": ("PATCH", POD_STATUS, {"status": {"hostIP": "10.245.1.12"}}, MERGE),
    "another host's address, listed": ("PATCH", POD_STATUS, {"status": {"hostIPs": [{"ip": "10.245.1.12"}]}}, MERGE),
    "a pod's labels": ("PATCH", POD_STATUS, {"metadata": {"labels": {"app": "db"}}}, MERGE),
    "no labels of a pod": ("PATCH", POD_STATUS, {"metadata": {"labels": None}}, MERGE),
    "a pod's annotations": ("PATCH", POD_STATUS, {"metadata": {"annotations": {"a": "b"}}}, STRATEGIC),
    "the status of another's pod": ("PATCH", f"{PODS}/pod-2/status", {"status": {"phase": "Failed"}}, MERGE),
    "a pod's deletion begun": ("DELETE", f"{PODS}/pod-1", {"gracePeriodSeconds": 0}, ""),
    "the end of another's pod": ("DELETE", f"{PODS}/pod-2", {"gracePeriodSeconds": 0}, ""),
    "a lease by a generated name": ("POST", LEASES, {"metadata": {"generateName": "minion-"}}, ""),
    "another's lease": ("POST", LEASES, {"metadata": {"name": "minion-2"}}, ""),
    "a lease with annotations": ("PATCH", f"{LEASES}/minion-1", {"metadata": {"annotations": {"a": "b"}}}, MERGE),
    "a long tale of its peers": (
        "PATCH",
        f"{LEASES}/minion-1",
        {"metadata": {"annotations": {"labctl.internal/heard": "x" * 1025}}},
        MERGE,
    ),
    "a lease that is never collected": ("PATCH", f"{LEASES}/minion-1", {"metadata": {"finalizers": ["a/b"]}}, MERGE),
    "a lease that belongs to another": (
        "PATCH",
        f"{LEASES}/minion-1",
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "pod-2", "uid": "1"}]}},
        MERGE,
    ),
    "an event about another's pod": ("POST", EVENTS, {**event("pod-2", "minion-1"), "metadata": {"generateName": "e"}}, ""),
    "an event about a pod that never was": ("POST", EVENTS, event("nobody", "minion-1"), ""),
    "an event about a node, elsewhere": ("POST", EVENTS, event("x", "minion-1", involvedObject={"kind": "Node", "name": "minion-2"}), ""),
    "an event about a Secret": ("POST", EVENTS, event("x", "minion-1", involvedObject={"kind": "Secret", "name": "s"}), ""),
    "an event about nothing": ("POST", EVENTS, event("x", "minion-1", involvedObject={}), ""),
    "an event in another's name": ("POST", EVENTS, {**event("pod-1", "minion-2"), "metadata": {"name": "e"}}, ""),
    "an event in nobody's name": ("POST", EVENTS, {"metadata": {"name": "e"}, "involvedObject": event("pod-1", "")["involvedObject"]}, ""),
    "an event that is related to another's pod": (
        "POST",
        EVENTS,
        {**event("pod-1", "minion-1", related={"kind": "Pod", "namespace": "default", "name": "pod-2"}), "metadata": {"name": "e"}},
        "",
    ),
    "an event that is never collected": ("POST", EVENTS, event("pod-1", "minion-1", metadata={"name": "e", "finalizers": ["a/b"]}), ""),
    "its event, pointed at another": ("PATCH", f"{EVENTS}/pod-1.1", {"involvedObject": {"name": "pod-2"}}, MERGE),
    "its event, related to another": ("PATCH", f"{EVENTS}/pod-1.1", {"related": {"kind": "Pod", "name": "pod-2"}}, MERGE),
    "its event, in another's name": ("PATCH", f"{EVENTS}/pod-1.1", {"source": {"host": "minion-2"}}, MERGE),
    "another's event": ("PATCH", f"{EVENTS}/pod-2.1", {"message": "x"}, MERGE),
    "the scheduler's event": ("PATCH", f"{EVENTS}/scheduled", {"message": "x"}, MERGE),
    "a patch of another form": ("PATCH", NODE_STATUS, [{"op": "remove", "path": "/metadata/labels"}], "application/json-patch+json"),
    "an apply": ("PATCH", NODE_STATUS, {"apiVersion": "v1", "kind": "Node"}, "application/apply-patch+yaml"),
    "YAML": ("POST", LEASES, b"metadata: {name: minion-1}", "application/yaml"),
}


NO_STATUS = {
    "another pod's address, second",
    "a range as a pod's address",
    "a word as a pod's address",
    "another host's address, listed",
}
"""No pod's status says this, whoever wrote it, so that nobody's rights are asked about."""
NO_NAME = {"labels deleted", "no metadata"}
"""What is left has no name, so that it is nobody's object."""


@pytest.mark.parametrize("attack", ATTACKS)
async def test_what_a_nodes_certificate_may_not_do(stolen: Stolen, attack: str, caplog: pytest.LogCaptureFixture) -> None:
    method, path, body, content_type = ATTACKS[attack]
    before = await stolen.everything()
    code, said = await stolen(method, path, body, content_type or "application/json")
    assert code == (422 if attack in NO_STATUS else 400 if attack in NO_NAME else 403), said
    assert await stolen.everything() == before
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "body",
    [{"spec": {"podCIDR": "10.0.0.0/8", "unschedulable": True}}, {"spec": None}, {"metadata": {"finalizers": ["a/b"]}}, {"kind": "Node"}],
)
async def test_what_a_status_cannot_say_changes_nothing(stolen: Stolen, body: dict[str, Any]) -> None:
    before = await stolen.everything()
    assert (await stolen("PATCH", NODE_STATUS, body, MERGE))[0] == 200
    assert await stolen.everything() == before


SHAPES: list[Any] = [
    {"metadata": {"labels": "x"}},
    {"metadata": {"labels": ["x"]}},
    {"metadata": {"labels": {"kubernetes.io/arch": ["x"]}}},
    {"metadata": "x"},
    {"metadata": []},
    {"metadata": {"name": 5}},
    {"metadata": {"name": "minion-1", "finalizers": 5}},
    {"metadata": {"ownerReferences": "x"}},
    {"metadata": {"ownerReferences": ["x"]}},
    {"status": []},
    {"status": "x"},
    {"status": {"addresses": "x"}},
    {"status": {"addresses": ["x"]}},
    {"status": {"addresses": {"type": "InternalIP"}}},
    {"status": {"podIPs": "x", "podIP": 5}},
    {"status": {"podIPs": ["x"]}},
    {"status": {"hostIPs": [5]}},
    {"spec": "x"},
    {"involvedObject": "x"},
    {"involvedObject": ["x"]},
    {"source": "x"},
    {"related": 5},
    {"kind": 5},
    [],
    "x",
    5,
    None,
    b"{",
    b"\xff",
    b"",
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", NODES),
        ("POST", LEASES),
        ("POST", EVENTS),
        ("PUT", f"{LEASES}/minion-1"),
        ("PATCH", NODE_STATUS),
        ("PATCH", POD_STATUS),
        ("PATCH", f"{LEASES}/minion-1"),
        ("PATCH", f"{EVENTS}/pod-1.1"),
        ("DELETE", f"{PODS}/pod-1"),
    ],
)
async def test_wrong_shapes_are_refused_in_words(stolen: Stolen, method: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    for content_type in (MERGE, STRATEGIC) if method == "PATCH" else ("application/json",):
        for shape in SHAPES:
            code, said = await stolen(method, path, shape if shape is not None else b"null", content_type)
            assert code < 500, (shape, said)
            assert code < 300 or json.loads(said)["message"], shape
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_what_a_node_may_do_still_works(stolen: Stolen) -> None:
    own = {"status": {"addresses": [{"type": "InternalIP", "address": "10.245.1.11"}, {"type": "Hostname", "address": "minion-1"}]}}
    assert (await stolen("PATCH", NODE_STATUS, own, STRATEGIC))[0] == 200
    assert (await stolen("PATCH", NODE_STATUS, {"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}}, STRATEGIC))[0] == 200
    status = {"podIP": "10.246.1.7", "podIPs": [{"ip": "10.246.1.7"}], "hostIP": "10.245.1.11", "hostIPs": [{"ip": "10.245.1.11"}]}
    assert (await stolen("PATCH", POD_STATUS, {"status": status}, STRATEGIC))[0] == 200
    status = {"podIP": "10.245.1.11", "podIPs": [{"ip": "10.245.1.11"}]}
    assert (await stolen("PATCH", f"{PODS}/host-1/status", {"status": status}, STRATEGIC))[0] == 200
    assert (await stolen("PATCH", f"{EVENTS}/pod-1.1", {"count": 2, "message": "again"}, MERGE))[0] == 200
    gone = {"kind": "Pod", "namespace": "default", "name": "gone", "uid": "1-2-3"}
    assert (await stolen("POST", EVENTS, event("gone", "minion-1", involvedObject=gone)))[0] == 201
    assert (await stolen("POST", EVENTS, event("minion-1", "minion-1", involvedObject={"kind": "Node", "name": "minion-1"})))[0] == 201


async def test_a_node_asks_only_for_images_of_its_pods(stolen: Stolen) -> None:
    """An image's name is also an address that the master would dial."""
    for name in ("127.0.0.1:9/x", "", "other"):
        code, said = await stolen("GET", f"/labctl/v1/images/resolve?name={name}&platform=linux/amd64")
        assert (code, json.loads(said)["reason"]) == (403, "Forbidden")
    assert (await stolen("GET", "/labctl/v1/images/resolve/"))[0] == 403
    for name in ("nginx", "host", "files:1"):
        assert (await stolen("GET", f"/labctl/v1/images/resolve?name={name}&platform=linux/amd64"))[0] == 200
    assert stolen.resolved == ["nginx", "host", "files:1"]


GROWING = {
    "conditions of its status": lambda n: {"status": {"conditions": [{"type": f"T{n}-{i}", "status": "True"} for i in range(2000)]}},
    "labels of its own": lambda n: {"metadata": {"labels": {f"kubelet.kubernetes.io/a{n}-{i}": "x" * 60 for i in range(1000)}}},
    "a capacity for everything": lambda n: {"status": {"capacity": {f"example.com/a{n}-{i}": "1" for i in range(2000)}}},
}


@pytest.mark.parametrize("what", GROWING)
async def test_a_nodes_object_does_not_grow_with_each_patch(stolen: Stolen, what: str) -> None:
    """Patches are merged, so each may be small. A node of 8 MB made each later change of it cost a second."""
    codes = [(await stolen("PATCH", NODE_STATUS, GROWING[what](number), STRATEGIC))[0] for number in range(20)]
    assert codes[0] == 200 and codes[-1] == 413
    assert len((await stolen("GET", f"{NODES}/minion-1"))[1]) < 300_000


async def test_what_a_node_says_of_its_pods_and_in_its_lease_has_a_size(stolen: Stolen) -> None:
    assert (await stolen("PATCH", POD_STATUS, {"status": {"message": "m" * 300_000}}, STRATEGIC))[0] == 413
    assert (await stolen("PATCH", f"{LEASES}/minion-1", {"spec": {"holderIdentity": "m" * 5000}}, MERGE))[0] == 413


async def test_nobodys_object_grows_without_end(stolen: Stolen) -> None:
    """A stored object has the bound of a body; one that has reached it can still be changed and deleted."""

    async def patched(**conditions: str) -> int:
        body = {"status": {"conditions": [{"type": type_, "status": "True", "message": message} for type_, message in conditions.items()]}}
        return (await _send(stolen.admin, "PATCH", NODE_STATUS, body, STRATEGIC))[0]

    assert [await patched(**{f"T{number}": "m" * 1_000_000}) for number in range(4)] == [200, 200, 200, 413]
    assert await patched(T0="short") == 200
    assert await patched(T4="m" * 500_000) == 200
    assert (await _send(stolen.admin, "DELETE", f"{NODES}/minion-1"))[0] == 200
