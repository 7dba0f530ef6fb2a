"""The messages of MutatingAdmissionPolicies: `Object{spec: Object.spec{replicas: 3}}` and `JSONPatch{op: "add", path: "/spec/replicas", value: 3}`.

rewrite.py makes maps of them that know their name. Here they are compiled, checked and turned into what they mean: an apply configuration, and a JSON patch.
As in Kubernetes, any field may be named, and a name that does not fit its place (`Object{spec: Object.status{}}`) is an error of the evaluation.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from labctl.clock import rfc3339
from labctl.resources.cel.expressions import CompileError, Environment, EvaluationError, Expression
from labctl.resources.cel.rewrite import MESSAGE
from labctl.resources.cel.tree import Call, Const, Literal, Node

OBJECT, JSON_PATCH = "Object", "JSONPatch"
ROOTS = frozenset({OBJECT, JSON_PATCH})
_OPERATIONS = ("add", "copy", "move", "remove", "replace", "test")
_FIELDS = ("op", "path", "from", "value")


def compile_apply(text: str, variables: Mapping[str, str]) -> Expression:
    """Compiles an expression whose value is an `Object`. Raises CompileError."""
    expression = Environment(variables, ROOTS).compile(text, "")
    if expression.type not in ("dyn", "error") or any(name not in (OBJECT, None) for name in _results(expression.tree)):
        raise CompileError("must evaluate to Object")
    return expression


def compile_patch(text: str, variables: Mapping[str, str]) -> Expression:
    """Compiles an expression whose value is a list of `JSONPatch`. Raises CompileError."""
    expression = Environment(variables, ROOTS).compile(text, "")
    is_list = expression.type.partition("<")[0] in ("list", "dyn", "error") and not any(map(_is_no_list, _branches(expression.tree)))
    if not is_list or any(name not in (JSON_PATCH, None) for each in _lists(expression.tree) for name in _results(each)):
        raise CompileError("must evaluate to list(JSONPatch)")
    return expression


def _branches(node: Node) -> Iterator[Node]:
    """Yields what an expression's value may be, through conditions and the `dyn()` around each message."""
    if isinstance(node, Call) and node.function == "_?_:_":
        for branch in node.arguments[1:]:
            yield from _branches(branch)
    elif isinstance(node, Call) and node.function == "dyn":
        yield from _branches(node.arguments[0])
    else:
        yield node


def _results(node: Node) -> Iterator[str | None]:
    """Yields the name of each message that the value may be: empty for something else that is written out, None if that is not known."""
    for branch in _branches(node):
        if isinstance(branch, Literal) and branch.is_map and _is(branch.parts[:1], MESSAGE):
            yield branch.parts[1].text if isinstance(branch.parts[1], Const) else ""
        else:
            yield "" if isinstance(branch, (Literal, Const)) else None


def _is(parts: tuple[Node, ...], text: str) -> bool:
    return bool(parts) and isinstance(parts[0], Const) and parts[0].text == text


def _is_no_list(node: Node) -> bool:
    return isinstance(node, Const) or (isinstance(node, Literal) and node.is_map)


def _lists(node: Node) -> Iterator[Node]:
    for branch in _branches(node):
        if isinstance(branch, Literal) and not branch.is_map:
            yield from branch.parts


def configuration(value: Any) -> dict[str, Any]:
    """Returns the apply configuration that an expression's value is. Raises EvaluationError."""
    if not isinstance(value, dict) or value.get(MESSAGE) != OBJECT:
        raise EvaluationError("unsupported return type from ApplyConfiguration expression")
    made: dict[str, Any] = _plain(value, OBJECT)
    return made


def patch(value: Any) -> list[dict[str, Any]]:
    """Returns the JSON patch that an expression's value is. Raises EvaluationError."""
    if not isinstance(value, list):
        raise EvaluationError("type mismatch: JSONPatchType.expression should evaluate to array")
    return [_operation(each) for each in value]


def _operation(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get(MESSAGE) != JSON_PATCH:
        raise EvaluationError("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
    for name, said in value.items():
        if name not in (*_FIELDS, MESSAGE):
            raise EvaluationError(f"type mismatch: JSONPatch has no field {name!r}")
        if name != "value" and not isinstance(said, str):
            raise EvaluationError(f"type mismatch: field {name!r} of JSONPatch is a string")
    if value.get("op") not in _OPERATIONS:
        raise EvaluationError(f"unexpected op {value.get('op', '')!r} of JSONPatch, expected one of {', '.join(_OPERATIONS)}")
    operation = {name: value[name] for name in ("op", "path", "from") if name in value}
    if "value" in value:
        said = value["value"]
        operation["value"] = _plain(said, said.get(MESSAGE, "") if isinstance(said, dict) else "")
    return {"path": "", **operation}


def _plain(value: Any, path: str) -> Any:
    """Returns a value as JSON has it, without the names of messages; each name must be the path of the fields that lead to it."""
    if isinstance(value, dict):
        name = value.get(MESSAGE)
        if name is not None and name != path:
            expected = f'expected "{path}", which matches field name path from root Object type'
            raise EvaluationError(f'type mismatch: unexpected type name "{name}", {expected}')
        if any(not isinstance(key, str) for key in value):
            raise EvaluationError("type mismatch: a map's keys must be strings")
        below = {key: f"{path}.{key}" if name is not None else path for key in value}
        return {key: _plain(each, below[key]) for key, each in value.items() if key != MESSAGE or name is None}
    if isinstance(value, list):
        return [_plain(each, path) for each in value]
    if isinstance(value, datetime):
        return rfc3339(value.timestamp())
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise EvaluationError(f"type mismatch: {type(value).__name__} can't be a part of an object")
