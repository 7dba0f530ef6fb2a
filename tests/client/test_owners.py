"""Who owns which fields after a plain write: its author owns what he wrote and its defaults, and not what admission and the server make of it.

kubectl counts on that: who applied by the client and begins to apply by the server takes his fields over, and what he no longer names is removed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.client.test_kubectl import ok
from tests.inprocess import ApiServer

POD = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
OBJECTS: dict[str, dict[str, Any]] = {
    "job": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": POD}}},
    "pod": {"apiVersion": "v1", "kind": "Pod", "spec": POD},
    "service": {"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}},
    "pvc": {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
}
NOT_MINE = {
    "job": ("f:selector", "controller-uid", "f:labels"),
    "pod": ("kube-api-access", "f:serviceAccount", "f:priority", "f:tolerations"),
    "service": ("f:clusterIP", "f:nodePort", "f:ipFamilies"),
    "pvc": ("f:finalizers", "f:storageClassName"),
}


def of(name: str) -> dict[str, Any]:
    return {**OBJECTS[name], "metadata": {"name": "mine", "namespace": "default"}}


async def read(api: ApiServer, name: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(await ok(api, "get", name, "mine", "--show-managed-fields", "-o", "json"))
    return whole


@pytest.mark.parametrize("name", OBJECTS)
async def test_what_the_server_makes_of_an_object_is_not_its_authors(api: ApiServer, name: str) -> None:
    await ok(api, "apply", "-f", "-", stdin=of(name))
    whole = await read(api, name)
    [entry] = whole["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("kubectl-client-side-apply", "Update")
    said = json.dumps(entry["fieldsV1"])
    assert "f:spec" in said and not [field for field in NOT_MINE[name] if field in said], said


@pytest.mark.parametrize("name", OBJECTS)
async def test_who_begins_to_apply_by_the_server_loses_nothing(api: ApiServer, name: str) -> None:
    await ok(api, "apply", "-f", "-", stdin=of(name))
    before = await read(api, name)
    done = await api.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(of(name)))
    assert done.code == 0 and "failed to re-apply" not in done.err, done.err
    after = await read(api, name)
    assert (after["spec"], after["metadata"].get("finalizers")) == (before["spec"], before["metadata"].get("finalizers"))
    assert [entry["manager"] for entry in after["metadata"]["managedFields"]] == ["kubectl", "kubectl-last-applied"]


async def test_who_changes_an_object_owns_his_change_only(api: ApiServer) -> None:
    """A Service that becomes a NodePort is given a port by the server."""
    path = "/api/v1/namespaces/default/services"
    async with api.session() as session:
        async with session.post(path, json={"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}, params={"fieldManager": "one"}):
            pass
        patch = {"headers": {"Content-Type": "application/merge-patch+json"}, "params": {"fieldManager": "two"}}
        async with session.patch(f"{path}/s", json={"spec": {"type": "NodePort"}}, **patch) as answer:
            changed = await answer.json()
    assert changed["spec"]["ports"][0]["nodePort"] > 0
    said = {entry["manager"]: json.dumps(entry["fieldsV1"]) for entry in changed["metadata"]["managedFields"]}
    assert "f:type" in said["two"] and "f:type" not in said["one"] and "f:ports" in said["one"]
    assert not [each for each in said.values() if "nodePort" in each]
