"""Conversion webhooks as operators ship them: three versions of a kind, a certificate that comes later, answers of every wrong sort, deletions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.client.hooks import Hooks
from tests.client.test_admission import configuration
from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

GROUP = "shop.example.com"
HERE = f"/apis/{GROUP}/v1/namespaces/default/gadgets"
FAILED = f"conversion webhook for {GROUP}/v1alpha1, Kind=Gadget"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


def version(name: str, *, stored: bool) -> dict[str, Any]:
    """A version whose `size` is called `width` from v1 on."""
    size = {"width" if name == "v1" else "size": {"type": "integer"}, "replicas": {"type": "integer"}}
    properties = {"spec": {"type": "object", "properties": size}, "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    return {"name": name, "served": True, "storage": stored, "schema": schema, "subresources": {"status": {}}}


def gadgets(hooks: Hooks, reviews: tuple[str, ...] = ("v1",), stored: str = "v1alpha1", **client: Any) -> dict[str, Any]:
    versions = [version(name, stored=name == stored) for name in ("v1alpha1", "v1beta1", "v1")]
    webhook = {"clientConfig": client or hooks.client("/convert"), "conversionReviewVersions": list(reviews)}
    names = {"plural": "gadgets", "kind": "Gadget"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": versions,
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        },
    }


def gadget(name: str = "g", version: str = "v1alpha1", **metadata: Any) -> dict[str, Any]:
    spec = {"width" if version == "v1" else "size": 3}
    return {"apiVersion": f"{GROUP}/{version}", "kind": "Gadget", "metadata": {"name": name, **metadata}, "spec": spec}


def converted(request: dict[str, Any]) -> dict[str, Any]:
    objects = json.loads(json.dumps(request["objects"]))
    for obj in objects:
        obj["apiVersion"] = request["desiredAPIVersion"]
        old, new = ("size", "width") if obj["apiVersion"].endswith("/v1") else ("width", "size")
        if old in obj["spec"]:
            obj["spec"][new] = obj["spec"].pop(old)
    return {"result": {"status": "Success"}, "convertedObjects": objects}


def spoilt(change: Change) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """An answer that is right but for what `change` makes of it."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        response = converted(request)
        change(response)
        return response

    return answer


DOWN = spoilt(lambda response: response.update(result={"status": "Failure", "message": "down"}))


STORE_V1 = json.dumps([{"op": "replace", "path": f"/spec/versions/{n}/storage", "value": n == 2} for n in range(3)])


def rule_for(operation: str) -> dict[str, Any]:
    return {"apiGroups": [GROUP], "apiVersions": ["*"], "resources": ["gadgets"], "operations": [operation]}


def first(response: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = response["convertedObjects"][0]
    return found


async def defined(api: ApiServer, hooks: Hooks, **how: Any) -> None:
    hooks.answers["/convert"] = converted
    await ok(api, "create", "-f", "-", stdin=gadgets(hooks, **how))
    await ok(api, "wait", "--for=condition=Established", f"crd/gadgets.{GROUP}", "--timeout=5s")
    await ok(api, "create", "-f", "-", stdin=gadget())


async def error(api: ApiServer, path: str = f"{HERE}/g") -> dict[str, Any]:
    async with api.session() as http, http.get(path) as answer:
        assert answer.status == 500
        said: dict[str, Any] = await answer.json()
        return said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(uid="other"), 'failed: expected response.uid="'),
        (lambda r: r.update(result={"status": "Failure", "message": "no way"}), "failed: no way"),
        (lambda r: r.update(result={"status": "Failure"}), "failed: response.result.status was 'Failure', not 'Success'"),
        (lambda r: r.pop("result"), "failed: response.result.status was '', not 'Success'"),
        (lambda r: r["convertedObjects"].clear(), "returned 0 objects, expected 1"),
        (lambda r: r.update(convertedObjects=None), "returned 0 objects, expected 1"),
        (
            lambda r: first(r).update(apiVersion=f"{GROUP}/v7"),
            f"returned invalid object at index 0: invalid groupVersion (expected {GROUP}/v1, received {GROUP}/v7)",
        ),
        (lambda r: first(r).update(kind="Other"), "returned invalid object at index 0: invalid kind (expected Gadget, received Other)"),
        (lambda r: first(r)["metadata"].update(name="other"), "returned invalid object: must have the same name: g != other"),
        (
            lambda r: first(r)["metadata"].update(namespace="other"),
            "returned invalid object: must have the same namespace: default != other",
        ),
        (lambda r: first(r)["metadata"].update(uid="other"), "returned invalid object: must have the same UID: "),
        (lambda r: first(r).pop("metadata"), "returned invalid object: must have the same name: g != "),
        (lambda r: first(r)["metadata"].update(labels={"a b": "c"}), 'returned invalid metadata: metadata.labels: Invalid value: "a b": '),
        (lambda r: first(r)["metadata"].update(labels={"a": 1}), "returned invalid metadata: metadata.labels[a] must be a string"),
        (lambda r: first(r)["metadata"].update(annotations=["a"]), "returned invalid metadata: invalid metadata.annotations"),
    ],
)
async def test_a_wrong_answer_is_told_in_kubernetes_words(api: ApiServer, hooks: Hooks, change: Change, words: str) -> None:
    await defined(api, hooks)
    hooks.answers["/convert"] = spoilt(change)
    said = await error(api)
    assert said["message"].startswith(f"{FAILED} {words}") and "reason" not in said
    assert (await api.kubectl("get", f"gadgets.v1.{GROUP}", "g")).err.startswith(f"Error from server: {FAILED} ")
    assert "size" in await ok(api, "get", f"gadgets.v1alpha1.{GROUP}", "g", "-o", "yaml"), "who needs no conversion asks nobody"


async def test_in_a_list_the_object_that_is_wrong_is_named(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    await ok(api, "create", "-f", "-", stdin=gadget("h"))
    hooks.answers["/convert"] = spoilt(lambda response: response["convertedObjects"][1]["metadata"].update(name="other"))
    said = await error(api, HERE)
    assert said["message"] == f"{FAILED} returned invalid converted object at index 1: must have the same name: h != other"


async def test_no_answer_at_all(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    for answer, words in (
        (web.json_response({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}), "failed: no response provided"),
        (web.json_response({"apiVersion": "v1", "kind": "Foo"}), "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=Con"),
        (web.Response(status=500, text="oh"), 'failed: an error on the server ("oh") has prevented the request from succeeding'),
    ):
        hooks.answers["/convert"] = answer
        assert (await error(api))["message"].startswith(f"{FAILED} {words}")


async def test_a_webhook_is_asked_in_the_first_version_that_is_known(api: ApiServer, hooks: Hooks) -> None:
    async def old(request: web.Request) -> web.StreamResponse:
        review = await request.json()
        assert (review["apiVersion"], review["kind"]) == ("apiextensions.k8s.io/v1beta1", "ConversionReview")
        return web.json_response({"response": converted(review["request"])})  # it need not say what it is, nor what it answers

    hooks.routes["/convert"] = old
    await defined(api, hooks, reviews=("v9", "v1beta1", "v1"))
    assert json.loads(await ok(api, "get", f"gadgets.v1.{GROUP}", "g", "-o", "json"))["spec"] == {"width": 3}


async def test_a_bundle_may_come_later(api: ApiServer, hooks: Hooks) -> None:
    whole = hooks.client("/convert")
    await defined(api, hooks, url=whole["url"])
    where = f'{whole["url"]}?timeout=30s": tls: failed to verify certificate: x509: certificate signed by unknown authority'
    assert (await error(api))["message"] == f'{FAILED} failed: Post "{where}'
    patch = json.dumps({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": whole["caBundle"]}}}}})
    await ok(api, "patch", "crd", f"gadgets.{GROUP}", "--type=merge", "-p", patch)
    await ok(api, "wait", f"gadgets.v1.{GROUP}/g", "--for=jsonpath={.spec.width}=3", "--timeout=5s")


async def test_labels_and_annotations_are_the_webhooks_and_nothing_else_of_the_metadata(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    await ok(api, "label", f"gadgets.v1alpha1.{GROUP}", "g", "old=yes")
    change = {"labels": {"new": "yes"}, "annotations": {"a/b": "c"}, "finalizers": ["x.y/z"], "resourceVersion": "1", "ownerReferences": []}
    hooks.answers["/convert"] = spoilt(lambda response: first(response)["metadata"].update(change))
    metadata = json.loads(await ok(api, "get", f"gadgets.v1.{GROUP}", "g", "-o", "json"))["metadata"]
    assert (metadata["labels"], metadata["annotations"]) == ({"new": "yes"}, {"a/b": "c"})
    assert "finalizers" not in metadata and "ownerReferences" not in metadata and metadata["resourceVersion"] != "1"


async def test_who_judges_a_deletion_sees_the_version_of_the_request(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    hooks.answers["/judge"] = lambda _request: {"allowed": True}
    rule = {"apiGroups": [GROUP], "apiVersions": ["v1"], "resources": ["gadgets"], "operations": ["DELETE"]}
    condition = {"name": "wide", "expression": "oldObject.spec.width == 3"}
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/judge", rules=[rule], matchConditions=[condition]))
    await ok(api, "delete", f"gadgets.v1.{GROUP}", "g")
    [request] = hooks.asked["/judge"]
    assert request["kind"]["version"] == "v1" and request["oldObject"]["apiVersion"] == f"{GROUP}/v1"
    assert request["oldObject"]["spec"] == {"width": 3}


async def test_a_write_fails_that_its_webhook_cannot_be_shown(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    hooks.answers["/judge"] = lambda _request: {"allowed": True}
    rule = {"apiGroups": [GROUP], "apiVersions": ["v1beta1"], "resources": ["gadgets"], "operations": ["*"]}
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/judge", rules=[rule]))
    patch = ("patch", f"gadgets.v1alpha1.{GROUP}", "g", "--type=merge", "-p", '{"spec":{"size":4}}')
    await ok(api, *patch)
    [request] = hooks.asked["/judge"]
    assert [request[name]["version"] for name in ("kind", "requestKind")] == ["v1beta1", "v1alpha1"]
    assert request["object"] == {**request["oldObject"], "metadata": request["object"]["metadata"], "spec": {"size": 4}}
    hooks.answers["/convert"] = DOWN
    said = await refused(api, "delete", f"gadgets.v1alpha1.{GROUP}", "g")
    assert f"Error from server (InternalError): Internal error occurred: {FAILED} failed: down" in said


async def test_who_cannot_see_an_object_in_a_version_cannot_delete_it_there(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    hooks.answers["/convert"] = DOWN
    for what in (("g",), ("--all",)):
        assert f"{FAILED} failed: down" in await refused(api, "delete", f"gadgets.v1.{GROUP}", *what)
    assert await ok(api, "delete", f"gadgets.v1alpha1.{GROUP}", "g") == f'gadget.{GROUP} "g" deleted from default namespace\n'


async def test_a_namespace_stays_while_its_objects_cannot_be_converted(api: ApiServer, hooks: Hooks) -> None:
    """Its controller deletes in the version that is preferred, v1; these objects are stored in another one."""
    await defined(api, hooks)
    await ok(api, "create", "namespace", "leaving")
    await ok(api, "create", "-n", "leaving", "-f", "-", stdin=gadget())
    await ok(api, "create", "-n", "leaving", "configmap", "beside")
    hooks.answers["/convert"] = DOWN
    await ok(api, "delete", "namespace", "leaving", "--wait=false")
    await ok(api, "wait", "namespace/leaving", "--for=condition=NamespaceDeletionContentFailure", "--timeout=10s")
    said = json.loads(await ok(api, "get", "namespace", "leaving", "-o", "json"))["status"]
    [failure] = [each for each in said["conditions"] if each["type"] == "NamespaceDeletionContentFailure"]
    words = f"Failed to delete all resource types, 1 remaining: {FAILED} failed: down"
    assert (said["phase"], failure["reason"], failure["message"]) == ("Terminating", "ContentDeletionFailed", words)
    assert await ok(api, "get", "configmap,gadget.v1alpha1." + GROUP, "-n", "leaving", "-o", "name") == f"gadget.{GROUP}/g\n"
    hooks.answers["/convert"] = converted
    await ok(api, "wait", "namespace/leaving", "--for=delete", "--timeout=20s")


async def test_a_namespace_says_who_keeps_its_objects_from_being_deleted(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    await ok(api, "create", "namespace", "leaving")
    await ok(api, "create", "-n", "leaving", "-f", "-", stdin=gadget())
    hooks.answers["/no"] = lambda _request: {"allowed": False, "status": {"message": "keep it"}}
    rule = configuration(hooks, "/no", rules=[rule_for("DELETE")])
    await ok(api, "create", "-f", "-", stdin=rule)
    await ok(api, "delete", "namespace", "leaving", "--wait=false")
    await ok(api, "wait", "namespace/leaving", "--for=condition=NamespaceDeletionContentFailure", "--timeout=10s")
    said = await ok(api, "get", "namespace", "leaving", "-o", "jsonpath={.status.conditions[*].message}")
    assert 'Failed to delete all resource types, 1 remaining: admission webhook "no.example.com" denied the request: keep it' in said
    await ok(api, "delete", "validatingwebhookconfiguration", "no")
    await ok(api, "wait", "namespace/leaving", "--for=delete", "--timeout=20s")


async def test_a_definition_stays_while_its_objects_cannot_be_read_as_they_are_stored_now(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    await ok(api, "patch", "crd", f"gadgets.{GROUP}", "--type=json", "-p", STORE_V1)
    hooks.answers["/convert"] = DOWN
    await ok(api, "delete", "crd", f"gadgets.{GROUP}", "--wait=false")
    await ok(api, "wait", f"crd/gadgets.{GROUP}", "--for=jsonpath={.status.conditions[2].reason}=InstanceDeletionFailed", "--timeout=10s")
    said = await ok(api, "get", "crd", f"gadgets.{GROUP}", "-o", "jsonpath={.status.conditions[2].message}")
    assert said == f"could not list instances: {FAILED} failed: down"
    hooks.answers["/convert"] = converted
    await ok(api, "wait", f"crd/gadgets.{GROUP}", "--for=delete", "--timeout=20s")


async def test_objects_are_migrated_by_being_written_and_a_version_is_dropped(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    name = f"crd/gadgets.{GROUP}"
    await ok(api, "patch", name, "--type=json", "-p", STORE_V1)
    assert json.loads(await ok(api, "get", name, "-o", "jsonpath={.status.storedVersions}")) == ["v1alpha1", "v1"]
    drop = json.dumps([{"op": "remove", "path": "/spec/versions/0"}])
    assert "v1alpha1 was previously a storage version" in await refused(api, "patch", name, "--type=json", "-p", drop)
    whole = await ok(api, "get", f"gadgets.v1.{GROUP}", "g", "-o", "json")
    await ok(api, "replace", "-f", "-", stdin=whole)
    hooks.answers["/convert"] = DOWN  # nobody is asked any more
    await ok(api, "get", f"gadgets.v1.{GROUP}", "g")
    await ok(api, "patch", name, "--subresource=status", "--type=merge", "-p", '{"status":{"storedVersions":["v1"]}}')
    await ok(api, "patch", name, "--type=json", "-p", drop)
    assert json.loads(await ok(api, "get", f"gadgets.{GROUP}", "g", "-o", "json"))["apiVersion"] == f"{GROUP}/v1"


def migration(name: str, resource: str = "gadgets") -> dict[str, Any]:
    head = {"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration"}
    return {**head, "metadata": {"name": name}, "spec": {"resource": {"group": GROUP, "resource": resource}}}


async def test_a_migration_stores_all_objects_anew_and_drops_the_old_version(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    for number in range(3):
        await ok(api, "create", "-f", "-", stdin=gadget(f"g{number}"))
    name = f"crd/gadgets.{GROUP}"
    await ok(api, "patch", name, "--type=json", "-p", STORE_V1)
    hooks.answers["/convert"] = DOWN
    await ok(api, "create", "-f", "-", stdin=migration("first"))
    await ok(api, "wait", "storageversionmigration/first", "--for=condition=Running", "--timeout=5s")
    await ok(api, "create", "-f", "-", stdin=migration("second"))
    assert json.loads(await ok(api, "get", name, "-o", "jsonpath={.status.storedVersions}")) == ["v1alpha1", "v1"]
    hooks.answers["/convert"] = converted
    for each in ("first", "second"):
        await ok(api, "wait", f"storageversionmigration/{each}", "--for=condition=Succeeded", "--timeout=20s")
        await ok(api, "wait", f"storageversionmigration/{each}", "--for=condition=Running=false", "--timeout=5s")
        assert await conditions(api, each) == {"Succeeded": ("True", "StorageVersionMigrationSucceeded", ""), "Running": OVER}
    assert (await migrating(api))["message"] == "The migration has succeeded and the stored versions have been updated"
    assert json.loads(await ok(api, "get", name, "-o", "jsonpath={.status.storedVersions}")) == ["v1"]
    hooks.answers["/convert"] = DOWN  # nobody is asked any more
    listed = json.loads(await ok(api, "get", f"gadgets.v1.{GROUP}", "-o", "json"))
    assert [(each["metadata"]["generation"], each["spec"]) for each in listed["items"]] == [(1, {"width": 3})] * 4
    await ok(api, "patch", name, "--type=json", "-p", json.dumps([{"op": "remove", "path": "/spec/versions/0"}]))


async def migrating(api: ApiServer) -> dict[str, Any]:
    """Returns the condition StorageMigrating of the definition."""
    definition = json.loads(await ok(api, "get", "crd", f"gadgets.{GROUP}", "-o", "json"))
    [found] = [each for each in definition["status"]["conditions"] if each["type"] == "StorageMigrating"]
    assert found.pop("observedGeneration") == definition["metadata"]["generation"] and found.pop("lastTransitionTime")
    return dict(found)


async def conditions(api: ApiServer, name: str) -> dict[str, tuple[str, str, str]]:
    whole = json.loads(await ok(api, "get", "storageversionmigration", name, "-o", "json"))
    return {each["type"]: (each["status"], each["reason"], each["message"]) for each in whole["status"]["conditions"]}


OVER = ("False", "MigrationCompleted", "Migration completed")


async def test_a_migration_fails_where_an_object_may_not_be_written(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    await ok(api, "patch", "crd", f"gadgets.{GROUP}", "--type=json", "-p", STORE_V1)
    hooks.answers["/no"] = lambda _request: {"allowed": False, "status": {"message": "keep it"}}
    rule = configuration(hooks, "/no", rules=[rule_for("UPDATE")])
    await ok(api, "create", "-f", "-", stdin=rule)
    await ok(api, "create", "-f", "-", stdin=migration("m"))
    await ok(api, "wait", "storageversionmigration/m", "--for=condition=Running=false", "--timeout=10s")
    words = 'migration encountered unhandled error: admission webhook "no.example.com" denied the request: keep it'
    assert await conditions(api, "m") == {"Failed": ("True", "StorageVersionMigrationFailed", words), "Running": OVER}
    assert await migrating(api) == {
        "type": "StorageMigrating", "status": "False", "reason": "MigrationFailed", "message": "The migration has failed",
    }  # fmt: skip
    assert json.loads(await ok(api, "get", "crd", f"gadgets.{GROUP}", "-o", "jsonpath={.status.storedVersions}")) == ["v1alpha1", "v1"]


async def test_a_migration_of_what_is_not_there_fails(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=migration("m", "nothings"))
    await ok(api, "wait", "storageversionmigration/m", "--for=condition=Failed", "--timeout=5s")
    said = await ok(api, "get", "storageversionmigration", "m", "-o", "jsonpath={.status.conditions[0].message}")
    assert said == "resource does not exist in discovery"


async def test_an_object_whose_owner_is_gone_is_deleted_in_the_preferred_version(api: ApiServer, hooks: Hooks) -> None:
    await defined(api, hooks)
    await ok(api, "create", "configmap", "owner")
    uid = await ok(api, "get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    await ok(api, "create", "-f", "-", stdin=gadget("owned"))
    owners = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]
    patch = json.dumps({"metadata": {"ownerReferences": owners}})
    await ok(api, "patch", f"gadgets.v1alpha1.{GROUP}", "owned", "--type=merge", "-p", patch)
    hooks.asked.clear()
    await ok(api, "delete", "configmap", "owner")
    await ok(api, "wait", f"gadgets.v1alpha1.{GROUP}/owned", "--for=delete", "--timeout=20s")
    assert f"{GROUP}/v1" in [request["desiredAPIVersion"] for request in hooks.asked.get("/convert", [])]
