"""Who owns which field of an object (metadata.managedFields), as a write leaves it: what its author wrote is his, and what others wrote there is not theirs.

A manager that wrote through another version of the kind owns fields of that version, which may have other names here. So the object is converted to that
version, as it was and as it is to be, and what differs there counts: for conflicts of an apply, and for what the manager no longer owns (KEP-555).
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.clock import rfc3339
from labctl.errors import ApiError
from labctl.resources import encoding
from labctl.resources.kind import Kind, Object
from labctl.resources.patches import apply, fieldset, managed
from labctl.resources.patches.managed import APPLY, Manager, Managers, Ownership
from labctl.resources.schema.defaults import apply_defaults
from labctl.resources.schema.zeros import keep_zeros
from labctl.resources.service import WriteOptions
from labctl.resources.verbs import versions
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.warnings import is_person


def tracked(ctx: Context, kind: Kind, old: Object | None, new: Object, options: WriteOptions) -> Object | None:
    """Returns what the author of a whole object wrote, with the managedFields that this leads to; None if they are not to be recorded.

    Its author owns what he wrote and the defaults beside it, and nothing that admission and the server make of it: a client that begins to apply by the
    server takes over its fields, and would remove what it does not name. So this looks at a copy from before."""
    if not _is_recorded(kind, old, options):
        return None
    sent = encoding.decode(encoding.encode(new))
    if old is not None and kind.has_status:
        if "status" in old:
            sent["status"] = old["status"]
        else:
            sent.pop("status", None)
    if old is not None:
        keep_zeros(ctx.schema.type_of(kind.group, kind.version, kind.kind), sent, old)
    apply_defaults(ctx.schema, kind, sent)
    kind.defaults(sent)
    track(ctx, kind, old, sent, options)
    return sent


def put(obj: Object, sent: Object | None) -> None:
    """Gives an object the managedFields of what was sent."""
    if sent is None:
        return
    if entries := sent["metadata"].get("managedFields"):
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def _is_recorded(kind: Kind, old: Object | None, options: WriteOptions) -> bool:
    """The record begins when kubectl, or a client that names a manager, writes the object; after that every write updates it. It takes a third of a
    create's time and half of a list's bytes, and only those who apply need it. An apply records its owner itself."""
    if options.applied or not kind.tracks_fields:
        return False
    begins = is_person(options.user) and (options.field_manager or options.program == "kubectl")
    return bool(begins or (old is not None and "managedFields" in old["metadata"]))


def track(ctx: Context, kind: Kind, old: Object | None, new: Object, options: WriteOptions, subresource: str = "") -> None:
    """Record which manager owns which field, for server-side apply."""
    if _is_recorded(kind, old, options):
        manager = options.field_manager or options.program or options.user.name
        managed.track(ctx.schema, kind, old, new, manager=manager, now=rfc3339(ctx.clock.wall()), subresource=subresource)


async def bring_over(ctx: Context, kind: Kind, obj: Object, options: WriteOptions, subresource: str = "") -> None:
    """Lets what an applier applied through other versions be fields of this one, in the managedFields of `obj`: what he names no more is removed by these names."""
    entries = obj["metadata"].get("managedFields") or ()
    mine = {
        manager: owned
        for manager, owned in managed.read(entries).items()
        if (manager.name, manager.operation, manager.subresource) == (options.field_manager, APPLY, subresource)
    }
    if not options.applied or all(manager.api_version == kind.api_version for manager in mine):
        return
    managers = {manager: owned for manager, owned in managed.read(entries).items() if manager not in mine}
    me = Manager(options.field_manager, APPLY, kind.api_version, subresource)
    for manager, owned in mine.items():
        there = _version(ctx, kind, manager.api_version)
        if there is not None:
            shared = [other.fields for each, other in managers.items() if each.api_version == manager.api_version]
            alone = owned.fields.difference(*shared)  # what others own there stays
            fields = owned.fields if there is kind else await _renamed(ctx, kind, there, obj, alone)
            known = managers.get(me, Ownership(fieldset.NO_FIELDS, owned.time))
            managers[me] = Ownership(known.fields | fields, max(known.time, owned.time))
    managed.write(obj, managers)


async def _renamed(ctx: Context, kind: Kind, there: Kind, obj: Object, fields: fieldset.Fields) -> fieldset.Fields:
    """Returns the fields of this version that are gone when an object of the version `there` lacks these fields."""
    [whole] = await versions.convert_objects(kind, there, [encoding.decode(encoding.encode(obj))])
    without = encoding.decode(encoding.encode(whole))
    apply.prune(ctx.schema.type_of(there.group, there.version, there.kind), without, fields)
    whole, without = await versions.convert_objects(there, kind, [whole, without])
    return fieldset.compare(ctx.schema.type_of(kind.group, kind.version, kind.kind), whole, without).removed


def _version(ctx: Context, kind: Kind, version: str) -> Kind | None:
    """Returns that version of the kind, if there is one."""
    there = ctx.registry.of(version, kind.kind)
    return there if there is not None and there.stored is kind.stored else None


async def settle(ctx: Context, kind: Kind, old: Object, new: Object | None, options: WriteOptions, subresource: str = "") -> None:
    """Takes from those who wrote through other versions what this write changes, in the managedFields of `new`.

    Raises 409 if an apply would change what they own, and is not forced. A plain update goes on, and leaves them alone, if nothing can be converted."""
    entries = new["metadata"].get("managedFields") if new is not None else None
    if new is None or not entries or all(entry.get("apiVersion") == kind.api_version for entry in entries):
        return
    managers = managed.read(entries)
    conflicts: list[tuple[Manager, fieldset.Path]] = []
    try:
        for version in sorted({manager.api_version for manager in managers} - {kind.api_version}):
            conflicts += await _settle_one(ctx, kind, version, managers, (old, new), subresource)
    except ApiError:
        if options.applied:
            raise
        return
    if options.applied and conflicts and not options.force:
        raise apply.conflict(sorted(conflicts, key=lambda each: (each[0].name, str(each[0]), each[1])))
    managed.write(new, managers)


async def _settle_one(
    ctx: Context, kind: Kind, version: str, managers: Managers, states: Iterable[Object], subresource: str
) -> list[tuple[Manager, fieldset.Path]]:
    """Returns what the managers of one version lose because it is set to something else. Those of a version that is gone are forgotten."""
    theirs = [manager for manager in managers if manager.api_version == version]
    there = _version(ctx, kind, version)
    if there is None:
        for manager in theirs:
            del managers[manager]
        return []
    before, after = await versions.convert_objects(kind, there, [encoding.decode(encoding.encode(state)) for state in states])
    changed = fieldset.compare(ctx.schema.type_of(there.group, there.version, there.kind), before, after)
    written = managed.owned_through(there, subresource, changed.added | changed.modified)
    gone = written | managed.owned_through(there, subresource, changed.removed)
    lost = []
    for manager in theirs:
        owned = managers[manager]
        lost += [(manager, path) for path in owned.fields & written]
        if not gone.isdisjoint(owned.fields):
            managed.set_owned(managers, manager, owned.fields - gone, owned.time)
    return lost
