"""A delete removes an object at once, or marks it and waits until its agent, its finalizers or its dependents are done.

grace 0, no finalizer     removed in this commit, with its claims; watchers get its last state at the deletion's revision
grace > 0 (a bound pod)   deletionTimestamp is when it should be gone; the agent deletes it again with grace 0
finalizers                deletionTimestamp is now; the write that takes the last finalizer away removes it (write.can_be_removed)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from labctl.clock import parse_rfc3339, rfc3339
from labctl.errors import ApiError, Conflict
from labctl.resources import encoding, failures, fields
from labctl.resources.admission import Attributes, ask
from labctl.resources.kind import Kind, Object
from labctl.resources.service import SYSTEM, DeleteOptions, ListOptions, ListResult, User, WriteResult
from labctl.resources.verbs import versions
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.read import list_converted
from labctl.resources.verbs.write import can_be_removed, committed
from labctl.store.interface import Compare, Delete, Entry, Op, Put

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_POLICY_FINALIZER: Mapping[str | None, str] = {"Orphan": ORPHAN, "Foreground": FOREGROUND}
_UNDELETABLE_NAMESPACES = ("default", "kube-system", "kube-public")
_DELETIONS_AT_ONCE = 100  # objects of a collection that are deleted at a time


async def delete(
    ctx: Context, kind: Kind, namespace: str, name: str, options: DeleteOptions, user: User = SYSTEM, *, admitted: bool = False
) -> WriteResult:
    """Deletes one object. `admitted`: the steps were asked about the request already, because it is no DELETE (an eviction)."""
    if kind.resource == "namespaces" and name in _UNDELETABLE_NAMESPACES:
        raise failures.forbidden(kind, name, "this namespace may not be deleted")
    _check(options)
    key = kind.key(namespace, name)
    async with ctx.turn(key):
        for _ in range(ctx.settings.write_attempts):
            entry = ctx.existing(kind, namespace, name)
            old = encoding.decoded(await versions.convert_entry(kind, entry))  # who can't see it in this version can't delete it there
            _check_preconditions(kind, name, old, options)
            steps = (*ctx.admission.mutating(kind, "delete"), *ctx.admission.validating(kind, "delete"))
            said = await ask(steps, Attributes(user, "delete", kind, old, None, options)) if steps and not admitted else ()
            stored, new = old if kind.conversion is None else encoding.decoded(entry), encoding.decoded(entry)
            _mark(ctx, kind, new, options)
            if new == stored and not can_be_removed(new):
                return WriteResult(entry, warnings=said)
            try:
                return msgspec.structs.replace(await _commit(ctx, kind, entry, new, options), warnings=said)
            except Conflict as first:
                await ctx.store.wait_finished(first.at)
    raise failures.conflict(kind, name)


async def _commit(ctx: Context, kind: Kind, entry: Entry, new: Object, options: DeleteOptions) -> WriteResult:
    gone = can_be_removed(new)
    value = encoding.stored(new)
    if options.dry_run:
        return WriteResult(Entry(entry.key, value, entry.revision, entry.created), gone=gone)
    ops: list[Op] = [Delete(entry.key, value), *(Delete(claim) for claim in kind.claims(new))] if gone else [Put(entry.key, value)]
    revision = await ctx.commit(kind, ops, [Compare(entry.key, entry.revision)])
    return WriteResult(committed(ctx, entry.key, value, revision, entry.created), gone=gone)


def _mark(ctx: Context, kind: Kind, obj: Object, options: DeleteOptions) -> None:
    """Marks the object as terminating: sets its finalizers, its deletionTimestamp and its grace period."""
    metadata = obj["metadata"]
    finalizers = _finalizers(kind, metadata.get("finalizers", []), options.propagation_policy)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    grace_s = kind.grace_s(obj, options.grace_period_seconds)
    if "deletionTimestamp" in metadata:
        _shorten(ctx, metadata, grace_s, options.grace_period_seconds is not None)
    else:
        metadata["deletionTimestamp"] = rfc3339(ctx.clock.wall() + grace_s)
        if kind.resource != "namespaces":  # which is marked by a deletion of its own in Kubernetes
            metadata["deletionGracePeriodSeconds"] = grace_s
        if kind.has_generation and "generation" in metadata:
            metadata["generation"] += 1
    if obj["kind"] == "Namespace":
        obj.setdefault("status", {})["phase"] = "Terminating"


def _shorten(ctx: Context, metadata: Object, grace_s: int, requested: bool) -> None:
    """Handles a repeated deletion: it can shorten the grace period, but not extend it."""
    before = metadata.get("deletionGracePeriodSeconds", 0)
    if requested and grace_s < before:
        began = parse_rfc3339(metadata["deletionTimestamp"]) - before
        metadata["deletionTimestamp"] = rfc3339(max(began + grace_s, min(ctx.clock.wall(), began + before)))
        metadata["deletionGracePeriodSeconds"] = grace_s


def _finalizers(kind: Kind, finalizers: list[str], policy: str | None) -> list[str]:
    """Returns the finalizers with the one that carries out the propagation policy. A policy of None leaves the choice to the object, then to the kind."""
    if policy is None:
        if ORPHAN in finalizers or FOREGROUND in finalizers or not kind.orphans:
            return finalizers
        policy = "Orphan"
    wanted = _POLICY_FINALIZER.get(policy)
    kept = [finalizer for finalizer in finalizers if finalizer == wanted or finalizer not in (ORPHAN, FOREGROUND)]
    return kept if wanted is None or wanted in kept else [*kept, wanted]


def _check(options: DeleteOptions) -> None:
    policy, grace_s = options.propagation_policy, options.grace_period_seconds
    if policy is not None and policy not in ("Background", "Foreground", "Orphan"):
        error = fields.not_supported("propagationPolicy", policy, ("Background", "Foreground", "Orphan", "nil"))
        raise failures.invalid_of("DeleteOptions", "meta.k8s.io", "", [error])
    if grace_s is not None and not -(2**63) <= grace_s < 2**63:
        raise failures.bad_request(f"gracePeriodSeconds {grace_s} is out of range")


def _check_preconditions(kind: Kind, name: str, obj: Object, options: DeleteOptions) -> None:
    metadata = obj["metadata"]
    uid, revision = options.precondition_uid, options.precondition_resource_version
    if uid and uid != metadata["uid"]:
        why = f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']})"
        raise failures.precondition(kind, name, f"{why}. The object might have been deleted and then recreated")
    if revision and revision != metadata["resourceVersion"]:
        why = f"the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({metadata['resourceVersion']})"
        raise failures.precondition(kind, name, f"{why}. The object might have been modified")


async def delete_collection(
    ctx: Context, kind: Kind, namespace: str, options: ListOptions, delete_options: DeleteOptions, user: User = SYSTEM
) -> ListResult:
    listed = await list_converted(ctx, kind, namespace, options)
    deleted: list[Entry] = []
    for start in range(0, len(listed.entries), _DELETIONS_AT_ONCE):
        entries = listed.entries[start : start + _DELETIONS_AT_ONCE]
        results = await asyncio.gather(*(_delete_entry(ctx, kind, entry, delete_options, user) for entry in entries))
        deleted += [entry for entry in results if entry is not None]
    return msgspec.structs.replace(listed, entries=deleted, revision=ctx.store.revision)


async def _delete_entry(ctx: Context, kind: Kind, entry: Entry, options: DeleteOptions, user: User) -> Entry | None:
    """Deletes one object of a collection. Returns None if another client deleted it first, or if it may not be deleted."""
    *_, namespace, name = entry.key.split("/")
    try:
        return (await delete(ctx, kind, namespace if kind.namespaced else "", name, options, user)).entry
    except ApiError as error:
        if error.code == 404:
            return None
        raise
