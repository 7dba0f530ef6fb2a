"""OpenAPI in JSON: what openapi.py keeps of kinds and definitions, written as v3 and as v2 (Swagger 2.0) have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from labctl.resources.schema.definitions import META, Definition
from labctl.resources.schema.operations import Operation
from labctl.resources.schema.pieces import Piece, separated
from labctl.resources.schema.tree import JUNCTORS, below, changed

_PATCH = META + "Patch"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"


class _Json:
    """What both versions have in common: path items and definitions are entries of two JSON objects."""

    opening: bytes
    """What a document begins with, before `info`."""
    between: bytes
    """What stands between the paths and the definitions."""
    closing: bytes

    def __init__(self, operation: Callable[[Operation], Any], fitted: Callable[[Definition], Definition]) -> None:
        self._operation = operation
        self._fitted = fitted

    def items(self, called: Sequence[Operation]) -> bytes:
        return self.paths(path_items(called, self._operation))

    def paths(self, items: Mapping[str, Any]) -> bytes:
        return _entries(items)

    def fitted(self, definition: Definition) -> Definition:
        return self._fitted(definition)

    def definition(self, name: str, fitted: Definition) -> bytes:
        return _entries({name: fitted})

    def joined(self, written: Sequence[bytes]) -> bytes:
        return b",".join(written)

    def whole(self, info: Mapping[str, str], paths: Sequence[Piece], definitions: Sequence[Piece]) -> Iterator[Piece]:
        yield Piece(self.opening + msgspec.json.encode(info) + b',"paths":{')
        yield from separated(paths)
        yield Piece(self.between)
        yield from separated(definitions)
        yield Piece(self.closing)


class V3(_Json):
    """One of these documents for each group and version."""

    opening, between, closing = b'{"openapi":"3.0.0","info":', b'},"components":{"schemas":{', b"}}}"
    own: Mapping[str, Definition] = {
        _QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
        _INT_OR_STRING: {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        _PATCH: {"type": "object"},
    }

    def __init__(self) -> None:
        super().__init__(_v3_operation, _v3_node)


class V2(_Json):
    """The whole API in one document."""

    opening, between, closing = b'{"swagger":"2.0","info":', b'},"definitions":{', b"}}"
    own: Mapping[str, Definition] = {_QUANTITY: {"type": "string"}, _PATCH: {"type": "object"}}

    def __init__(self) -> None:
        super().__init__(v2_operation, v2_node)


def _entries(content: Mapping[str, Any]) -> bytes:
    """Returns the entries of a JSON object without its braces."""
    return msgspec.json.encode(content)[1:-1]


def path_items(called: Sequence[Operation], written: Callable[[Operation], Any]) -> dict[str, Any]:
    """Returns the path items: each has the parameters of its path and an operation for each method."""
    paths: dict[str, Any] = {}
    for operation in called:
        item = paths.setdefault(operation.path, {})
        item[operation.method] = written(operation)
    return paths


def _common(operation: Operation) -> dict[str, Any]:
    return {
        "operationId": operation.name,
        "tags": [operation.tag],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": operation.group, "kind": operation.kind, "version": operation.version},
    }


def _parameters(operation: Operation) -> Iterator[tuple[str, str, str]]:
    """Yields (name, in, type) of every parameter."""
    for name in ("namespace", "name"):
        if f"{{{name}}}" in operation.path:
            yield name, "path", "string"
    for parameter in operation.parameters:
        name, _, type_ = parameter.partition(":")
        yield name, "query", type_


def _codes(operation: Operation) -> tuple[str, ...]:
    return {"post": ("200", "201", "202"), "put": ("200", "201"), "patch": ("200", "201"), "delete": ("200", "202")}.get(
        operation.method, ("200",)
    )


# ---- v3


def _v3_operation(operation: Operation) -> dict[str, Any]:
    answer = (
        {"application/json": {"schema": _v3_reference(operation.answer)}} if operation.answer else {"*/*": {"schema": {"type": "string"}}}
    )
    written = _common(operation) | {
        "parameters": [
            {"name": name, "in": place, "schema": {"type": type_, "uniqueItems": True}} | ({"required": True} if place == "path" else {})
            for name, place, type_ in _parameters(operation)
        ],
        "responses": {code: {"description": "OK", "content": answer} for code in _codes(operation)},
    }
    if operation.body:
        types = operation.patches if operation.method == "patch" else ("application/json",)
        content = {type_: {"schema": _v3_reference(operation.body)} for type_ in types}
        written["requestBody"] = {"content": content} | ({} if operation.method == "delete" else {"required": True})
    return written


def _v3_reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _v3_node(node: Definition) -> Definition:
    """Converts a schema to v3, in which references have other paths and may have no siblings."""
    if "$ref" not in node:
        return changed(node, _v3_node)
    reference = _v3_reference(node["$ref"].rsplit("/", 1)[-1])
    rules = {key: child for key, child in node.items() if key != "$ref"}
    return {"allOf": [reference], **rules} if rules else reference


# ---- v2


def v2_node(node: Definition) -> Definition:
    """Return a definition as kubectl can check objects by it, which takes every field that is not named for a mistake.

    A kind that keeps unknown fields has none that are named. Below a field that keeps them, or that may be null, there is neither type nor fields, and such a
    field is not required. Alternatives and the like are left out (apiextensions' rules for OpenAPI v2).
    """
    if not _is_beyond(node):
        return node
    if node.get(_KEEPS) is True:
        return {"type": "object", **{key: node[key] for key in node if key == "x-kubernetes-group-version-kind"}}
    return _closed(node)


_KEEPS = "x-kubernetes-preserve-unknown-fields"


def _is_beyond(node: Definition) -> bool:
    """Whether anything in it keeps unknown fields, may be null, or is an alternative or the like."""
    return _KEEPS in node or "nullable" in node or not node.keys().isdisjoint(JUNCTORS) or any(map(_is_beyond, below(node)))


def _closed(node: Definition) -> Definition:
    keeps, nullable = node.get(_KEEPS) is True, node.get("nullable") is True
    hidden = {*JUNCTORS, "properties", "items"} if keeps or nullable else {*JUNCTORS}
    if nullable or (keeps and node.get("type") in ("object", "array")):
        hidden |= {"type", "nullable"}
    closed = changed({key: value for key, value in node.items() if key not in hidden}, _closed)
    if "properties" in closed and "required" in node:
        given = node["properties"]
        closed["required"] = [name for name in node["required"] if given.get(name, {}).get("nullable") is not True]
    return closed


def v2_operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": place, "type": type_, "uniqueItems": True} | ({"required": True} if place == "path" else {})
        for name, place, type_ in _parameters(operation)
    ]
    if operation.body:
        schema = {"$ref": f"#/definitions/{operation.body}"}
        parameters.append({"name": "body", "in": "body", "required": operation.method != "delete", "schema": schema})
    answer = {"schema": {"$ref": f"#/definitions/{operation.answer}"}} if operation.answer else {}
    return _common(operation) | {
        "consumes": list(operation.patches) if operation.method == "patch" else ["*/*"],
        "produces": ["application/json"] if operation.answer else ["*/*"],
        "parameters": parameters,
        "responses": {code: {"description": "OK", **answer} for code in _codes(operation)},
        "schemes": ["https"],
    }
