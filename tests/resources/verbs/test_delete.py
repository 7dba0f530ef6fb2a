"""Deletion: at once, in grace, behind finalizers; preconditions; whole collections."""

from __future__ import annotations

import json

import pytest

from labctl.errors import ApiError
from labctl.resources.service import DeleteOptions, ListOptions
from tests.resources.conftest import PERSON, Lab, config, controller, pod, service, told


async def test_an_object_without_finalizers_and_grace_is_deleted_at_once(lab: Lab) -> None:
    await lab.create("configmaps", config())
    watch = lab.watch("configmaps", resource_version=str(lab.store.revision))
    written = await lab.delete("configmaps", "web")
    assert written.gone
    assert lab.get("configmaps", "web") is None
    assert told(await anext(watch)) == [("DELETED", "web", lab.store.revision)]


async def test_a_missing_object_is_not_found(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        await lab.delete("leases.coordination.k8s.io", "web")
    assert caught.value.message == 'leases.coordination.k8s.io "web" not found'
    assert caught.value.details == {"name": "web", "kind": "leases", "group": "coordination.k8s.io"}


async def test_a_pod_without_a_node_is_deleted_at_once(lab: Lab) -> None:
    await lab.create("pods", pod())
    assert (await lab.delete("pods", "web")).gone


async def test_a_bound_pod_waits_for_its_agent(lab: Lab) -> None:
    await lab.create("pods", pod())
    await lab.client.bind("default/web", "minion-1")
    assert not (await lab.delete("pods", "web")).gone
    metadata = lab.get("pods", "web")["metadata"]  # type: ignore[index]
    assert metadata["deletionTimestamp"] == "2026-01-02T15:04:35Z"
    assert metadata["deletionGracePeriodSeconds"] == 30
    again = await lab.delete("pods", "web")
    assert not again.gone and again.entry.revision == int(metadata["resourceVersion"])
    assert (await lab.delete("pods", "web", grace_period_seconds=0)).gone


async def test_a_grace_period_can_be_made_shorter_never_longer(lab: Lab) -> None:
    await lab.create("pods", pod(terminationGracePeriodSeconds=60))
    await lab.client.bind("default/web", "minion-1")
    await lab.delete("pods", "web")
    lab.clock.at += 10
    await lab.delete("pods", "web", grace_period_seconds=20)
    metadata = lab.get("pods", "web")["metadata"]  # type: ignore[index]
    assert (metadata["deletionGracePeriodSeconds"], metadata["deletionTimestamp"]) == (20, "2026-01-02T15:04:25Z")
    await lab.delete("pods", "web", grace_period_seconds=50)
    assert lab.get("pods", "web")["metadata"]["deletionGracePeriodSeconds"] == 20  # type: ignore[index]


async def test_a_finished_pod_is_deleted_at_once(lab: Lab) -> None:
    await lab.create("pods", pod())
    await lab.client.bind("default/web", "minion-1")
    await lab.patch("pods", "web", {"status": {"phase": "Failed"}}, "status")
    assert (await lab.delete("pods", "web")).gone


async def test_a_deletion_with_another_uid_is_refused(lab: Lab) -> None:
    await lab.create("configmaps", config())
    uid = lab.get("configmaps", "web")["metadata"]["uid"]  # type: ignore[index]
    with pytest.raises(ApiError) as caught:
        await lab.delete("configmaps", "web", precondition_uid="old")
    assert caught.value.message == (
        f'Operation cannot be fulfilled on ConfigMap "web": the UID in the precondition (old) does not match the UID in record ({uid}).'
        " The object might have been deleted and then recreated"
    )
    with pytest.raises(ApiError) as caught:
        await lab.delete("configmaps", "web", precondition_resource_version="1")
    assert "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record" in caught.value.message
    assert caught.value.details == {"name": "web", "kind": "ConfigMap"}
    assert (await lab.delete("configmaps", "web", precondition_uid=uid)).gone


async def test_a_finalizer_keeps_the_object_until_it_is_removed(lab: Lab) -> None:
    await lab.create("configmaps", {"metadata": {"name": "web", "finalizers": ["example.com/hold"]}})
    assert not (await lab.delete("configmaps", "web")).gone
    metadata = lab.get("configmaps", "web")["metadata"]  # type: ignore[index]
    assert metadata["deletionTimestamp"] == "2026-01-02T15:04:05Z"
    watch = lab.watch("configmaps", resource_version=str(lab.store.revision))
    assert (await lab.patch("configmaps", "web", {"metadata": {"finalizers": None}})).gone
    assert told(await anext(watch)) == [("DELETED", "web", lab.store.revision)]


async def test_a_terminating_object_gets_no_new_finalizer(lab: Lab) -> None:
    await lab.create("configmaps", {"metadata": {"name": "web", "finalizers": ["example.com/hold"]}})
    await lab.delete("configmaps", "web")
    with pytest.raises(ApiError) as caught:
        await lab.patch("configmaps", "web", {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})
    assert caught.value.message == (
        'ConfigMap "web" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, '
        'found new finalizers []string{"example.com/more"}'
    )


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [("Orphan", ["orphan"]), ("Foreground", ["foregroundDeletion"]), (None, ["orphan"])],
)
async def test_propagation_is_carried_out_by_finalizers(lab: Lab, policy: str | None, finalizers: list[str]) -> None:
    await lab.create("replicationcontrollers", controller())
    assert not (await lab.delete("replicationcontrollers", "web", propagation_policy=policy)).gone
    assert lab.get("replicationcontrollers", "web")["metadata"]["finalizers"] == finalizers  # type: ignore[index]


async def test_in_the_background_its_dependents_are_the_garbage_controllers(lab: Lab) -> None:
    await lab.create("replicationcontrollers", controller())
    assert (await lab.delete("replicationcontrollers", "web", propagation_policy="Background")).gone


async def test_an_unknown_policy(lab: Lab) -> None:
    await lab.create("configmaps", config())
    with pytest.raises(ApiError) as caught:
        await lab.delete("configmaps", "web", propagation_policy="Sideways")
    assert caught.value.code == 422 and "propagationPolicy: Unsupported value" in caught.value.message


async def test_a_namespace_terminates_until_its_controller_removes_the_finalizer(lab: Lab) -> None:
    await lab.create("namespaces", {"metadata": {"name": "old"}})
    assert not (await lab.delete("namespaces", "old")).gone
    namespace = lab.get("namespaces", "old")
    assert namespace
    assert (namespace["status"]["phase"], namespace["spec"]["finalizers"]) == ("Terminating", ["kubernetes"])
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "old"}
    assert "deletionGracePeriodSeconds" not in namespace["metadata"]
    written = await lab.update("namespaces", {"metadata": {"name": "old"}, "spec": {"finalizers": []}}, "finalize")
    assert written.gone and lab.get("namespaces", "old") is None


async def test_an_ordinary_update_can_not_remove_a_namespaces_finalizer(lab: Lab) -> None:
    await lab.create("namespaces", {"metadata": {"name": "old"}})
    await lab.delete("namespaces", "old")
    await lab.patch("namespaces", "old", {"spec": {"finalizers": []}})
    assert lab.get("namespaces", "old")["spec"]["finalizers"] == ["kubernetes"]  # type: ignore[index]


async def test_the_namespaces_of_the_lab_itself_stay(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        await lab.delete("namespaces", "default")
    assert (caught.value.code, caught.value.message) == (403, 'namespaces "default" is forbidden: this namespace may not be deleted')


async def test_a_deletion_frees_what_was_allocated_in_the_same_commit(lab: Lab) -> None:
    before = lab.claims()
    await lab.create("services", service(type="NodePort"))
    assert len(lab.claims()) == len(before) + 2
    watch = lab.store.watch("", lab.store.revision)
    await lab.delete("services", "web")
    assert lab.claims() == before
    assert len((await anext(watch)).changes) == 3


async def test_a_collection_is_deleted(lab: Lab) -> None:
    for name, app in (("a", "x"), ("b", "y"), ("c", "x")):
        await lab.create("configmaps", config(name, {"app": app}))
    kind = lab.kind("configmaps")
    gone = await lab.resources.delete_collection(kind, "default", ListOptions(label_selector="app=x"), DeleteOptions(), PERSON)
    assert [json.loads(entry.value)["metadata"]["name"] for entry in gone.entries] == ["a", "c"]
    assert lab.names("configmaps") == ["b"]


async def test_a_dry_run_deletes_nothing(lab: Lab) -> None:
    await lab.create("configmaps", config())
    assert (await lab.delete("configmaps", "web", dry_run=True)).gone
    assert lab.names("configmaps") == ["web"]
