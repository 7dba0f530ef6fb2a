"""What an agent may do with claims and volumes: read those of its pods, find those on its disk, and let one go once its data is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_authorize import MERGE, PODS, Lab
from tests.inprocess import ApiServer

CLAIMS, VOLUMES = "/api/v1/namespaces/default/persistentvolumeclaims", "/api/v1/persistentvolumes"
DATA, PROTECTION = "labctl.internal/local-data", "kubernetes.io/pv-protection"


def volume(name: str, node: str, claim: str, own: bool = True) -> dict[str, Any]:
    annotations = {"pv.kubernetes.io/provisioned-by": "labctl.internal/local"} if own else {}
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "local": {"path": "/x"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        "claimRef": {"namespace": "default", "name": claim},
    }
    return {"metadata": {"name": name, "annotations": annotations, "finalizers": [DATA, PROTECTION]}, "spec": spec}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with ApiServer.running(tmp_path) as api, api.session() as admin, api.session("node:minion-1") as agent:
        lab = Lab(admin, agent)
        for number in (1, 2):
            name = f"c{number}"
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            assert (await lab.as_admin("POST", CLAIMS, {"metadata": {"name": name}, "spec": spec}))[0] == 201
            volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]
            pod = {"nodeName": f"minion-{number}", "containers": [{"name": "c", "image": "x"}], "volumes": volumes}
            assert (await lab.as_admin("POST", PODS, {"metadata": {"name": f"p{number}"}, "spec": pod}))[0] == 201
            assert (await lab.as_admin("POST", VOLUMES, volume(f"own-{number}", f"minion-{number}", "none")))[0] == 201
            assert (await lab.as_admin("POST", VOLUMES, volume(f"static-{number}", "minion-1", name, own=False)))[0] == 201
        yield lab


@pytest.mark.parametrize(
    "path", [f"{CLAIMS}/c1", f"{VOLUMES}/static-1", f"{VOLUMES}/own-1", f"{VOLUMES}?fieldSelector=labctl.internal/node%3Dminion-1"]
)
async def test_what_it_may_read(lab: Lab, path: str) -> None:
    assert (await lab.as_agent("GET", path))[0] == 200


async def test_it_finds_the_volumes_on_its_disk(lab: Lab) -> None:
    _, listed = await lab.as_agent("GET", f"{VOLUMES}?fieldSelector=labctl.internal/node=minion-1")
    assert [each["metadata"]["name"] for each in listed["items"]] == ["own-1"]


@pytest.mark.parametrize(
    "path",
    [
        CLAIMS,
        f"{CLAIMS}/c2",
        f"{CLAIMS}/c1/status",
        VOLUMES,
        f"{VOLUMES}/static-2",
        f"{VOLUMES}/own-2",
        f"{VOLUMES}/own-1/status",
        f"{VOLUMES}?fieldSelector=labctl.internal/node=minion-2",
    ],
)
async def test_what_it_may_not_read(lab: Lab, path: str) -> None:
    assert (await lab.as_agent("GET", path))[0] == 403


async def test_it_ends_the_deletion_of_its_own_volume_and_does_nothing_else_to_it(lab: Lab) -> None:
    own = f"{VOLUMES}/own-1"
    free: dict[str, Any] = {"metadata": {"finalizers": [PROTECTION]}}
    assert (await lab.as_agent("PATCH", own, free, MERGE))[0] == 403, "nobody has deleted it"
    assert (await lab.as_admin("DELETE", own))[0] == 200
    for body in (
        {"metadata": {"finalizers": []}},
        {"metadata": {"finalizers": None}},
        {**free, "spec": {"persistentVolumeReclaimPolicy": "Delete"}},
        {"metadata": {**free["metadata"], "annotations": None}},
        {"metadata": {**free["metadata"], "labels": {"a": "b"}}},
    ):
        code, said = await lab.as_agent("PATCH", own, body, MERGE)
        assert code == 403, said
    assert (await lab.as_agent("DELETE", own))[0] == 403
    for other in ("own-2", "static-1"):
        assert (await lab.as_admin("DELETE", f"{VOLUMES}/{other}"))[0] == 200
        assert (await lab.as_agent("PATCH", f"{VOLUMES}/{other}", free, MERGE))[0] == 403
    assert (await lab.as_agent("PATCH", own, free, MERGE))[0] == 200
    assert (await lab.as_admin("PATCH", own, {"metadata": {"finalizers": None}}, MERGE))[0] == 200
    assert (await lab.as_admin("GET", own))[0] == 404
