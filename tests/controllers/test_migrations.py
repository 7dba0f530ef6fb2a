"""Storage version migrations: what their plans say; tests/client/test_conversion.py has the whole with a real webhook."""

from __future__ import annotations

from typing import Any

from labctl.controllers.migrations import MIGRATIONS, Migrations
from labctl.errors import ApiError
from labctl.reconcile.plan import Patch
from labctl.resources.custom.make import kinds_of
from labctl.resources.registry import builtin_registry
from labctl.sim.picture import Picture
from tests.resources.schema.test_openapi import definition_of

RUNNING = {"type": "Running", "status": "True", "reason": "MigrationRunning", "message": "The migration is running"}


def picture() -> Picture:
    registry = builtin_registry()
    return Picture([Migrations(registry)], registry)


def migration(made: Picture, name: str = "m", resource: str = "cats", *conditions: dict[str, Any]) -> None:
    head = {"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration"}
    spec = {"resource": {"group": "example.com", "resource": resource}}
    made.put({**head, "metadata": {"name": name}, "spec": spec, "status": {"conditions": list(conditions)}})


def told(made: Picture, name: str = "m") -> list[tuple[str, str, str]]:
    [patch] = made.plan(name).actions
    assert isinstance(patch, Patch) and patch.kind == MIGRATIONS
    return [(each["type"], each["status"], each["message"]) for each in patch.patch["status"]["conditions"]]


def test_one_whose_kind_goes_fails_and_then_no_longer_runs() -> None:
    made = picture()
    migration(made, "m", "cats", RUNNING)
    gone = ("Failed", "True", "migration encountered unhandled error: unable to obtain GVR from discovery")
    assert told(made) == [("Running", "True", "The migration is running"), gone]
    migration(made, "m", "cats", RUNNING, {"type": "Failed", "status": "True", "message": gone[2]})
    assert told(made) == [gone, ("Running", "False", "Migration completed")]


def test_the_next_one_waits_until_the_one_before_no_longer_runs() -> None:
    made = picture()
    migration(made, "m", "cats", RUNNING, {"type": "Succeeded", "status": "True"})
    migration(made, "n")
    assert not made.plan("n").actions
    migration(made, "m", "cats", {**RUNNING, "status": "False"}, {"type": "Succeeded", "status": "True"})
    assert told(made, "n") == [("Failed", "True", "resource does not exist in discovery")]


def test_it_fails_when_an_object_is_refused_and_not_while_the_server_fails() -> None:
    made = picture()
    made.registry.add(*kinds_of(definition_of("Cat"), 0))
    made.put({"apiVersion": "example.com/v0", "kind": "Cat", "metadata": {"name": "a"}})
    migration(made, "m", "cats", RUNNING)
    plan = made.plan("m")
    [write] = plan.actions
    assert isinstance(write, Patch) and (write.kind, write.key) == ("cats.example.com", "default/a")
    assert plan.refused is not None
    for code, reason in ((500, ""), (500, "InternalError"), (503, "ServiceUnavailable"), (504, "Timeout"), (429, "TooManyRequests")):
        assert not plan.refused([(write, ApiError(code, reason, "later"))])
    [patch] = plan.refused([(write, ApiError(500, "", "later")), (write, ApiError(422, "Invalid", "no good"))])
    assert isinstance(patch, Patch)
    assert patch.patch["status"]["conditions"][1]["message"] == "migration encountered unhandled error: no good"
