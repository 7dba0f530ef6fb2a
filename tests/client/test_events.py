"""Events under both of their names are the same Events."""

from __future__ import annotations

import json

from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

NEW = {
    "apiVersion": "events.k8s.io/v1",
    "kind": "Event",
    "metadata": {"name": "new", "namespace": "default"},
    "eventTime": "2026-01-02T03:04:05.000006Z",
    "reportingController": "example.com/operator",
    "reportingInstance": "operator-1",
    "action": "Reconcile",
    "reason": "Reconciled",
    "regarding": {"kind": "ConfigMap", "namespace": "default", "name": "c"},
    "note": "all is well",
    "type": "Normal",
}


async def test_what_is_made_under_one_name_is_read_under_the_other(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=NEW)
    old = json.loads(await ok(api, "get", "--raw", "/api/v1/namespaces/default/events/new"))
    assert (old["apiVersion"], old["message"], old["involvedObject"]["name"]) == ("v1", "all is well", "c")
    assert old["reportingComponent"] == "example.com/operator" and "note" not in old
    new = json.loads(await ok(api, "get", "--raw", "/apis/events.k8s.io/v1/namespaces/default/events/new"))
    assert (new["apiVersion"], new["note"], new["regarding"]["name"]) == ("events.k8s.io/v1", "all is well", "c")
    listed = json.loads(await ok(api, "get", "--raw", "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dc"))
    assert listed["kind"] == "EventList" and [item["note"] for item in listed["items"]] == ["all is well"]
    assert "ConfigMap/c" in await ok(api, "events") or "all is well" in await ok(api, "events")


async def test_the_newer_name_is_stricter(api: ApiServer) -> None:
    for name in ("reportingController", "eventTime"):
        wrong = {key: value for key, value in NEW.items() if key != name}
        assert f"{name}: Required value" in await refused(api, "create", "-f", "-", stdin=wrong)
