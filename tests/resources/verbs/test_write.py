"""Create and update: what the server sets, what it keeps, and what it refuses, in its words."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence

import pytest

from labctl.errors import ApiError, Unavailable
from labctl.resources.encoding import client_bytes
from labctl.resources.service import WriteOptions
from labctl.store.interface import Batch, Compare, Delete
from labctl.store.log import LogStore
from labctl.store.memory import MemoryEngine
from tests.resources.conftest import PERSON, Lab, config, controller, pod


async def test_a_new_object_gets_the_metadata_that_the_server_sets(lab: Lab) -> None:
    written = await lab.create("configmaps", config(a="1"))
    metadata = json.loads(client_bytes(written.entry))["metadata"]
    assert written.created
    assert metadata["creationTimestamp"] == "2026-01-02T15:04:05Z"
    assert metadata["resourceVersion"] == str(lab.store.revision)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", metadata["uid"])
    assert metadata["namespace"] == "default"


async def test_a_generated_name_is_the_prefix_and_five_characters_that_spell_no_words(lab: Lab) -> None:
    written = await lab.create("configmaps", {"metadata": {"generateName": "web-"}})
    assert re.fullmatch(r"web-[bcdfghjklmnpqrstvwxz2456789]{5}", json.loads(written.entry.value)["metadata"]["name"])


async def test_a_long_prefix_leaves_room_for_the_five(lab: Lab) -> None:
    written = await lab.create("configmaps", {"metadata": {"generateName": "a" * 100}})
    assert len(json.loads(written.entry.value)["metadata"]["name"]) == 63


async def test_the_same_name_twice(lab: Lab) -> None:
    await lab.create("pods", pod())
    error = await lab.refused("pods", pod())
    assert (error.code, error.reason, error.message) == (409, "AlreadyExists", 'pods "web" already exists')
    assert error.details == {"name": "web", "kind": "pods"}


async def test_two_creates_at_once_have_one_winner(lab: Lab) -> None:
    results = await asyncio.gather(*(lab.create("pods", pod()) for _ in range(5)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ApiError"] * 4 + ["WriteResult"]


async def test_a_namespace_that_is_not_there(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        await lab.resources.create(lab.kind("pods"), "nope", pod())
    assert (caught.value.code, caught.value.message) == (404, 'namespaces "nope" not found')


async def test_no_object_is_created_in_a_terminating_namespace(lab: Lab) -> None:
    await lab.create("namespaces", {"metadata": {"name": "old"}})
    await lab.delete("namespaces", "old")
    with pytest.raises(ApiError) as caught:
        await lab.resources.create(lab.kind("pods"), "old", pod())
    error = caught.value
    assert error.code == 403
    assert error.message == 'pods "web" is forbidden: unable to create new content in namespace old because it is being terminated'
    assert error.details["causes"][0]["reason"] == "NamespaceTerminating"


async def test_a_namespace_whose_removal_is_not_yet_on_disk_is_gone_for_a_create(lab: Lab) -> None:
    """The deletion was first, and its commit is under way: as in Kubernetes the create is told of the namespace, not of a conflict."""
    await lab.create("namespaces", {"metadata": {"name": "old"}})
    await lab.create("configmaps", {"metadata": {"name": "kept"}})
    key = "namespaces/old"
    removal = asyncio.create_task(lab.store.commit([Delete(key)], [Compare(key, lab.store.get(key).revision)]))
    await asyncio.sleep(0)
    assert lab.store.get(key) is not None, "staged, and not visible"
    with pytest.raises(ApiError) as caught:
        await lab.resources.create(lab.kind("pods"), "old", pod())
    assert (caught.value.code, caught.value.reason, caught.value.message) == (404, "NotFound", 'namespaces "old" not found')
    await removal


async def test_an_update_of_what_is_just_being_deleted_is_told_so(lab: Lab) -> None:
    await lab.create("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}})
    key = "configmaps/default/a"
    removal = asyncio.create_task(lab.store.commit([Delete(key)], [Compare(key, lab.store.get(key).revision)]))
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as caught:
        await lab.patch("configmaps", "a", {"data": {"k": "w"}})
    assert (caught.value.code, caught.value.message) == (404, 'configmaps "a" not found')
    await removal


async def test_another_namespace_than_the_urls(lab: Lab) -> None:
    error = await lab.refused("pods", {**pod(), "metadata": {"name": "web", "namespace": "other"}})
    assert (error.code, error.message) == (400, "the namespace of the provided object does not match the namespace sent on the request")


async def test_a_name_with_shell_characters(lab: Lab) -> None:
    error = await lab.refused("pods", pod("a; rm -rf $HOME"))
    assert error.code == 422
    assert error.message.startswith(
        'Pod "a; rm -rf $HOME" is invalid: metadata.name: Invalid value: "a; rm -rf $HOME": a lowercase RFC 1123 subdomain'
    )
    assert [cause["field"] for cause in error.details["causes"]] == ["metadata.name"]


async def test_no_name_at_all(lab: Lab) -> None:
    error = await lab.refused("pods", {"spec": pod()["spec"]})
    assert error.message == 'Pod "" is invalid: metadata.name: Required value: name or generateName is required'


async def test_several_causes_stand_in_brackets(lab: Lab) -> None:
    error = await lab.refused("replicationcontrollers", controller(replicas=-1, minReadySeconds=-2))
    assert error.message == (
        'ReplicationController "web" is invalid: [spec.minReadySeconds: Invalid value: -2: must be greater than or equal to 0, '
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0]"
    )


async def test_a_dry_run_changes_nothing(lab: Lab) -> None:
    revision = lab.store.revision
    written = await lab.create("pods", pod(), dry_run=True)
    assert json.loads(written.entry.value)["status"]["phase"] == "Pending"
    assert lab.store.revision == revision


async def test_an_update_of_an_older_state(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    old = lab.get("configmaps", "web")
    assert old
    await lab.patch("configmaps", "web", {"data": {"a": "2"}})
    with pytest.raises(ApiError) as caught:
        await lab.update("configmaps", {**old, "data": {"a": "3"}})
    assert caught.value.code == 409
    assert caught.value.message == (
        'Operation cannot be fulfilled on configmaps "web": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_an_update_that_changes_nothing_writes_nothing(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    revision = lab.store.revision
    again = lab.get("configmaps", "web")
    assert again
    written = await lab.update("configmaps", {"metadata": {"name": "web"}, "data": {"a": "1"}})
    assert lab.store.revision == revision == written.entry.revision
    await lab.patch("configmaps", "web", {"data": {"a": "1"}})
    await lab.update("configmaps", again)
    assert lab.store.revision == revision


async def test_metadata_that_the_server_sets_survives_an_update(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    before = lab.get("configmaps", "web")
    await lab.update("configmaps", {"metadata": {"name": "web", "creationTimestamp": "2001-01-01T00:00:00Z"}, "data": {"a": "2"}})
    after = lab.get("configmaps", "web")
    assert before and after
    for name in ("uid", "creationTimestamp", "namespace"):
        assert after["metadata"][name] == before["metadata"][name]
    assert after["data"] == {"a": "2"}
    assert "labels" not in after["metadata"]


async def test_another_uid_is_another_object(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    uid = lab.get("configmaps", "web")["metadata"]["uid"]  # type: ignore[index]
    with pytest.raises(ApiError) as caught:
        await lab.patch("configmaps", "web", {"metadata": {"uid": "other"}, "data": {"a": "2"}})
    assert caught.value.code == 409
    assert caught.value.message == (
        'Operation cannot be fulfilled on configmaps "web": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/web, '
        f"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in object meta: {uid}"
    )


async def test_another_uid_of_a_kind_that_kubernetes_stores_otherwise(lab: Lab) -> None:
    await lab.create("nodes", {"metadata": {"name": "n1"}})
    with pytest.raises(ApiError, match="Key: /registry/minions/n1, ResourceVersion: 0"):
        await lab.patch("nodes", "n1", {"metadata": {"uid": "other"}})


async def test_a_name_that_is_not_the_urls(lab: Lab) -> None:
    await lab.create("configmaps", config(a="1"))
    with pytest.raises(ApiError) as caught:
        await lab.resources.update(lab.kind("configmaps"), "default", "web", config("other"))
    assert (caught.value.code, caught.value.message) == (400, "the name of the object (other) does not match the name on the URL (web)")


async def test_what_is_not_there_can_not_be_updated_but_a_lease_can(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        await lab.update("configmaps", config(a="1"))
    assert caught.value.message == 'configmaps "web" not found'
    written = await lab.update("leases.coordination.k8s.io", {"metadata": {"name": "minion-1"}, "spec": {"holderIdentity": "minion-1"}})
    assert written.created


async def test_status_and_spec_are_written_apart(lab: Lab) -> None:
    await lab.create("replicationcontrollers", controller(replicas=2))
    await lab.patch("replicationcontrollers", "web", {"spec": {"replicas": 5}, "status": {"replicas": 9}})
    await lab.patch("replicationcontrollers", "web", {"spec": {"replicas": 7}, "status": {"replicas": 3}}, "status")
    rc = lab.get("replicationcontrollers", "web")
    assert rc
    assert (rc["spec"]["replicas"], rc["status"]["replicas"]) == (5, 3)


async def test_generation_counts_changes_of_the_spec_alone(lab: Lab) -> None:
    await lab.create("replicationcontrollers", controller(replicas=2))
    await lab.patch("replicationcontrollers", "web", {"status": {"replicas": 1}}, "status")
    await lab.patch("replicationcontrollers", "web", {"metadata": {"labels": {"a": "b"}}})
    await lab.patch("replicationcontrollers", "web", {"spec": {"replicas": 3}})
    rc = lab.get("replicationcontrollers", "web")
    assert rc and rc["metadata"]["generation"] == 2


async def test_writers_of_one_object_take_turns_and_none_fails(lab: Lab) -> None:
    await lab.create("configmaps", config())
    await asyncio.gather(*(lab.patch("configmaps", "web", {"data": {f"k{i}": "1"}}) for i in range(50)))
    assert len(lab.get("configmaps", "web")["data"]) == 50  # type: ignore[index]


async def test_a_writer_that_is_cancelled_while_it_waits_delays_no_other(lab: Lab) -> None:
    await lab.create("configmaps", config())
    writers = [asyncio.ensure_future(lab.patch("configmaps", "web", {"data": {f"k{i}": "1"}})) for i in range(6)]
    await asyncio.sleep(0)
    writers[1].cancel()
    writers[3].cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    await lab.patch("configmaps", "web", {"data": {"last": "1"}})
    assert set(lab.get("configmaps", "web")["data"]) >= {"k0", "k2", "k4", "k5", "last"}  # type: ignore[index]


async def test_what_people_do_is_noted_and_what_controllers_do_is_not(lab: Lab) -> None:
    await lab.create("configmaps", config())
    await lab.client.patch("configmaps", "default/web", {"data": {"a": "1"}})
    await lab.delete("configmaps", "web")
    assert [line.text for line in lab.journal.about("configmaps/default/web")] == ["created by labctl-admin", "deleted by labctl-admin"]


async def test_a_malformed_body_that_would_create(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        await lab.resources.update(lab.kind("leases.coordination.k8s.io"), "default", "minion-1", b"{")
    assert caught.value.code == 400


async def test_a_disk_that_refuses_loses_nothing_and_says_so() -> None:
    engine = FullDisk()
    lab = Lab(store=LogStore(engine))
    await lab.client.create("namespaces", {"metadata": {"name": "default"}})
    engine.full = True
    error = await lab.refused("configmaps", config(a="1"))
    assert (error.code, error.reason) == (503, "ServiceUnavailable")
    assert error.message == "the disk is full: free some space"
    assert lab.get("configmaps", "web") is None
    engine.full = False
    assert (await lab.create("configmaps", config(a="1"))).created


class FullDisk(MemoryEngine):
    full = False

    async def append(self, group: Sequence[Batch]) -> None:
        if self.full:
            raise Unavailable("the disk is full", mend="free some space")
        await super().append(group)


async def test_a_put_says_whose_it_is(lab: Lab) -> None:
    kind = lab.kind("configmaps")
    await lab.create("configmaps", config("web"))
    for body in ({"data": {"a": "b"}}, {"metadata": {"labels": {}}}, {"metadata": {"name": ""}}):
        with pytest.raises(
            ApiError, match=r"the name of the object \(web based on URL\) was undeterminable: name must be provided"
        ) as refused:
            await lab.resources.update(kind, "default", "web", body, WriteOptions(user=PERSON, field_manager="me"))
        assert refused.value.code == 400
