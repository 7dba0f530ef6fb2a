"""Binding, eviction, scale."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.service import SYSTEM, WriteOptions, WriteResult
from labctl.resources.verbs.patch import MERGE
from labctl.sim.objects import deployment
from tests.resources.conftest import Lab, controller, pod


async def post(lab: Lab, name: str, subresource: str, body: dict[str, Any]) -> WriteResult:
    return await lab.resources.create(lab.kind("pods"), "default", body, WriteOptions(user=SYSTEM), name, subresource)


def binding(node: str = "minion-1", **metadata: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web", **metadata}, "target": {"kind": "Node", "name": node}}


async def test_a_binding_names_the_node_and_says_so(lab: Lab) -> None:
    await lab.create("pods", pod())
    written = await post(lab, "web", "binding", binding())
    assert json.loads(written.entry.value)["status"] == "Success"
    bound = lab.get("pods", "web")
    assert bound
    assert bound["spec"]["nodeName"] == "minion-1"
    (told,) = bound["status"]["conditions"]
    assert told == {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T15:04:05Z", "observedGeneration": 1}


async def test_a_bound_pod_is_nominated_for_no_node(lab: Lab) -> None:
    await lab.create("pods", pod())
    await lab.resources.patch(
        lab.kind("pods"), "default", "web", {"status": {"nominatedNodeName": "minion-2"}}, MERGE, WriteOptions(user=SYSTEM), "status"
    )
    assert (lab.get("pods", "web") or {})["status"]["nominatedNodeName"] == "minion-2"
    await post(lab, "web", "binding", binding())
    bound = lab.get("pods", "web")
    assert bound and "nominatedNodeName" not in bound["status"]


async def test_a_pod_is_bound_once(lab: Lab) -> None:
    await lab.create("pods", pod())
    results = await asyncio.gather(
        post(lab, "web", "binding", binding()), post(lab, "web", "binding", binding("minion-2")), return_exceptions=True
    )
    [error] = [result for result in results if isinstance(result, ApiError)]
    assert error.code == 409
    assert error.message == 'Operation cannot be fulfilled on pods/binding "web": pod web is already assigned to node "minion-1"'


async def test_a_terminating_pod_is_not_bound(lab: Lab) -> None:
    await lab.create("pods", {**pod(), "metadata": {"name": "web", "finalizers": ["example.com/hold"]}})
    await lab.delete("pods", "web")
    with pytest.raises(ApiError) as caught:
        await post(lab, "web", "binding", binding())
    assert "pod web is being deleted, cannot be assigned to a host" in caught.value.message


async def test_a_binding_of_an_older_pod_of_that_name(lab: Lab) -> None:
    await lab.create("pods", pod())
    with pytest.raises(ApiError) as caught:
        await post(lab, "web", "binding", binding(uid="old"))
    assert caught.value.code == 409


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"kind": "Node"}, 'Binding "web" is invalid: target.name: Required value'),
        ({"kind": "Machine", "name": "x"}, 'Binding "web" is invalid: target.kind: Unsupported value: "Machine"'),
    ],
)
async def test_a_binding_without_a_node_is_refused(lab: Lab, target: dict[str, str], words: str) -> None:
    await lab.create("pods", pod())
    with pytest.raises(ApiError) as caught:
        await post(lab, "web", "binding", {"target": target})
    assert caught.value.message.startswith(words)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_an_eviction_deletes(lab: Lab, version: str) -> None:
    await lab.create("pods", pod())
    await lab.client.bind("default/web", "minion-1")
    body = {"apiVersion": f"policy/{version}", "kind": "Eviction", "metadata": {"name": "web"}, "deleteOptions": {"gracePeriodSeconds": 5}}
    written = await post(lab, "web", "eviction", body)
    assert json.loads(written.entry.value)["status"] == "Success"
    left = lab.get("pods", "web")
    assert left and left["metadata"]["deletionGracePeriodSeconds"] == 5
    (told,) = [each for each in left["status"]["conditions"] if each["type"] == "DisruptionTarget"]
    assert (told["status"], told["reason"], told["message"]) == ("True", "EvictionByEvictionAPI", "Eviction API: evicting")


async def test_an_eviction_of_an_older_revision_changes_nothing(lab: Lab) -> None:
    await lab.create("pods", pod())
    await lab.client.bind("default/web", "minion-1")
    before = lab.get("pods", "web")
    assert before
    for revision, refused in (("1", True), (before["metadata"]["resourceVersion"], False)):
        body = {"metadata": {"name": "web"}, "deleteOptions": {"preconditions": {"resourceVersion": revision}}}
        if refused:
            with pytest.raises(ApiError) as caught:
                await post(lab, "web", "eviction", body)
            assert caught.value.code == 409 and lab.get("pods", "web") == before
        else:
            await post(lab, "web", "eviction", body)
            assert "deletionTimestamp" in lab.get("pods", "web")["metadata"]  # type: ignore[index]


async def test_a_body_about_another_pod(lab: Lab) -> None:
    await lab.create("pods", pod())
    with pytest.raises(ApiError) as caught:
        await post(lab, "web", "eviction", {"metadata": {"name": "other"}})
    assert caught.value.code == 400


async def test_a_missing_subresource_is_not_found(lab: Lab) -> None:
    await lab.create("pods", pod())
    with pytest.raises(ApiError) as caught:
        await post(lab, "web", "nothing", {})
    assert caught.value.code == 404


async def test_a_scale_is_read_and_written(lab: Lab) -> None:
    await lab.create("replicationcontrollers", controller(replicas=2))
    kind = lab.kind("replicationcontrollers")
    scale = json.loads(lab.resources.get(kind, "default", "web", "scale").value)
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "app=web"})
    scale["spec"]["replicas"] = 4
    written = await lab.update("replicationcontrollers", scale, "scale")
    assert json.loads(written.entry.value)["spec"] == {"replicas": 4}
    await lab.patch("replicationcontrollers", "web", {"spec": {"replicas": 6}}, "scale")
    rc = lab.get("replicationcontrollers", "web")
    assert rc and (rc["spec"]["replicas"], rc["metadata"]["generation"]) == (6, 3)
    with pytest.raises(ApiError) as caught:
        await lab.update("replicationcontrollers", scale, "scale")
    assert caught.value.code == 409, "the scale is of an older state"


async def test_who_scales_owns_the_count_through_scale(lab: Lab) -> None:
    await lab.create("replicationcontrollers", controller(replicas=2), field_manager="kubectl-create")
    await lab.patch("replicationcontrollers", "web", {"spec": {"replicas": 6}}, "scale", field_manager="kubectl")
    rc = lab.get("replicationcontrollers", "web")
    assert rc
    owners = {entry["manager"]: entry.get("subresource", "") for entry in rc["metadata"]["managedFields"]}
    assert owners == {"kubectl-create": "", "kubectl": "scale"}


async def test_a_negative_scale_is_refused(lab: Lab) -> None:
    await lab.create("replicationcontrollers", controller())
    with pytest.raises(ApiError) as caught:
        await lab.patch("replicationcontrollers", "web", {"spec": {"replicas": -1}}, "scale")
    assert caught.value.message == (
        'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )


@pytest.mark.parametrize(
    ("plural", "kept"),
    [("replicationcontrollers", set()), ("deployments.apps", {"labels"}), ("volumeattachments.storage.k8s.io", {"labels", "annotations"})],
)
async def test_the_metadata_that_a_write_of_the_status_can_not_change(lab: Lab, plural: str, kept: set[str]) -> None:
    """A Deployment's labels stay what they were, other kinds keep all of their metadata, and most take what is sent."""
    attachment = {"attacher": "example.com", "nodeName": "minion-1", "source": {"persistentVolumeName": "disk"}}
    made = {
        "replicationcontrollers": controller(),
        "deployments.apps": deployment("web", 1),
        "volumeattachments.storage.k8s.io": {"metadata": {"name": "web"}, "spec": attachment},
    }[plural]
    made["metadata"] |= {"labels": {"who": "first"}, "annotations": {"who": "first"}}
    await lab.create(plural, made)
    name = made["metadata"]["name"]
    changed = {"metadata": {"labels": {"who": "second"}, "annotations": {"who": "second"}, "finalizers": ["example.com/x"]}}
    await lab.patch(plural, name, changed, subresource="status")
    found = lab.get(plural, name)
    assert found
    for field in ("labels", "annotations"):
        assert found["metadata"][field] == {"who": "first" if field in kept else "second"}
    assert "finalizers" not in found["metadata"]
