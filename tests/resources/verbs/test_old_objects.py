"""Objects that are stored already and break a rule that was made later: they can still be changed, and go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labctl.api.negotiate import Format
from labctl.api.shapes import Shape
from labctl.errors import ApiError
from labctl.resources import encoding
from labctl.resources.service import ListOptions
from labctl.store.interface import Put
from tests.resources.conftest import Lab, config, controller, pod

CRON = "cronjobs.batch"


async def store(lab: Lab, resource: str, body: dict[str, Any], spec: dict[str, Any] | None = None, **metadata: Any) -> None:
    """Write an object as an older labctl would have it."""
    await lab.create(resource, body)
    kind, name = lab.kind(resource), body["metadata"]["name"]
    old = lab.get(resource, name)
    assert old is not None
    old["metadata"] |= metadata
    old["spec"] |= spec or {}
    await lab.store.commit([Put(kind.key("default", name), json.dumps(old).encode())], [])


async def test_an_old_finalizer_can_be_taken_away_and_others_changed(lab: Lab) -> None:
    await store(lab, "pods", pod(), finalizers=["mine", "also"])
    await lab.patch("pods", "web", {"metadata": {"labels": {"a": "b"}}})
    await lab.patch("pods", "web", {"status": {"phase": "Running"}}, "status")
    with pytest.raises(ApiError, match='metadata.finalizers.1.: Invalid value: "new"'):
        await lab.patch("pods", "web", {"metadata": {"finalizers": ["mine", "new"]}})
    await lab.patch("pods", "web", {"metadata": {"finalizers": ["mine"]}})
    await lab.patch("pods", "web", {"metadata": {"finalizers": None}})


async def test_what_was_wrong_before_keeps_nobody_from_other_changes(lab: Lab) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}
    body = {"metadata": {"name": "web"}, "spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}}
    await store(lab, CRON, body, {"schedule": "0 0 * * 7"})
    await lab.patch(CRON, "web", {"spec": {"suspend": True}})
    with pytest.raises(ApiError, match="end of range .7. above maximum"):
        await lab.patch(CRON, "web", {"spec": {"schedule": "1 0 * * 7"}})


async def test_an_old_template_can_be_scaled(lab: Lab) -> None:
    body = controller()
    template = body["spec"]["template"] | {"spec": {**body["spec"]["template"]["spec"], "preemptionPolicy": "Always"}}
    await store(lab, "replicationcontrollers", body, {"template": template})
    await lab.patch("replicationcontrollers", "web", {"spec": {"replicas": 3}})
    with pytest.raises(ApiError, match='spec.template.spec.preemptionPolicy: Unsupported value: "Sometimes"'):
        await lab.patch("replicationcontrollers", "web", {"spec": {"template": {"spec": {"preemptionPolicy": "Sometimes"}}}})


async def test_one_that_cannot_be_read_hides_no_other(lab: Lab) -> None:
    kind = lab.kind("configmaps")
    await lab.create("configmaps", config("good", labels={"a": "b"}))
    await lab.create("configmaps", config("bad", labels={"a": "b"}))
    old = lab.get("configmaps", "bad")
    assert old is not None
    old["metadata"]["labels"] = "a=b"
    await lab.store.commit([Put(kind.key("default", "bad"), encoding.encode(old))], [])
    resources = lab.resources
    entries = resources.list(kind, "default", ListOptions(field_selector="metadata.name!=other")).entries
    assert [resources.seen(entry).metadata.name for entry in entries] == ["bad", "good"]
    assert [entry.key for entry in resources.list(kind, "default", ListOptions(label_selector="a=b")).entries] == [
        "configmaps/default/good"
    ]
    shape = Shape(kind, Format("Table"), "", resources.seen, lab.clock.wall)
    rows = json.loads(b"".join(await shape.many(resources.list(kind, "default"))))["rows"]
    assert [row["cells"][0] for row in rows] == ["bad", "good"]
    await lab.delete("configmaps", "bad")
