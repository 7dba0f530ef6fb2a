"""This module turns a JSON, merge, strategic or apply patch into a function of the current object. If another writer was first, it is applied again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from labctl.clock import rfc3339
from labctl.errors import ApiError
from labctl.resources import documents, failures
from labctl.resources.encoding import NOT_JSON
from labctl.resources.kind import Kind, Object
from labctl.resources.patches import apply, merge, strategic
from labctl.resources.patches import json as json_patch
from labctl.resources.schema import body
from labctl.resources.schema.validate import decode_patched, invalid_patch
from labctl.resources.schema.walk import MAX_STRICT_ERRORS
from labctl.resources.service import WriteOptions
from labctl.resources.verbs import subresources
from labctl.resources.verbs.context import Context

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_MEMBERS = frozenset({"op", "path", "from", "value"})  # RFC 6902

Patched = Callable[[Object], tuple[Object, Sequence[str]]]
Applied = Callable[[Object | None], tuple[Object, Sequence[str]]]


def patcher(ctx: Context, kind: Kind, patch: bytes | Any, content_type: str, options: WriteOptions) -> Patched:
    """Returns a function that takes the current object and returns the patched one and warnings."""
    parsed = [_parse(patch)]
    make = _maker(ctx, kind, content_type)
    wrong = () if options.field_validation == "Ignore" else _wrong(patch, parsed[0])

    def change(obj: Object) -> tuple[Object, Sequence[str]]:
        patched = make(parsed.pop() if parsed else _parse(patch), obj)  # applying a patch changes it, so it is parsed again for each try
        _be_its_own_kind(ctx, kind, patched, patch, content_type)
        strategically = _media_type(content_type) == STRATEGIC
        return patched, decode_patched(ctx.schema, kind, patched, patch, options.field_validation, wrong, strategic=strategically)

    return change


def _be_its_own_kind(ctx: Context, kind: Kind, patched: Object, patch: bytes | Any, content_type: str) -> None:
    """Lets the result say its own kind. What a strategic patch says of it means nothing, as it goes into the object's type; other patches make a new document."""
    own = kind.api_version, kind.kind
    said = patched.setdefault("apiVersion", kind.api_version), patched.setdefault("kind", kind.kind)
    if said == own:
        return
    if not all(isinstance(each, str) for each in said) or kind.decoder is not None:
        raise failures.bad_request(f"{said[1]} in version {said[0]} cannot be handled as a {kind.kind}")
    if _media_type(content_type) != STRATEGIC:
        raise invalid_patch(patch, body.another_kind(ctx.schema, kind, *said))
    patched["apiVersion"], patched["kind"] = own


def _wrong(patch: bytes | Any, parsed: Any) -> Sequence[str]:
    """Returns what a strict reader refuses of the patch itself: fields that are said twice, and members of a JSON patch's operations that there are not."""
    found: list[str] = []
    if isinstance(patch, bytes) and body.may_repeat(parsed, patch):
        found += body.duplicates(patch)
    if not isinstance(parsed, list):
        return found
    operations = [(place, each) for place, each in enumerate(parsed) if isinstance(each, dict)]
    found += [f'unknown field "[{place}].{name}"' for place, each in operations for name in each if name not in _MEMBERS]
    return [f"json patch {each}" for each in found[:MAX_STRICT_ERRORS]]


def applier(ctx: Context, kind: Kind, patch: bytes | Object, options: WriteOptions, subresource: str) -> Applied:
    """Returns a function that carries out a server-side apply. It takes the current object, or None if there is none yet."""
    raw = patch if isinstance(patch, bytes) else msgspec.json.encode(patch)

    def change(obj: Object | None) -> tuple[Object, Sequence[str]]:
        config, now = documents.parse(raw), rfc3339(ctx.clock.wall())
        repeated = _repeated(raw, config, options.field_validation)
        applied = apply.apply(
            ctx.schema, kind, obj, config, manager=options.field_manager, now=now, force=options.force, subresource=subresource
        )
        return applied, repeated

    return change


def scale_applier(ctx: Context, kind: Kind, name: str, patch: bytes | Object, options: WriteOptions) -> Patched:
    """Returns a function that carries out a server-side apply of a Scale to the object that it scales."""
    config = documents.parse(patch if isinstance(patch, bytes) else msgspec.json.encode(patch))
    apply.check_config(ctx.schema, subresources.body_kind(kind, "scale"), config)
    return applier(ctx, kind, subresources.scale_config(kind, name, config), options, "scale")


def _repeated(raw: bytes, config: Any, field_validation: str) -> Sequence[str]:
    """Returns a warning for each key that a configuration has twice. Raises ApiError 400 if the client wants it strict."""
    if field_validation == "Ignore" or (raw[:1] == b"{" and isinstance(config, dict) and not body.may_repeat(config, raw)):
        return ()
    found = documents.repeated_keys(raw)
    if not found:
        return ()
    said = "error converting YAML to JSON: yaml: unmarshal errors:\n  " + "\n  ".join(found)
    if field_validation == "Strict":
        raise failures.bad_request(f"error strict decoding YAML: {said}")
    return found


def is_apply(content_type: str) -> bool:
    return _media_type(content_type) in (APPLY, "application/apply-patch+json")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip()


def _maker(ctx: Context, kind: Kind, content_type: str) -> Callable[[Any, Object], Object]:
    match _media_type(content_type):
        case "application/json-patch+json":
            return json_patch.apply
        case "application/merge-patch+json":
            return merge.apply
        case "application/strategic-merge-patch+json" if kind.decoder is None:  # custom kinds have no merge strategies, as in Kubernetes
            type_ = ctx.schema.type_of(kind.group, kind.version, kind.kind)
            return lambda patch, obj: strategic.apply(type_, patch, obj)
        case other:
            accepted = ", ".join((JSON, MERGE, STRATEGIC, APPLY) if kind.decoder is None else (JSON, MERGE, APPLY))
            message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            raise ApiError(415, "UnsupportedMediaType", message, details={"causes": [{"message": other}]} if other else None)


def _parse(patch: bytes | Any) -> Any:
    if not isinstance(patch, bytes):
        return patch
    try:
        return msgspec.json.decode(patch)
    except NOT_JSON as error:
        raise failures.bad_request(f"error decoding patch: {error}") from None
