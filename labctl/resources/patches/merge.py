"""JSON merge patch (RFC 7386) merges objects, removes a field for null, and replaces everything else.

Called for `application/merge-patch+json`, and by the in-process client's patches. No schema is needed.
"""

from __future__ import annotations

from typing import Any

from labctl.errors import ApiError
from labctl.resources.kind import Object
from labctl.resources.patches.json import equal
from labctl.resources.schema.golang import value_name


def apply(patch: Any, obj: Object) -> Object:
    """Applies the patch to `obj`, in place, and returns it."""
    if not isinstance(patch, dict):
        message = f"json: cannot unmarshal {value_name(patch)} into Go value of type map[string]interface {{}}"
        raise ApiError(400, "BadRequest", f"error decoding patch: {message}")
    _merge(obj, patch)
    return obj


def _merge(target: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            here = target.get(key)
            if not isinstance(here, dict):
                here = target[key] = {}
            _merge(here, value)
        else:
            target[key] = value


def diff(old: Object, new: Object) -> Object:
    """Returns the smallest merge patch that turns `old` into `new`. Nulls inside new values are left out, because a merge patch can't express them."""
    patch: Object = {key: None for key in old if key not in new or new[key] is None}
    for key, value in new.items():
        if value is None:
            continue
        before = old.get(key)
        if isinstance(value, dict):
            inner = diff(before if isinstance(before, dict) else {}, value)
            if inner or not isinstance(before, dict):
                patch[key] = inner
        elif not equal(before, value):
            patch[key] = value
    return patch
