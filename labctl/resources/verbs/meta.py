"""This module handles `metadata`, in the same way for every kind: it sets what only the server sets, keeps what can't change, and validates the rest."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from labctl.clock import rfc3339
from labctl.errors import ApiError
from labctl.resources import failures, fields, names, objectmeta
from labctl.resources.kind import FieldError, Kind, Object
from labctl.resources.verbs.context import Context

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # without vowels, so that no words appear by chance
_SUFFIX_LENGTH = 5
_GENERATED_MAX = 63 - _SUFFIX_LENGTH
_KEPT = ("name", "generateName", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_NOT_WANTED = ("apiVersion", "kind", "metadata")
_MAY_BE_EMPTY = ("labels", "annotations", "finalizers", "ownerReferences", "generateName")
_ANY_FINALIZER = ("admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io")
_UUID_FREE = ~(0xF << 76 | 0x3 << 62)  # the bits of a UUID that its version and its variant leave free
_UUID_FIXED = 0x4 << 76 | 0x2 << 62


def generated(prefix: str, rng: Random) -> str:
    """Generates a name as Kubernetes does: the prefix and five random characters."""
    return prefix[:_GENERATED_MAX] + "".join(rng.choices(_SUFFIX_ALPHABET, k=_SUFFIX_LENGTH))


def new_uid(rng: Random) -> str:
    """Generates a random UUID of version 4 (RFC 9562). The class of the standard library takes three times as long, and every create needs one."""
    digits = "%032x" % (rng.getrandbits(128) & _UUID_FREE | _UUID_FIXED)
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def fill_new_metadata(ctx: Context, kind: Kind, namespace: str, obj: Object) -> None:
    """Sets the metadata of a new object that only the server sets: uid, creationTimestamp, generation."""
    metadata = obj.setdefault("metadata", {})
    if metadata.pop("resourceVersion", ""):
        raise failures.bad_request("resourceVersion should not be set on objects to be created")
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
        metadata.pop(name, None)
    set_namespace(kind, namespace, metadata)
    metadata["uid"] = new_uid(ctx.rng)
    metadata["creationTimestamp"] = rfc3339(ctx.clock.wall())
    if kind.has_generation:
        metadata["generation"] = 1


def set_namespace(kind: Kind, namespace: str, metadata: dict[str, Any]) -> None:
    """Sets the request's namespace. Raises ApiError 400 if the object names another one. It also drops empty lists and maps of metadata."""
    for name in _MAY_BE_EMPTY:
        if name in metadata and not metadata[name]:
            del metadata[name]
    given = metadata.get("namespace", "")
    if not kind.namespaced:
        metadata.pop("namespace", None)
        return
    if given and given != namespace:
        raise failures.bad_request("the namespace of the provided object does not match the namespace sent on the request")
    metadata["namespace"] = namespace


def keep_immutable(kind: Kind, namespace: str, name: str, new: Object, old: Object) -> None:
    """Restores the metadata that an update can't change. Raises ApiError if the name, the namespace, the uid or the resourceVersion is another one."""
    metadata, before = new.setdefault("metadata", {}), old["metadata"]
    refuse_other_name(metadata, name)
    set_namespace(kind, namespace, metadata)
    uid = metadata.get("uid", "")
    if uid and uid != before["uid"]:
        raise failures.other_uid(kind, namespace, name, uid, before["uid"])
    given = metadata.get("resourceVersion", "")
    if given and given != "0" and given != before["resourceVersion"]:
        raise _stale(kind, name, given)
    if errors := list(_ends(metadata, before)):
        raise failures.invalid(kind, name, errors)
    metadata["resourceVersion"] = before["resourceVersion"]
    if "managedFields" in before:
        metadata.setdefault("managedFields", before["managedFields"])
    metadata.pop("selfLink", None)
    _keep(_KEPT, metadata, before)


def _ends(metadata: dict[str, Any], before: dict[str, Any]) -> Iterator[FieldError]:
    """Yields an error where an update would begin a deletion, or give it another time: only a request to delete does that."""
    at, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if at is not None and "deletionTimestamp" not in before:
        yield fields.invalid("metadata.deletionTimestamp", at, "field is immutable")
    if grace is not None and grace != before.get("deletionGracePeriodSeconds"):
        yield fields.invalid("metadata.deletionGracePeriodSeconds", grace, "field is immutable")


def refuse_other_name(metadata: dict[str, Any], name: str) -> None:
    given = metadata.get("name")
    if not given:
        raise failures.bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if given != name:
        raise failures.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def keep_some(new: Object, old: Object, names_: tuple[str, ...]) -> None:
    """Restores what of the metadata a write of the status can't change."""
    _keep(names_, new["metadata"], old["metadata"])


def keep_all(new: Object, old: Object) -> None:
    """Restores all metadata after a write of a part of the spec; the record of who owns which field is kept up apart from this."""
    fields_record = new["metadata"].get("managedFields")
    new["metadata"] = dict(old["metadata"])
    if fields_record is not None:
        new["metadata"]["managedFields"] = fields_record


def count_change(kind: Kind, new: Object, old: Object) -> None:
    """Adds one to the generation if an update changes what is wanted. That is most often in the spec, but some kinds have fields beside it (`webhooks`)
    or none, and a custom kind without the subresource has its status there like any other field."""
    if kind.has_generation and any(new.get(name) != old.get(name) for name in {**new, **old} if name not in _NOT_WANTED):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _keep(names_: tuple[str, ...], metadata: dict[str, Any], before: dict[str, Any]) -> None:
    for name in names_:
        if name in before:
            metadata[name] = before[name]
        else:
            metadata.pop(name, None)


def _stale(kind: Kind, name: str, given: str) -> ApiError:
    if not (given.isascii() and given.isdigit()):
        error = fields.invalid("metadata.resourceVersion", given, f'strconv.ParseUint: parsing "{given}": invalid syntax')
        return failures.invalid(kind, name, [error])
    return failures.conflict(kind, name)


def validate(kind: Kind, metadata: dict[str, Any], old: dict[str, Any] | None) -> Iterator[FieldError]:
    """Validates metadata by the rules of apimachinery's ValidateObjectMeta."""
    if old is None:
        yield from _validate_name(kind, metadata)
    if "labels" in metadata:
        yield from names.labels("metadata.labels", metadata["labels"])
    if "annotations" in metadata:
        yield from names.annotation_keys("metadata.annotations", metadata["annotations"])
        if old is None or metadata["annotations"] != old.get("annotations"):
            yield from kind.annotation_rules(metadata["annotations"])
    if "ownerReferences" in metadata:
        yield from objectmeta.owners("metadata.ownerReferences", metadata["ownerReferences"])
    if "finalizers" in metadata:
        yield from _validate_finalizers(metadata["finalizers"], old)
        if kind.decoder is None and kind.group not in _ANY_FINALIZER:
            yield from _standard_finalizers(metadata["finalizers"])


def _validate_name(kind: Kind, metadata: dict[str, Any]) -> Iterator[FieldError]:
    rule = names.NAME_RULES[kind.name_rule]
    name, prefix = metadata.get("name", ""), metadata.get("generateName", "")
    if prefix:
        yield from names.checked("metadata.generateName", prefix, lambda text: rule(text.rstrip("-") or text))
    if name:
        yield from names.checked("metadata.name", name, rule)
    elif not prefix:
        yield fields.required("metadata.name", "name or generateName is required")


def _standard_finalizers(finalizers: list[str]) -> Iterator[FieldError]:
    """Finalizers of Kubernetes' own kinds have a domain, but for those that the server itself knows."""
    for index, finalizer in enumerate(finalizers):
        if "/" not in finalizer and finalizer not in objectmeta.STANDARD_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            yield fields.invalid(f"metadata.finalizers[{index}]", finalizer, why)


def _validate_finalizers(finalizers: list[str], old: dict[str, Any] | None) -> Iterator[FieldError]:
    yield from objectmeta.finalizers("metadata.finalizers", finalizers)
    if old is not None and "deletionTimestamp" in old:
        before = frozenset(old.get("finalizers", ()))
        added = [finalizer for finalizer in finalizers if finalizer not in before]
        if added:
            shown = ", ".join(f'"{finalizer}"' for finalizer in added)
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{shown}}}"
            yield fields.forbidden("metadata.finalizers", why)
