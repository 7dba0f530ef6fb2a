"""metadata.managedFields records which manager set which field. Ordinary updates and server-side apply (apply.py) keep it up to date.

track() is called for every create, update and patch that is not an apply, on what its author wrote, with the defaults. Times move only when a
manager's fields do, so an update that changes nothing still writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from labctl.resources.kind import Kind, Object
from labctl.resources.patches import fieldset
from labctl.resources.patches.fieldset import NO_FIELDS, Fields
from labctl.resources.schema.definitions import Schema

APPLY, UPDATE = "Apply", "Update"
_MAX_UPDATERS = 10  # entries of plain updates; older ones become one, as in Kubernetes
_ANCIENT = "ancient-changes"

# Nobody owns these fields: every object has them, or only the server sets them.
_UNOWNED = {("f:apiVersion",), ("f:kind",), ("f:metadata",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion",
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manager:
    """The identity of one entry of managedFields: who wrote, by which operation, through which version and subresource."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        """Names the manager as a conflict does."""
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


@dataclass(slots=True)
class Ownership:
    """The fields that a manager owns, and the time at which that last changed."""

    fields: Fields
    time: str


Managers = dict[Manager, Ownership]


def track(schema: Schema, kind: Kind, old: Object | None, new: Object, *, manager: str, now: str, subresource: str = "") -> None:
    """Updates the managedFields of `new` after an update by `manager`. `old` is the object before the update, None for a create."""
    metadata = new["metadata"]
    sent = metadata.pop("managedFields", None)
    if sent == [{}]:  # this is how a client resets managedFields
        return
    managers = read(sent or (old or {}).get("metadata", {}).get("managedFields") or ())
    changed = fieldset.compare(schema.type_of(kind.group, kind.version, kind.kind), old or {}, new)
    me = Manager(manager, UPDATE, kind.api_version, subresource)
    remove_owned(managers, me, changed.added | changed.modified, changed.removed)
    mine = managers.get(me, Ownership(NO_FIELDS, now))
    set_owned(managers, me, owned_through(kind, subresource, (mine.fields | changed.added | changed.modified) - changed.removed), now)
    write(new, managers)


def owned_through(kind: Kind, subresource: str, fields: Fields) -> Fields:
    """Returns the fields that a request can own: without those that all objects have, and without those that its endpoint does not write."""
    others = "f:spec" if subresource == "status" else "f:status" if kind.has_status else ""
    return frozenset(path for path in fields if path not in _UNOWNED and path[0] != others)


def remove_owned(managers: Managers, me: Manager, taken: Fields, removed: Fields) -> None:
    """Removes the fields that `me` set from all other managers of this version, and the removed fields from all of them."""
    for manager, ownership in list(managers.items()):
        if manager.api_version != me.api_version:
            continue  # what it owns may have other names here
        gone = removed if manager == me else removed | taken
        if not gone.isdisjoint(ownership.fields):
            set_owned(managers, manager, ownership.fields - gone, ownership.time)


def set_owned(managers: Managers, manager: Manager, fields: Fields, now: str) -> None:
    """Sets the fields that a manager owns. The time changes only if they do."""
    before = managers.get(manager)
    if not fields:
        managers.pop(manager, None)
    elif before is None or before.fields != fields:
        managers[manager] = Ownership(fields, now)


def read(entries: Iterable[Object]) -> Managers:
    """Reads the managers from an object's metadata.managedFields; invalid entries are skipped."""
    managers: Managers = {}
    for entry in entries:
        if isinstance(entry.get("fieldsV1"), dict):
            manager = Manager(
                entry.get("manager", ""), entry.get("operation", UPDATE), entry.get("apiVersion", ""), entry.get("subresource", "")
            )
            with suppress(ValueError):
                managers[manager] = Ownership(frozenset(fieldset.decode(entry["fieldsV1"])), entry.get("time", ""))
    return managers


def write(obj: Object, managers: Managers) -> None:
    """Writes the managers into metadata.managedFields, in Kubernetes' order."""
    entries = [_entry(manager, ownership) for manager, ownership in sorted(_bounded(managers).items(), key=_order)]
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def _bounded(managers: Managers) -> Managers:
    """Limits the number of entries of plain updates: the oldest are merged into one, `ancient-changes`."""
    updaters = sorted((item for item in managers.items() if item[0].operation == UPDATE), key=_order)
    if len(updaters) <= _MAX_UPDATERS:
        return managers
    bounded = dict(managers)
    oldest: dict[Manager, list[Ownership]] = {}
    for manager, ownership in updaters[: len(updaters) - _MAX_UPDATERS + 1]:
        del bounded[manager]
        oldest.setdefault(Manager(_ANCIENT, UPDATE, manager.api_version), []).append(ownership)
    for ancient, ownerships in oldest.items():
        ownerships += [bounded[ancient]] if ancient in bounded else []
        bounded[ancient] = Ownership(NO_FIELDS.union(*(one.fields for one in ownerships)), max(one.time for one in ownerships))
    return bounded


def _order(item: tuple[Manager, Ownership]) -> tuple[str, ...]:
    manager, ownership = item
    return manager.operation, ownership.time, manager.name, manager.api_version, manager.subresource


def _entry(manager: Manager, ownership: Ownership) -> Object:
    entry: dict[str, Any] = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        "time": ownership.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fieldset.encode(ownership.fields),
    }
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry
