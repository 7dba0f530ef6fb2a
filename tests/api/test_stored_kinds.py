"""Kinds that labctl keeps for programs: all verbs, the status beside the object, what may not change, and a warning for who makes one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.inprocess import ApiServer

CLAIM = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpus"}}]}}
POOL = {"name": "p", "generation": 1, "resourceSliceCount": 1}

# resource: (path, an object without metadata, a change that must be refused, the beginning of its cells after the name)
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[Any]]] = {
    "csidrivers": (
        "storage.k8s.io/v1", {"spec": {}}, {"spec": {"attachRequired": False}}, ["true", "false", "false", "<unset>", "false", "Persistent"],
    ),
    "csinodes": ("storage.k8s.io/v1", {"spec": {"drivers": [{"name": "a.b", "nodeID": "x"}]}}, {"spec": {"drivers": [{"name": "a.b", "nodeID": ""}]}}, [1]),
    "csistoragecapacities": (
        "storage.k8s.io/v1", {"storageClassName": "fast", "capacity": "1Gi"}, {"storageClassName": "slow"}, ["fast", "1Gi"],
    ),
    "volumeattachments": (
        "storage.k8s.io/v1",
        {"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}},
        {"spec": {"nodeName": "other"}},
        ["a.b", "pv", "n", "false"],
    ),
    "volumeattributesclasses": ("storage.k8s.io/v1", {"driverName": "a.b", "parameters": {"iops": "5"}}, {"parameters": {"iops": "6"}}, ["a.b"]),
    "flowschemas": (
        "flowcontrol.apiserver.k8s.io/v1",
        {"spec": {"priorityLevelConfiguration": {"name": "low"}}},
        {"spec": {"matchingPrecedence": 10_001}},
        ["low", 1000, "<none>"],
    ),
    "prioritylevelconfigurations": (
        "flowcontrol.apiserver.k8s.io/v1",
        {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}}},
        {"spec": {"limited": {"limitResponse": {"queuing": {"handSize": 65}}}}},
        ["Limited", 30, 64, 8, 50],
    ),
    "ipaddresses": (
        "networking.k8s.io/v1",
        {"spec": {"parentRef": {"group": "g.example", "resource": "things", "namespace": "ns", "name": "x"}}},
        {"spec": {"parentRef": {"name": "y"}}},
        ["things.g.example/ns/x"],
    ),
    "servicecidrs": ("networking.k8s.io/v1", {"spec": {"cidrs": ["203.0.113.0/24"]}}, {"spec": {"cidrs": ["203.0.114.0/24"]}}, ["203.0.113.0/24"]),
    "deviceclasses": ("resource.k8s.io/v1", {"spec": {}}, {"spec": {"selectors": [{}]}}, []),
    "devicetaintrules": (
        "resource.k8s.io/v1",
        {"spec": {"deviceSelector": {"pool": "p"}, "taint": {"key": "example.com/broken", "effect": "NoExecute"}}},
        {"spec": {"taint": {"effect": "Sometimes"}}},
        [],
    ),
    "storageversionmigrations": (
        "storagemigration.k8s.io/v1",
        {"spec": {"resource": {"group": "example.com", "resource": "widgets"}}},
        {"spec": {"resource": {"resource": "gadgets"}}},
        ["widgets"],
    ),
    "resourceclaims": (
        "resource.k8s.io/v1", {"spec": CLAIM}, {"spec": {"devices": {"requests": [{"name": "b", "exactly": {"deviceClassName": "x"}}]}}}, ["pending"],
    ),
    "resourceclaimtemplates": ("resource.k8s.io/v1", {"spec": {"spec": CLAIM}}, {"spec": {"spec": {"devices": {"requests": []}}}}, []),
    "resourceslices": (
        "resource.k8s.io/v1", {"spec": {"driver": "a.b", "pool": POOL, "nodeName": "n", "devices": [{"name": "d"}]}}, {"spec": {"driver": "c.d"}}, ["n", "a.b", "p"],
    ),
}  # fmt: skip
ACTED_ON = ("storageversionmigrations",)
NAMES = {"ipaddresses": ("192.0.2.1", "2001:db8::1")}
MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with ApiServer.running(tmp_path) as api, api.session() as session:
        yield session


@pytest.mark.parametrize("resource", KINDS)
async def test_it_has_every_verb(http: aiohttp.ClientSession, resource: str) -> None:
    group, body, refused, cells = KINDS[resource]
    async with http.get(f"/apis/{group}") as answer:
        served = {each["name"]: each for each in (await answer.json())["resources"]}
    url = f"/apis/{group}/{'namespaces/default/' if served[resource]['namespaced'] else ''}{resource}"
    one, other = NAMES.get(resource, ("one", "other"))
    for name in (one, other):
        made = {"apiVersion": group, "kind": served[resource]["kind"], "metadata": {"name": name, "labels": {"a": "b"}}, **body}
        async with http.post(url, json=made) as answer:
            assert answer.status == 201, await answer.text()
            warnings = answer.headers.getall("Warning", [])
            assert len(warnings) == (resource not in ACTED_ON) and all("labctl stores" in warning for warning in warnings)
    async with http.patch(f"{url}/{one}", json={"metadata": {"annotations": {"x": "y"}}}, headers=MERGE) as answer:
        changed = await answer.json()
        assert changed["metadata"]["annotations"] == {"x": "y"} and "Warning" not in answer.headers
    async with http.patch(f"{url}/{one}", json=refused, headers=MERGE) as answer:
        assert answer.status == 422, await answer.text()
    async with http.put(f"{url}/{one}", json={**changed, "metadata": {**changed["metadata"], "annotations": {}}}) as answer:
        assert answer.status == 200, await answer.text()
    if f"{resource}/status" in served:
        async with http.patch(f"{url}/{one}/status", json={"metadata": {"annotations": {"s": "1"}}, **refused}, headers=MERGE) as answer:
            after = await answer.json()
            kept = resource in ("flowschemas", "prioritylevelconfigurations", "resourceclaims", "volumeattachments")
            assert after["metadata"].get("annotations") == (None if kept else {"s": "1"})
            assert after["spec"] == changed["spec"]  # the spec is not its business
    async with http.get(url, headers=TABLE, params={"fieldSelector": f"metadata.name={one}"}) as answer:
        [row] = (await answer.json())["rows"]
        assert row["cells"][: len(cells) + 1] == [one, *cells]
    async with http.delete(f"{url}/{one}") as answer:
        assert answer.status == 200
    async with http.delete(url, params={"labelSelector": "a=b"}) as answer:
        assert answer.status == 200
    async with http.get(url, params={"labelSelector": "a=b"}) as answer:
        assert (await answer.json())["items"] == []


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("networking.k8s.io/v1/ipaddresses", {"metadata": {"name": "not-one"}, "spec": {"parentRef": {"resource": "a", "name": "b"}}}, "valid IP"),
        ("networking.k8s.io/v1/ipaddresses", {"metadata": {"name": "2001:DB8::1"}, "spec": {"parentRef": {"resource": "a", "name": "b"}}}, "canonical"),
        ("networking.k8s.io/v1/servicecidrs", {"metadata": {"name": "x"}, "spec": {"cidrs": ["10.0.0.1/24"]}}, "bits set beyond"),
        ("networking.k8s.io/v1/servicecidrs", {"metadata": {"name": "x"}, "spec": {"cidrs": ["10.0.0.0/24", "10.1.0.0/24"]}}, "IP family"),
        ("storage.k8s.io/v1/csidrivers", {"metadata": {"name": "x"}, "spec": {"fsGroupPolicy": "Maybe"}}, "Unsupported value"),
        ("storage.k8s.io/v1/volumeattachments", {"metadata": {"name": "x"}, "spec": {"attacher": "a", "nodeName": "n", "source": {}}}, "spec.source"),
        ("flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", {"metadata": {"name": "x"}, "spec": {"type": "Limited"}}, "spec.limited"),
        (
            "resource.k8s.io/v1/namespaces/default/resourceclaims",
            {"metadata": {"name": "x"}, "spec": {"devices": {"requests": [{"name": "a"}, {"name": "a", "firstAvailable": [{"name": "b"}]}]}}},
            "Duplicate value",
        ),
    ],
)  # fmt: skip
async def test_what_is_no_such_object_is_refused(http: aiohttp.ClientSession, path: str, body: dict[str, Any], why: str) -> None:
    async with http.post(f"/apis/{path}", json=body) as answer:
        assert answer.status == 422 and why in (await answer.json())["message"], await answer.text()


async def test_a_claims_status_is_kept_and_shown(http: aiohttp.ClientSession) -> None:
    url = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
    async with http.post(url, json={"metadata": {"name": "c"}, "spec": CLAIM, "status": {"reservedFor": []}}) as answer:
        made = await answer.json()
        assert made["status"] == {}
        assert made["spec"]["devices"]["requests"][0]["exactly"] == {"allocationMode": "ExactCount", "count": 1, "deviceClassName": "gpus"}
    status = {"allocation": {"devices": {"results": [{"request": "gpu", "driver": "a.b", "pool": "p", "device": "d"}]}}}
    async with http.patch(f"{url}/c/status", json={"status": status}, headers=MERGE) as answer:
        assert (await answer.json())["status"] == status
    async with http.get(url, headers=TABLE) as answer:
        assert (await answer.json())["rows"][0]["cells"][1] == "allocated"
