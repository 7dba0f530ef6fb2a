"""Storage version migrations: all objects of a custom kind are written once in the version that is stored now, so that an old version can be dropped.

StorageVersionMigration ─► Running ─► each object that is stored in another version is written anew ─► Succeeded ─► status.storedVersions of the definition

One migration of a resource runs at a time, the oldest first. Objects of built-in kinds are always stored in the present version, so there is nothing to do.
A migration that can't write an object fails (KEP-4192). Only while the server itself fails, as when an object can't be converted, does it go on trying.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from labctl.clock import rfc3339
from labctl.controllers.customresources import DEFINITIONS, shown_conditions
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Refusal, Seen, View
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.apiextensions_v1.customresourcedefinition import CustomResourceDefinition
from labctl.resources.kinds.shared import condition
from labctl.resources.registry import Registry

MIGRATIONS = "storageversionmigrations.storagemigration.k8s.io"
AT_ONCE = 200  # the most objects that one plan writes anew
LOOK_AGAIN_S = 0.2
MIGRATING = "StorageMigrating"  # the condition of a definition
UNHANDLED = "migration encountered unhandled error: "
NOT_THERE, GONE = "resource does not exist in discovery", f"{UNHANDLED}unable to obtain GVR from discovery"


class Migrations:
    """The controller that the module's docstring describes."""

    name = "storage-version-migrator-controller"
    kind = MIGRATIONS

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.watches = {MIGRATIONS: _of_the_resource}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        migration: GenericObject | None = view.get(MIGRATIONS, key)
        if migration is None or _waits(view, migration):
            return NOTHING
        wall_s = view.wall()
        if _is_over(migration):
            return _ended(view, migration, wall_s)
        kind, running = self._registry.get(_resource(migration)), _has(migration, "Running")
        if kind is None:
            return Plan([_failed(migration, GONE if running else NOT_THERE, wall_s)])
        if not running:
            return _begun(view, migration, wall_s)
        stale = _stale(view, kind)
        if stale:
            why = f"stored anew as {kind.stored.api_version}"
            return Plan(
                [Patch(kind.resource, each, {}, why=why) for each in stale[:AT_ONCE]],
                again_s=LOOK_AGAIN_S,
                refused=lambda refusals: [_failed(migration, UNHANDLED + said, wall_s) for said in _final(refusals)[:1]],
            )
        return Plan([_told(migration, [_condition("Succeeded", "StorageVersionMigrationSucceeded", "", wall_s)], "it has succeeded")])


def _of_the_resource(view: View, seen: Seen) -> Iterable[Key]:
    """Yield all migrations of the same resource: one that ends or goes lets the next one begin."""
    resource = _resource(seen.new or seen.old)
    return [
        seen.key,
        *(each.metadata.key for each in view.all(MIGRATIONS) if each.metadata.key != seen.key and _resource(each) == resource),
    ]


def _resource(migration: GenericObject) -> str:
    resource, group = migration.at("spec.resource.resource", ""), migration.at("spec.resource.group", "")
    return f"{resource}.{group}" if group else str(resource)


def _conditions(migration: GenericObject) -> list[Object]:
    return [each for each in migration.at("status.conditions") or () if isinstance(each, dict)]


def _has(migration: GenericObject, type_: str) -> bool:
    return any(each.get("type") == type_ and each.get("status") == "True" for each in _conditions(migration))


def _is_over(migration: GenericObject) -> bool:
    return _has(migration, "Succeeded") or _has(migration, "Failed")


def _waits(view: View, migration: GenericObject) -> bool:
    """True if another migration of this resource has begun, or is older. One that is over is at work until it no longer says Running."""

    def place(each: GenericObject) -> tuple[bool, str, str]:
        return not _has(each, "Running"), each.metadata.creation_timestamp or "", each.metadata.name

    def at_work(each: GenericObject) -> bool:
        return _resource(each) == _resource(migration) and (_has(each, "Running") or not _is_over(each))

    first = min(filter(at_work, view.all(MIGRATIONS)), key=place, default=migration)
    return first.metadata.name != migration.metadata.name


def _final(refusals: Sequence[Refusal]) -> list[str]:
    """Return the API's words where trying again makes no sense. Errors of the server, such as those of a conversion, are none of these, as in Kubernetes."""
    return [str(error.args[0]) for _, error in refusals if error.code < 500 and error.code != 429]


def _stale(view: View, kind: Kind) -> list[Key]:
    if kind.decoder is None:
        return []
    return [each.metadata.key for each in view.all(kind.resource) if each.api_version != kind.stored.api_version]


def _begun(view: View, migration: GenericObject, wall_s: float) -> Plan:
    """Write into the definition, if there is one, for which of its generations this counts, and then that the migration is running."""
    definition: CustomResourceDefinition | None = view.get(DEFINITIONS, _resource(migration))
    said = ("True", "MigrationRunning", _running(migration))
    if definition is not None and _of_definition(definition) != said:
        return Plan([_marked(definition, said, {}, wall_s)], again_s=LOOK_AGAIN_S)
    running = _condition("Running", "MigrationRunning", "The migration is running", wall_s)
    return Plan([_told(migration, [running], "it is running", resourceVersion=str(view.revision))])


def _ended(view: View, migration: GenericObject, wall_s: float) -> Plan:
    """Write the end into the definition, with the one version that is still stored if the definition is as it was; then let the next migration begin."""
    if not _has(migration, "Running"):
        return NOTHING
    definition: CustomResourceDefinition | None = view.get(DEFINITIONS, _resource(migration))
    if definition is not None and _of_definition(definition)[::2] == ("True", _running(migration)):
        said, status = ("False", "MigrationFailed", "The migration has failed"), {}
        if _has(migration, "Succeeded"):
            same = condition(definition.status.conditions, MIGRATING).observed_generation == definition.metadata.generation
            how = (
                "and the stored versions have been updated"
                if same
                else "but the stored versions have not been updated due to a generation mismatch"
            )
            said = ("False", "MigrationSucceeded", f"The migration has succeeded {how}")
            status = {"storedVersions": [each.name for each in definition.spec.versions if each.storage]} if same else {}
        return Plan([_marked(definition, said, status, wall_s)], again_s=LOOK_AGAIN_S)
    completed = _condition("Running", "MigrationCompleted", "Migration completed", wall_s, status="False")
    return Plan([_told(migration, [completed], "it is over")])


def _running(migration: GenericObject) -> str:
    return f"Migration {migration.metadata.name} is running"


def _of_definition(definition: CustomResourceDefinition) -> tuple[str, str, str]:
    said = condition(definition.status.conditions, MIGRATING)
    return (said.status, said.reason, said.message) if said else ("", "", "")


def _marked(definition: CustomResourceDefinition, said: tuple[str, str, str], status: Mapping[str, Any], wall_s: float) -> Action:
    """Write the condition StorageMigrating of a definition, if nobody changed it meanwhile."""
    others = [each for each in shown_conditions(definition) if each["type"] != MIGRATING]
    mark = {**_condition(MIGRATING, said[1], said[2], wall_s, said[0]), "observedGeneration": definition.metadata.generation}
    patch = {"status": {"conditions": [*others, mark], **status}}
    return Patch(DEFINITIONS, definition.metadata.key, patch, "status", definition.metadata.revision, why=said[2])


def _failed(migration: GenericObject, why: str, wall_s: float) -> Action:
    return _told(migration, [_condition("Failed", "StorageVersionMigrationFailed", why, wall_s)], why)


def _condition(type_: str, reason: str, message: str, wall_s: float, status: str = "True") -> Object:
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": rfc3339(wall_s)}


def _told(migration: GenericObject, conditions: list[Object], why: str, **more: Any) -> Action:
    """Write these conditions in the place of those of their types."""
    types = {each["type"] for each in conditions}
    kept = [each for each in _conditions(migration) if each.get("type") not in types]
    patch = {"status": {"conditions": [*kept, *conditions], **more}}
    return Patch(MIGRATIONS, migration.metadata.key, patch, "status", migration.metadata.revision, why=why)
