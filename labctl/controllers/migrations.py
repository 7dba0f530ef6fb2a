"""Storage version migrations: all objects of a custom kind are written once in the version that is stored now, so that an old version can be dropped.

StorageVersionMigration ─► Running ─► each object that is stored in another version is written anew ─► status.storedVersions of the definition, Succeeded

One migration of a resource runs at a time, the oldest first. Objects of built-in kinds are always stored in the present version, so there is nothing to do.
While an object can't be converted the migration goes on trying.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from labctl.clock import rfc3339
from labctl.controllers.customresources import DEFINITIONS
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Seen, View
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.apiextensions_v1.customresourcedefinition import CustomResourceDefinition
from labctl.resources.registry import Registry

MIGRATIONS = "storageversionmigrations.storagemigration.k8s.io"
AT_ONCE = 200  # the most objects that one plan writes anew
LOOK_AGAIN_S = 0.2


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
        if migration is None or _is_over(migration) or _waits(view, migration):
            return NOTHING
        kind = self._registry.get(_resource(migration))
        if kind is None:
            failed = _condition("Failed", "StorageVersionMigrationFailed", "resource does not exist in discovery", view.wall())
            return Plan([_told(migration, [failed])])
        if not _has(migration, "Running"):
            running = _condition("Running", "MigrationRunning", "The migration is running", view.wall())
            return Plan([_told(migration, [running], resourceVersion=str(view.revision))])
        stale = _stale(view, kind)
        if stale:
            why = f"stored anew as {kind.stored.api_version}"
            return Plan([Patch(kind.resource, each, {}, why=why) for each in stale[:AT_ONCE]], again_s=LOOK_AGAIN_S)
        return Plan([*_dropped(view, kind), _succeeded(migration, view.wall())])


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
    """True if another migration of this resource has begun, or is older."""

    def place(each: GenericObject) -> tuple[bool, str, str]:
        return not _has(each, "Running"), each.metadata.creation_timestamp or "", each.metadata.name

    rivals = [each for each in view.all(MIGRATIONS) if _resource(each) == _resource(migration) and not _is_over(each)]
    return min(rivals, key=place).metadata.name != migration.metadata.name


def _stale(view: View, kind: Kind) -> list[Key]:
    if kind.decoder is None:
        return []
    return [each.metadata.key for each in view.all(kind.resource) if each.api_version != kind.stored.api_version]


def _dropped(view: View, kind: Kind) -> Iterator[Action]:
    """Write that only the stored version has objects. Whoever changes the definition meanwhile is not overruled."""
    definition: CustomResourceDefinition | None = view.get(DEFINITIONS, kind.resource) if kind.decoder is not None else None
    if definition is None:
        return
    stored = [version.name for version in definition.spec.versions if version.storage]
    if stored == [kind.stored.version] != list(definition.status.stored_versions):
        patch = {"status": {"storedVersions": stored}}
        why = f"all objects are stored as {stored[0]}"
        yield Patch(DEFINITIONS, definition.metadata.key, patch, "status", definition.metadata.revision, why=why)


def _succeeded(migration: GenericObject, wall_s: float) -> Action:
    ended = _condition("Running", "MigrationCompleted", "The migration is no longer running", wall_s, status="False")
    return _told(migration, [ended, _condition("Succeeded", "StorageVersionMigrationSucceeded", "The migration has succeeded", wall_s)])


def _condition(type_: str, reason: str, message: str, wall_s: float, status: str = "True") -> Object:
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": rfc3339(wall_s)}


def _told(migration: GenericObject, conditions: list[Object], **more: Any) -> Action:
    """Write these conditions in the place of those of their types."""
    types = {each["type"] for each in conditions}
    kept = [each for each in _conditions(migration) if each.get("type") not in types]
    patch = {"status": {"conditions": [*kept, *conditions], **more}}
    return Patch(MIGRATIONS, migration.metadata.key, patch, "status", migration.metadata.revision, why=conditions[-1]["message"])
