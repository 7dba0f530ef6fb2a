"""JSON patch (RFC 6902) applies a list of add, remove, replace, move, copy and test operations, all of them or none.

Called for `application/json-patch+json`. The words are those of the library the real server uses (evanphx/json-patch); like the real server's,
the Status says only that the request was in error, and its cause says which operation did not apply.

The library `jsonpatch` is as fast and costs 45 ms at import, but it refuses negative indices, which the real server's takes, says other words, and has no
bound on what copies add up to.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec

from labctl.errors import ApiError
from labctl.resources import documents
from labctl.resources.kind import Object
from labctl.resources.schema.golang import value_name

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 << 20  # what all copies of one patch may add, as kube-apiserver
MAX_SHIFTED = 20_000_000  # places that items of lists may move by: an operation at a list's beginning moves all behind it
_MISSING = "missing value"
_FAILED_TEST = "test failed"


class _DoesNotApply(Exception):
    """An operation does not fit the document; the message says why."""


def apply(patch: Any, obj: Object) -> Object:
    """Returns the object after all operations. `obj` may be changed."""
    if not isinstance(patch, list):
        raise ApiError(400, "BadRequest", f"json: cannot unmarshal {value_name(patch)} into Go value of type jsonpatch.Patch")
    if len(patch) > MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {message}")
    for operation in patch:
        if not isinstance(operation, dict):
            raise ApiError(400, "BadRequest", f"json: cannot unmarshal {value_name(operation)} into Go value of type jsonpatch.Operation")
    document: Any = obj
    costs = _Costs()
    try:
        for operation in patch:
            document = _operate(document, operation, costs)
    except _DoesNotApply as error:
        raise does_not_apply(str(error)) from None
    except RecursionError:
        raise does_not_apply("exceeded max depth") from None
    if not isinstance(document, dict):
        raise does_not_apply(f"json: cannot unmarshal {value_name(document)} into Go value of type map[string]interface {{}}")
    documents.check_depth(document)
    return document


class _Costs:
    """Counts the costs of one patch that its size does not bound: copied bytes, and places by which list items were moved. Raises at the limits."""

    def __init__(self) -> None:
        self._copied_bytes = 0
        self._shifted = 0

    def copied(self, value: Any) -> None:
        self._copied_bytes += len(msgspec.json.encode(value))
        if self._copied_bytes > MAX_COPIED_BYTES:
            message = f"the accumulated size increase of copy is {self._copied_bytes}, exceeding the limit {MAX_COPIED_BYTES}"
            raise _DoesNotApply(f"Unable to complete the copy, {message}")

    def shifted(self, places: int) -> None:
        self._shifted += places
        if self._shifted > MAX_SHIFTED:
            raise _DoesNotApply(f"the operations move items of lists by more than {MAX_SHIFTED} places")


def why_not(error: ApiError) -> str:
    """Returns what is wrong with a patch, of an error of `apply`."""
    causes = (error.details or {}).get("causes") or [{}]
    return causes[0].get("message") or str(error)


def is_failed_test(error: ApiError) -> bool:
    """Tells whether an error of `apply` is that of an operation `test` whose value differs."""
    return why_not(error).endswith(_FAILED_TEST)


def does_not_apply(why: str) -> ApiError:
    """Returns the error for a patch that is well formed but does not fit the object; `why` goes into the cause, as a real server does it."""
    causes = [{"reason": "FieldValueInvalid", "message": why, "field": "patch"}]
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", details={"causes": causes})


def _operate(document: Any, operation: dict[str, Any], costs: _Costs) -> Any:
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise _DoesNotApply(f"{kind} operation does not apply: missing path")
    match kind:
        case "add":
            return _add(document, path, _value(operation), costs)
        case "remove":
            return _remove(document, path, costs)
        case "replace":
            return _replace(document, path, _value(operation))
        case "move":
            source = _from(operation, "move")
            value = _get(document, source, f"move operation does not apply: doc is missing from path: {source}")
            return _add(_remove(document, source, costs), path, value, costs)
        case "copy":
            source = _from(operation, "copy")
            value = _get(document, source, f"copy operation does not apply: doc is missing from path: {source}")
            costs.copied(value)
            return _add(document, path, deepcopy(value), costs)
        case "test":
            return _test(document, path, operation.get("value"))
        case _:
            raise _DoesNotApply(f"Unexpected kind: {kind}")


def _add(document: Any, path: str, value: Any, costs: _Costs) -> Any:
    if not path:
        return value
    parent, key = _parent(document, path, f'add operation does not apply: doc is missing path: "{path}"')
    if isinstance(parent, list):
        index = len(parent) if key == "-" else _index(key, len(parent) + 1, path, "add")
        costs.shifted(len(parent) - index)
        parent.insert(index, value)
    else:
        parent[key] = value
    return document


def _remove(document: Any, path: str, costs: _Costs) -> Any:
    parent, key = _parent(document, path, f'remove operation does not apply: doc is missing path: "{path}"')
    if isinstance(parent, list):
        index = _index(key, len(parent), path, "remove")
        costs.shifted(len(parent) - index)
        del parent[index]
    elif key in parent:
        del parent[key]
    else:
        raise _DoesNotApply(f"error in remove for path: '{path}': Unable to remove nonexistent key: {key}: {_MISSING}")
    return document


def _replace(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, key = _parent(document, path, f"replace operation does not apply: doc is missing path: {path}")
    if isinstance(parent, list):
        parent[_index(key, len(parent), path, "replace")] = value
    elif key in parent:
        parent[key] = value
    else:
        raise _DoesNotApply(f"replace operation does not apply: doc is missing key: {path}: {_MISSING}")
    return document


def _test(document: Any, path: str, value: Any) -> Any:
    try:
        found = _get(document, path, "")
    except _DoesNotApply:
        found = None
    if not equal(found, value):
        raise _DoesNotApply(f"testing value {path} failed: {_FAILED_TEST}")
    return document


def _get(document: Any, path: str, complaint: str) -> Any:
    if not path:
        return document
    parent, key = _parent(document, path, complaint)
    if isinstance(parent, list):
        return parent[_index(key, len(parent), path, "get")]
    if key not in parent:
        raise _DoesNotApply(f"{complaint}: {_MISSING}")
    return parent[key]


def _parent(document: Any, path: str, complaint: str) -> tuple[Any, str]:
    """Returns the list or object that holds the last part of the path, and that part."""
    if not path.startswith("/"):
        raise _DoesNotApply(f"{complaint}: {_MISSING}")
    *parts, last = (part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/"))
    for part in parts:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            raise _DoesNotApply(f"{complaint}: {_MISSING}")
    if not isinstance(document, (dict, list)):
        raise _DoesNotApply(f"{complaint}: {_MISSING}")
    return document, last


def _index(key: str, below: int, path: str, operation: str) -> int:
    """Parses a list index. A negative one counts from the end, as the real server's library allows."""
    try:
        index = int(key)
    except ValueError:
        raise _DoesNotApply(f"error in {operation} for path: '{path}': strconv.Atoi: parsing \"{key}\": invalid syntax") from None
    if not -below <= index < below:
        raise _DoesNotApply(f"error in {operation} for path: '{path}': Unable to access invalid index: {index}: invalid index referenced")
    return index if index >= 0 else index + below


def _value(operation: dict[str, Any]) -> Any:
    return deepcopy(operation.get("value"))


def _from(operation: dict[str, Any], kind: str) -> str:
    source = operation.get("from")
    if not isinstance(source, str):
        raise _DoesNotApply(f"{kind} operation does not apply: missing from")
    return source


def equal(a: Any, b: Any) -> bool:
    """Compares two JSON values. Unlike in Python, true is not equal to 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
