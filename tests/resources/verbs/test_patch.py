"""Patches through the facade: each form on a real object, what a bad one is told, and server-side apply that creates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.verbs.patch import APPLY, JSON, STRATEGIC
from tests.resources.conftest import Lab, config, controller, pod


async def test_a_json_patch(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    operations = b'[{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b", "value": "2"}]'
    await lab.patch("configmaps", "web", operations, type_=JSON)
    assert lab.get("configmaps", "web")["data"] == {"a": "1", "b": "2"}  # type: ignore[index]


async def test_a_merge_patch_takes_away_with_null(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1", b="2"))
    await lab.patch("configmaps", "web", b'{"data": {"a": null}}')
    assert lab.get("configmaps", "web")["data"] == {"b": "2"}  # type: ignore[index]


async def test_a_strategic_patch_finds_a_container_by_its_name(lab: Lab) -> None:
    await lab.create("pods", pod(containers=[{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]))
    await lab.patch("pods", "web", {"spec": {"containers": [{"name": "b", "image": "three"}]}}, type_=STRATEGIC)
    found = lab.get("pods", "web")
    assert found and [c["image"] for c in found["spec"]["containers"]] == ["one", "three"]


async def test_what_a_strategic_patch_says_of_the_kind_means_nothing(lab: Lab) -> None:
    """Tools that scale send the kind of what they scale with the patch of its Scale."""
    await lab.create("replicationcontrollers", controller())
    for subresource in ("scale", ""):
        said = {"kind": "Elsewhat", "apiVersion": "example.com/v1", "metadata": {"name": "web"}, "spec": {"replicas": 7}}
        await lab.patch("replicationcontrollers", "web", said, subresource, STRATEGIC)
    found = lab.get("replicationcontrollers", "web")
    assert found and (found["kind"], found["apiVersion"], found["spec"]["replicas"]) == ("ReplicationController", "v1", 7)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"kind": "Elsewhat"}, 'no kind "Elsewhat" is registered for version "v1" in scheme'),
        ({"kind": "Pod"}, "converting (v1.Pod) to (core.ReplicationController): unknown conversion"),
    ],
)
async def test_other_patches_make_a_document_of_that_kind(lab: Lab, said: dict[str, str], why: str) -> None:
    await lab.create("replicationcontrollers", controller())
    for type_, patch in (("application/merge-patch+json", said), (JSON, [{"op": "replace", "path": "/kind", "value": said["kind"]}])):
        with pytest.raises(ApiError) as caught:
            await lab.patch("replicationcontrollers", "web", patch, type_=type_)
        assert (
            caught.value.code == 422 and why in str(caught.value) and str(caught.value).startswith(' "" is invalid: patch: Invalid value: ')
        )


@pytest.mark.parametrize(
    ("patch", "shown", "why"),
    [
        ({"metadata": {"labels": "a"}}, "map[metadata:map[labels:a]]", "cannot restore map from string"),
        ({"metadata": {"labels": {"b": 1}}}, "map[metadata:map[labels:map[b:1]]]", "cannot convert int64 to string"),
        ({"metadata": {"labels": {"b": True}}}, "map[metadata:map[labels:map[b:true]]]", "unrecognized type: string"),
        ({"spec": {"replicas": "two"}}, "map[spec:map[replicas:two]]", "unrecognized type: int32"),
        ({"spec": {"replicas": 1.5, "minReadySeconds": None}}, "map[spec:map[minReadySeconds:<nil> replicas:1.5]]", "cannot convert float64 to int32"),
        ({"spec": {"template": [1, "x"]}}, "map[spec:map[template:[1 x]]]", "cannot restore struct from: slice"),
        ({"spec": {"template": {"spec": {"containers": {}}}}}, "map[spec:map[template:map[spec:map[containers:map[]]]]]", "cannot restore slice from map"),
    ],
)  # fmt: skip
async def test_what_a_strategic_patch_makes_of_a_wrong_type_is_no_json(lab: Lab, patch: dict[str, Any], shown: str, why: str) -> None:
    await lab.create("replicationcontrollers", controller())
    with pytest.raises(ApiError) as caught:
        await lab.patch("replicationcontrollers", "web", json.dumps(patch).encode(), type_=STRATEGIC)
    assert (caught.value.code, str(caught.value)) == (422, f' "" is invalid: patch: Invalid value: "{shown}": {why}')


async def test_a_merge_patch_of_a_wrong_type_is_json(lab: Lab) -> None:
    await lab.create("replicationcontrollers", controller())
    with pytest.raises(ApiError, match="json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type"):
        await lab.patch("replicationcontrollers", "web", {"metadata": {"labels": "a"}}, type_="application/merge-patch+json")


async def test_a_strategic_status_patch_merges_conditions(lab: Lab) -> None:
    await lab.create("pods", pod())
    await lab.client.bind("default/web", "minion-1")
    uid = lab.get("pods", "web")["metadata"]["uid"]  # type: ignore[index]
    patch = {"metadata": {"uid": uid}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    await lab.patch("pods", "web", patch, "status", STRATEGIC)
    found = lab.get("pods", "web")
    assert found and found["status"]["phase"] == "Running"
    assert {c["type"] for c in found["status"]["conditions"]} == {"PodScheduled", "Ready"}
    assert found["spec"]["nodeName"] == "minion-1"


@pytest.mark.parametrize(
    ("type_", "patch", "code"),
    [
        ("application/merge-patch+json", b"{", 400),
        (JSON, b'{"a": 1}', 400),
        (JSON, b'[{"op": "remove", "path": "/data/missing"}]', 422),
        ("text/plain", b"{}", 415),
        ("application/merge-patch+json", b'{"spec": 1}', 422),
        (APPLY, b"a: [", 400),
    ],
)
async def test_bad_patches(lab: Lab, type_: str, patch: bytes, code: int) -> None:
    await lab.create("replicationcontrollers", controller())
    with pytest.raises(ApiError) as caught:
        await lab.patch("replicationcontrollers", "web", patch, type_=type_, field_manager="me", field_validation="Strict")
    assert caught.value.code == code


async def test_a_patch_at_a_revision_is_not_tried_again(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    old = lab.get("configmaps", "web")["metadata"]["resourceVersion"]  # type: ignore[index]
    await lab.patch("configmaps", "web", {"data": {"a": "2"}})
    with pytest.raises(ApiError) as caught:
        await lab.patch("configmaps", "web", {"metadata": {"resourceVersion": old}, "data": {"a": "3"}})
    assert caught.value.code == 409


async def test_an_object_can_not_become_another_kind(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    with pytest.raises(ApiError) as caught:
        await lab.patch("configmaps", "web", {"kind": "Secret"})
    assert caught.value.code == 422


async def test_apply_creates_then_owns(lab: Lab) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: '1', b: '2'}\n"
    assert (await lab.patch("configmaps", "web", body, type_=APPLY, field_manager="me")).created
    revision = lab.store.revision
    assert not (await lab.patch("configmaps", "web", body, type_=APPLY, field_manager="me")).created
    assert lab.store.revision == revision, "the same again changes nothing"
    await lab.patch("configmaps", "web", body.replace(b", b: '2'", b""), type_=APPLY, field_manager="me")
    assert lab.get("configmaps", "web")["data"] == {"a": "1"}, "what it no longer says goes"  # type: ignore[index]


async def test_apply_against_another_manager(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"), field_manager="kubectl-create")
    body = b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "2"}}'
    with pytest.raises(ApiError) as caught:
        await lab.patch("configmaps", "web", body, type_=APPLY, field_manager="me")
    assert (caught.value.code, caught.value.reason) == (409, "Conflict")
    await lab.patch("configmaps", "web", body, type_=APPLY, field_manager="me", force=True)
    assert lab.get("configmaps", "web")["data"] == {"a": "2"}  # type: ignore[index]


async def test_controllers_writes_stay_small(lab: Lab) -> None:
    made = await lab.client.create("configmaps", {"metadata": {"name": "x", "namespace": "default"}, "data": {"a": "1"}})
    raw = lab.client.raw("configmaps", made.metadata.key)
    assert raw and "managedFields" not in raw["metadata"]


async def test_a_controllers_write_to_an_applied_object_is_accounted_for(lab: Lab) -> None:
    body = {"apiVersion": "v1", "kind": "ReplicationController", **controller(replicas=1)}
    await lab.patch("replicationcontrollers", "web", json.dumps(body).encode(), type_=APPLY, field_manager="me")
    await lab.client.patch("replicationcontrollers", "default/web", {"status": {"replicas": 1}}, "status")
    rc = lab.get("replicationcontrollers", "web")
    assert rc and [entry["manager"] for entry in rc["metadata"]["managedFields"]] == ["me", "system:labctl"]
