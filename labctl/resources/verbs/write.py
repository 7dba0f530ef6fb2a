"""Create and update decode an object, fill in defaults, validate it, allocate what must be unique, and commit it with a compare.

    body ─► decode (schema) ─► mutating admission ─► defaults ─► without what is off ─► what the server owns ─► validate ─► validating admission
         ─► claims ─► bytes ─► commit

If another writer was first, an update reads the object again and repeats its change on it. An update that changes nothing writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from labctl.errors import Conflict
from labctl.resources import encoding, failures, names
from labctl.resources.admission import Attributes, ask, mutate
from labctl.resources.kind import FieldError, Kind, Object, Subresource
from labctl.resources.large import LARGE_BYTES, offload_if_large
from labctl.resources.plurals import NAMESPACES
from labctl.resources.schema.defaults import apply_defaults
from labctl.resources.schema.disabled import drop_disabled
from labctl.resources.schema.validate import decode
from labctl.resources.schema.zeros import keep_zeros
from labctl.resources.service import WriteOptions, WriteResult
from labctl.resources.verbs import meta, owners, versions
from labctl.resources.verbs.allocation import StoreRanges
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.known import KnownSpec
from labctl.resources.verbs.warnings import collect_warnings, is_person
from labctl.store.interface import Compare, Delete, Entry, Op, Put

_PARTS = {
    "status": ("status",),
    "approval": ("status",),
    "binding": ("spec", "status"),
    "finalize": ("spec",),
}  # the part that a subresource may write; scale writes the spec, like an ordinary update
_PLAIN = Subresource("", ())

Change = Callable[[Object], tuple[Object, Sequence[str]]]
"""Takes a fresh dict of the current object, and returns the new object (it may be the same dict) and warnings."""


async def create(ctx: Context, kind: Kind, namespace: str, body: bytes | Object, options: WriteOptions) -> WriteResult:
    obj, warnings = await decoded(ctx, kind, body, options)
    return await create_decoded(ctx, kind, namespace, obj, options, warnings, size_of(body))


async def decoded(ctx: Context, kind: Kind, body: bytes | Object, options: WriteOptions) -> tuple[Object, list[str]]:
    """Returns the object in a body, and warnings. A large body is decoded in a thread."""
    return await offload_if_large(size_of(body), decode, ctx.schema, kind, body, options.field_validation)


def size_of(body: bytes | Object) -> int:
    """Returns the size that decides whether a body is decoded in a thread. Objects that were made in this process count as small."""
    return len(body) if isinstance(body, bytes) else 0


async def create_by_put(ctx: Context, kind: Kind, namespace: str, name: str, body: bytes | Object, options: WriteOptions) -> WriteResult:
    """Creates an object by a PUT."""
    obj, warnings = await decoded(ctx, kind, body, options)
    metadata = obj.setdefault("metadata", {})
    meta.refuse_other_name(metadata, name)
    metadata.pop("resourceVersion", None)
    return await create_decoded(ctx, kind, namespace, obj, options, warnings, size_of(body))


async def create_decoded(
    ctx: Context, kind: Kind, namespace: str, obj: Object, options: WriteOptions, warnings: Sequence[str] = (), size: int = 0
) -> WriteResult:
    """Carries out a create after decoding. `size` is the size of the body in bytes."""
    if kind.leaving:
        raise failures.method_not_allowed(kind, "create", "create not allowed while custom resource definition is terminating")
    size = size if not kind.slow else LARGE_BYTES + 1
    meta.fill_new_metadata(ctx, kind, namespace, obj)
    sent = await offload_if_large(size, owners.tracked, ctx, kind, None, obj, options)
    if steps := ctx.admission.mutating(kind, "create"):
        warnings = [*warnings, *await mutate(steps, Attributes(options.user, "create", kind, None, obj, options))]
    prefix = "" if obj["metadata"].get("name") else obj["metadata"].get("generateName", "")
    if prefix:
        obj["metadata"]["name"] = meta.generated(prefix, ctx.rng)
    known = ctx.known.look_up(kind, obj) if size <= LARGE_BYTES else KnownSpec()
    await offload_if_large(size, _complete, ctx, kind, obj, known)
    if not (known.quiet and _plain(obj["metadata"])):
        said_before = list(warnings)
        warnings = await offload_if_large(size, collect_warnings, ctx, kind, obj, None, options, warnings)
        known.quiet = is_person(options.user) and warnings == said_before
    draft = encoding.encode(obj) if kind.allocate else b""
    for attempt in range(ctx.settings.write_attempts):
        if attempt and draft:
            obj = encoding.decode(draft)  # without the allocated values, which another object has taken meanwhile
        if attempt and prefix:
            obj["metadata"]["name"] = meta.generated(prefix, ctx.rng)
            kind.prepare(obj, None)  # it may have written the name elsewhere
        await offload_if_large(size, _refuse_invalid, kind, obj, None, known)
        ctx.known.remember(kind, known, obj)
        said: Sequence[str] = ()
        if steps := ctx.admission.validating(kind, "create"):
            said = await ask(steps, Attributes(options.user, "create", kind, None, obj, options))
        owners.put(obj, sent)
        entry = await _commit_new(ctx, kind, namespace, obj, options, may_exist=bool(prefix))
        if entry is not None:
            return WriteResult(entry, True, [*warnings, *said])
    raise failures.conflict(kind, obj["metadata"].get("name", ""))


def _plain(metadata: Object) -> bool:
    """True if nobody can be warned of anything in this metadata: no annotations, and a name that may be a host's."""
    return not metadata.get("annotations") and not names.label(metadata.get("name") or "a")


def _complete(ctx: Context, kind: Kind, obj: Object, known: KnownSpec) -> None:
    """Fills in what a new object's body left out."""
    if known.complete:
        obj["spec"] = encoding.decode(known.complete)
    else:
        apply_defaults(ctx.schema, kind, obj)
        kind.defaults(obj)
        drop_disabled(ctx.schema, kind, obj, None)
    kind.prepare(obj, None)


async def _commit_new(ctx: Context, kind: Kind, namespace: str, obj: Object, options: WriteOptions, *, may_exist: bool) -> Entry | None:
    """Commits a new object. Returns None if another writer was first (with the same generated name, a claim or the namespace): then it can be tried again."""
    name = obj["metadata"]["name"]
    key = kind.key(namespace, name)
    guards = namespace_guard(ctx, kind, namespace, name)
    if ctx.store.get(key) is not None:
        if may_exist:
            return None
        raise failures.already_exists(kind, name)
    claim_ops, claim_compares = _claim(ctx, kind, obj, None)
    kind.enter(obj, ctx)
    value = encoding.stored(await versions.to_store(kind, obj))
    _refuse_large(ctx, value)
    if options.dry_run:
        return Entry(key, value, 0, 0)
    try:
        revision = await ctx.commit(kind, [Put(key, value), *claim_ops], [Compare(key, 0), *guards, *claim_compares])
    except Conflict as taken:
        if taken.key == key and not may_exist:
            raise failures.already_exists(kind, name) from None
        await ctx.store.wait_finished(taken.at)
        return None
    return committed(ctx, key, value, revision, revision)


class Replacement:
    """The change of a PUT: the body replaces the object, whatever that was."""

    def __init__(self, sent: Object, warnings: Sequence[str]) -> None:
        self._first = [sent]
        self._raw = encoding.encode(sent)  # what is written is changed on the way, so each further try has a copy of its own
        self._warnings = warnings

    def __call__(self, _obj: Object) -> tuple[Object, Sequence[str]]:
        return self._first.pop() if self._first else encoding.decode(self._raw), self._warnings


async def replacement(ctx: Context, kind: Kind, body: bytes | Object, options: WriteOptions) -> Change:
    """Returns the change of a PUT: the body replaces the object."""
    sent, warnings = await decoded(ctx, kind, body, options)
    return Replacement(sent, warnings)


async def rewrite(
    ctx: Context, kind: Kind, namespace: str, name: str, change: Change, options: WriteOptions, subresource: str = "", size: int = 0
) -> WriteResult:
    """Reads the object, changes it and commits; if another writer was first, it starts again. `size` is the size of the body in bytes."""
    key = kind.key(namespace, name)
    async with ctx.turn(key):
        for _ in range(ctx.settings.write_attempts):
            entry = ctx.existing(kind, namespace, name)
            converted = await versions.convert_entry(kind, entry)
            old = encoding.decoded(converted)
            size = max(size, len(converted.value), LARGE_BYTES + 1 if kind.slow else 0)
            current = old if isinstance(change, Replacement) else encoding.decoded(converted)
            if options.applied:
                await owners.bring_over(ctx, kind, current, options, subresource)
            new, warnings = await offload_if_large(size, change, current)
            meta.refuse_other_name(new.setdefault("metadata", {}), name)
            sent = await offload_if_large(size, owners.tracked, ctx, kind, old, new, options) if not subresource else None
            await owners.settle(ctx, kind, old, new if options.applied else sent, options, subresource)
            if steps := ctx.admission.mutating(kind, "update"):
                warnings = [*warnings, *await mutate(steps, Attributes(options.user, "update", kind, old, new, options, subresource))]
            await offload_if_large(size, restrict_and_validate, ctx, kind, namespace, name, new, old, subresource)
            if new == old and not await versions.is_stale(kind, entry, new):
                return WriteResult(entry, warnings=warnings)
            if steps := ctx.admission.validating(kind, "update"):
                warnings = [*warnings, *await ask(steps, Attributes(options.user, "update", kind, old, new, options, subresource))]
            warnings = await offload_if_large(size, collect_warnings, ctx, kind, new, old, options, warnings)
            try:
                owners.put(new, sent)
                return await _commit_rewrite(ctx, kind, entry, new, old, options, subresource, warnings)
            except Conflict as first:
                await ctx.store.wait_finished(first.at)
    raise failures.conflict(kind, name)


def restrict_and_validate(ctx: Context, kind: Kind, namespace: str, name: str, new: Object, old: Object, subresource: str) -> None:
    """Restores the parts of the object that this request can't change, fills in defaults, and validates the result."""
    meta.keep_immutable(kind, namespace, name, new, old)
    keep_zeros(ctx.schema.type_of(kind.group, kind.version, kind.kind), new, old)
    if subresource in _PARTS:
        written = next((sub for sub in kind.subresources if sub.name == subresource), _PLAIN)
        meta.keep_some(new, old, written.keeps)
        _only(new, old, *_PARTS[subresource])
        drop_disabled(ctx.schema, kind, new, old, _PARTS[subresource])
        errors: list[FieldError] = []
        if new["metadata"] != old["metadata"]:
            found = meta.validate(kind, new["metadata"], old["metadata"])
            errors += _without_known(found, lambda: meta.validate(kind, old["metadata"], old["metadata"]))
        if kind.decoder is not None:  # a custom kind's schema describes its status, too
            kind.defaults(new)
            errors += kind.validate(new, old)
        written.prepare(new, old)
        written.defaults(new)
        errors += _without_known(written.validate(new, old), lambda: written.validate(old, old))
        if errors:
            raise failures.invalid(kind, name, errors)
        return
    part = next((sub for sub in kind.subresources if sub.merge and sub.name == subresource), None)
    if part is not None:
        _write_part(ctx, kind, new, old, part)
        return
    if kind.has_status:
        _copy(new, old, "status")
    apply_defaults(ctx.schema, kind, new)
    kind.defaults(new)
    drop_disabled(ctx.schema, kind, new, old)
    kind.prepare(new, old)
    if new != old:
        _refuse_invalid(kind, new, old, complete=lambda: _completed(ctx, kind, old))
        meta.count_change(kind, new, old)


def _write_part(ctx: Context, kind: Kind, new: Object, old: Object, part: Subresource) -> None:
    """Restores everything but a part of the spec, and validates the result by the rules of the subresource that writes it."""
    assert part.merge is not None
    meta.keep_all(new, old)
    spec = part.merge(new.get("spec") or {}, old["spec"])
    _only(new, old)
    new["spec"] = spec
    apply_defaults(ctx.schema, kind, new)
    drop_disabled(ctx.schema, kind, new, old)
    if new == old:
        return
    errors = list(part.validate(new, old))
    if errors:
        raise failures.invalid(kind, new["metadata"]["name"], errors)
    new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _only(new: Object, old: Object, *parts: str) -> None:
    """Restores everything but these parts and metadata."""
    for name in (*new, *(name for name in old if name not in new)):
        if name not in parts and name != "metadata":
            _copy(new, old, name)


def _copy(new: Object, old: Object, name: str) -> None:
    if name in old:
        new[name] = old[name]
    else:
        new.pop(name, None)


async def _commit_rewrite(
    ctx: Context, kind: Kind, entry: Entry, new: Object, old: Object, options: WriteOptions, subresource: str, warnings: Sequence[str]
) -> WriteResult:
    claim_ops, claim_compares = _claim(ctx, kind, new, old)
    if subresource and not options.applied:
        owners.track(ctx, kind, old, new, options, subresource)
        await owners.settle(ctx, kind, old, new, options, subresource)
    value = encoding.stored(await versions.to_store(kind, new))
    if len(value) > len(entry.value):
        _refuse_large(ctx, value)
    if options.dry_run:
        return WriteResult(Entry(entry.key, value, entry.revision, entry.created), warnings=warnings)
    gone = can_be_removed(new)
    op: Op = Delete(entry.key, value) if gone else Put(entry.key, value)
    if gone:
        claim_ops = [Delete(claim) for claim in kind.claims(old)]
        claim_compares = []
    revision = await ctx.commit(kind, [op, *claim_ops], [Compare(entry.key, entry.revision), *claim_compares])
    return WriteResult(committed(ctx, entry.key, value, revision, entry.created), warnings=warnings, gone=gone)


def _refuse_large(ctx: Context, value: bytes) -> None:
    """Refuses an object that is too large to be stored, as etcd does. What is larger already may still be changed, as long as it does not grow."""
    if len(value) > ctx.settings.object_bytes:
        raise failures.object_too_large(ctx.settings.object_bytes, len(value))


def can_be_removed(obj: Object) -> bool:
    """True if the object is terminating, and neither a finalizer nor a grace period holds it any more."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds"):
        return False
    return not (obj["kind"] == "Namespace" and obj.get("spec", {}).get("finalizers"))


def committed(ctx: Context, key: str, value: bytes, revision: int, created: int) -> Entry:
    """Returns the written entry. If it is still the newest, that is the store's own entry, so that its view is decoded only once."""
    entry = ctx.store.get(key)
    return entry if entry is not None and entry.revision == revision else Entry(key, value, revision, created)


def namespace_guard(ctx: Context, kind: Kind, namespace: str, name: str) -> list[Compare]:
    """Returns the compares that make a commit fail if the namespace was deleted meanwhile. Raises ApiError if it does not exist or is terminating."""
    if not kind.namespaced:
        return []
    key = f"{NAMESPACES}/{namespace}"
    entry = ctx.store.get(key)
    if entry is None:
        raise failures.not_found(ctx.registry[NAMESPACES], namespace)
    view = ctx.view(entry)
    if view.metadata.deletion_timestamp is not None or view.status.phase == "Terminating":
        raise failures.terminating(kind, name, namespace)
    return [Compare(key, entry.revision)]


def _completed(ctx: Context, kind: Kind, stored: Object) -> Object:
    """Returns a copy of a stored object with the defaults of today."""
    copy: Object = encoding.decode(encoding.encode(stored))
    apply_defaults(ctx.schema, kind, copy)
    kind.defaults(copy)
    return copy


def _refuse_invalid(
    kind: Kind, new: Object, old: Object | None, known: KnownSpec | None = None, complete: Callable[[], Object] | None = None
) -> None:
    errors = list(meta.validate(kind, new["metadata"], old["metadata"] if old else None))
    if known is None or not known.complete:
        errors += kind.validate(new, old)
    if errors and complete is not None and kind.decoder is None:
        before = complete()
        errors = _without_known(
            errors, lambda: [*meta.validate(kind, before["metadata"], before["metadata"]), *kind.validate(before, None)]
        )
    if errors:
        metadata = new["metadata"]
        raise failures.invalid(kind, metadata.get("name") or metadata.get("generateName", ""), errors)


def _without_known(errors: Iterable[FieldError], of_old: Callable[[], Iterable[FieldError]]) -> list[FieldError]:
    """Returns the errors that an update brings. What was stored before a rule was made is still there, and its finalizers must be removable."""
    found = list(errors)
    if not found:
        return found
    known = set(of_old())
    return [error for error in found if error not in known]


def _claim(ctx: Context, kind: Kind, new: Object, old: Object | None) -> tuple[list[Op], list[Compare]]:
    """Fills in what must be unique, and returns the operations and compares for the claim keys, which go into the object's commit."""
    if kind.allocate is None:
        return [], []
    held = set(kind.claims(old)) if old else set()
    errors = list(kind.allocate(new, old, StoreRanges(ctx, held)))
    if errors:
        raise failures.invalid(kind, new["metadata"]["name"], errors)
    wanted = list(kind.claims(new))
    holder = kind.key(new["metadata"].get("namespace", ""), new["metadata"]["name"]).encode()
    taken = [claim for claim in wanted if claim not in held]
    freed = sorted(held.difference(wanted))
    return [*(Put(claim, holder) for claim in taken), *(Delete(claim) for claim in freed)], [Compare(claim, 0) for claim in taken]
