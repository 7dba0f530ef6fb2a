"""Options in a write's URL, and server-side apply where no object is, or through `scale`: as Kubernetes' end-to-end tests meet them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_policies import Http
from tests.inprocess import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    async with ApiServer.running(tmp_path) as api, api.session() as session:
        yield Http(session)


def deployment(name: str = "web", **metadata: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, **metadata}, "spec": spec}


@pytest.mark.parametrize("text", ["invalid", "1", "1x", "s", "1s2"])
async def test_a_timeout_that_is_no_duration_is_refused(http: Http, text: str) -> None:
    said = await http("GET", f"{MAPS}?timeout={text}", code=400)
    assert said["message"] == f'invalid timeout specified in the request URL - time: invalid duration "{text}"'
    for good in ("34s", "1.5h", "0", "2m3s", "100h"):
        await http("GET", f"{MAPS}?timeout={good}")


async def test_only_an_apply_may_be_forced(http: Http) -> None:
    await http.create(MAPS, {"metadata": {"name": "a"}})
    said = await http("PATCH", f"{MAPS}/a?force=true", {}, 422, headers=MERGE)
    assert said["message"] == 'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch'


async def test_an_apply_that_names_a_uid_makes_no_new_object(http: Http) -> None:
    said = await http("PATCH", f"{DEPLOYMENTS}/web?fieldManager=a", deployment(uid="1-2-3"), 409, headers=APPLY)
    words = "uid mismatch: the provided object specified uid 1-2-3, and no existing object was found"
    assert said["message"] == f'Operation cannot be fulfilled on deployments.apps "web": {words}'
    await http("GET", f"{DEPLOYMENTS}/web", code=404)


async def test_an_applied_scale_owns_the_replicas_of_the_object(http: Http) -> None:
    await http("PATCH", f"{DEPLOYMENTS}/web?fieldManager=owner", deployment(), 201, headers=APPLY)
    scale: dict[str, Any] = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}}
    said = await http("PATCH", f"{DEPLOYMENTS}/web/scale?fieldManager=scaler", scale, 409, headers=APPLY)
    assert said["message"] == 'Apply failed with 1 conflict: conflict with "owner": .spec.replicas'
    scaled = await http("PATCH", f"{DEPLOYMENTS}/web/scale?fieldManager=scaler&force=true", scale, headers=APPLY)
    assert (scaled["kind"], scaled["spec"]) == ("Scale", {"replicas": 5})
    whole = await http("GET", f"{DEPLOYMENTS}/web")
    managers = {
        (each["manager"], each["operation"], each.get("subresource", "")): each["fieldsV1"] for each in whole["metadata"]["managedFields"]
    }
    assert whole["spec"]["replicas"] == 5 and managers["scaler", "Apply", "scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in managers["owner", "Apply", ""]["f:spec"]
    said = await http("PATCH", f"{DEPLOYMENTS}/web?fieldManager=owner", deployment(), 409, headers=APPLY)
    assert 'conflict with "scaler" with subresource "scale"' in said["message"]
    wrong = {**scale, "apiVersion": "autoscaling/v2"}
    said = await http("PATCH", f"{DEPLOYMENTS}/web/scale?fieldManager=scaler", wrong, 400, headers=APPLY)
    assert "Specified patch version: autoscaling/v2, expected: autoscaling/v1" in said["message"]


async def test_an_applied_status_conflicts_with_nobody_and_changes_nothing(http: Http) -> None:
    """Generated definitions carry an empty status; through the object itself an apply neither sets nor owns it."""
    await http.create(DEPLOYMENTS, deployment())
    await http("PATCH", f"{DEPLOYMENTS}/web/status?fieldManager=controller", {"status": {"replicas": 2}}, headers=MERGE)
    mine = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"replicas": 9}}
    for forced in ("", "&force=true"):
        found = await http("PATCH", f"{DEPLOYMENTS}/web?fieldManager=me{forced}", mine, headers=APPLY)
        assert found["status"]["replicas"] == 2
        owners = [each["manager"] for each in found["metadata"]["managedFields"] if "f:replicas" in each["fieldsV1"].get("f:status", {})]
        assert owners == ["controller"]


async def test_a_deletion_says_once_what_becomes_of_the_dependents(http: Http) -> None:
    await http.create(MAPS, {"metadata": {"name": "a"}})
    said = await http("DELETE", f"{MAPS}/a", {"propagationPolicy": "Orphan", "orphanDependents": True}, 422)
    words = 'propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set'
    assert said["message"] == f'DeleteOptions.meta.k8s.io "" is invalid: {words}'
    await http("DELETE", f"{MAPS}/a", {"orphanDependents": True})
