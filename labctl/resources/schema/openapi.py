"""This module generates OpenAPI v3 (one document for each group and version) and v2 from the schema and the kinds that are served.

The api room serves them under /openapi; kubectl reads them for `explain`, `edit`, and to learn that the server validates fields itself
(`fieldValidation` on PATCH). Each document is made when it is first requested, then kept as bytes with its hash. When the kinds change, new Documents are
made from the old ones: a v3 document whose kinds are the same is reused, so one more custom kind costs one small document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from labctl.resources.kind import Kind
from labctl.resources.schema.definitions import META, Definition, Schema
from labctl.resources.schema.operations import Operation, operations
from labctl.resources.schema.prose import told

_PATCH = META + "Patch"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

# Definitions that have another form in OpenAPI than in schema.json.
_V2_OWN: dict[str, Definition] = {_QUANTITY: {"type": "string"}, _PATCH: {"type": "object"}}
_V3_OWN: dict[str, Definition] = {
    _QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
    _INT_OR_STRING: {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    _PATCH: {"type": "object"},
}


class Document(NamedTuple):
    """A JSON document and the hash that names this version of it (its ETag, without quotes)."""

    body: bytes
    hash: str


class Paths(NamedTuple):
    """What is written of one kind: its path items, and the definitions that they name."""

    items: dict[str, msgspec.Raw]
    names: tuple[str, ...]


class Node(NamedTuple):
    """What is written of one definition, and the definitions that it names."""

    definition: Any
    raw: msgspec.Raw
    names: tuple[str, ...]


class Documents:
    """All OpenAPI documents of one set of kinds. It keeps the definitions of the moment when it was made, so threads may use it."""

    def __init__(self, schema: Schema, kinds: Iterable[Kind], version: str = "v1.37.0", before: Documents | None = None) -> None:
        self._schema = schema.frozen()
        self._kinds = sorted(kinds, key=lambda kind: (kind.group, kind.version, kind.kind))
        self._by_path: dict[str, list[Kind]] = {}
        for kind in self._kinds:
            self._by_path.setdefault(_path(kind), []).append(kind)
        self._info = {"title": "Kubernetes", "version": version}
        self._made: dict[str, Document] = {}
        self._written: dict[Kind, Paths] = {}
        self._nodes: dict[str, Node] = {}
        if before is not None:
            self._take_over(before)

    def _take_over(self, before: Documents) -> None:
        """Takes what is as it was: whole documents, and of the others what was written of kinds and definitions that are still the same."""
        made, written, nodes = tuple(before._made.items()), dict(before._written), dict(before._nodes)
        self._made = {path: document for path, document in made if before._by_path.get(path, 0) == self._by_path.get(path)}
        self._written = {kind: written[kind] for kind in self._kinds if kind in written}
        definitions = self._schema.definitions
        self._nodes = {name: node for name, node in nodes.items() if definitions.get(name) is node.definition}

    def paths(self) -> list[str]:
        """Returns the paths of the v3 documents: `api/v1`, `apis/discovery.k8s.io/v1`, ..."""
        return list(self._by_path)

    def index(self) -> Document:
        """Returns the answer of `/openapi/v3`: the URL of each document with its hash, so that clients can cache it."""
        if "index" not in self._made:
            urls = {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._v3(path).hash}"} for path in self.paths()}
            self._made["index"] = _document({"paths": urls})
        return self._made["index"]

    def v3(self, path: str) -> Document | None:
        """Returns the document of one group and version, by its path in the index; None if there is none."""
        return self._v3(path) if path in self._by_path else None

    def v2(self) -> Document:
        """Returns the whole API in one Swagger 2.0 document."""
        if "v2" not in self._made:
            called = [operation for kind in self._kinds for operation in operations(self._schema, kind)]
            definitions = self._definitions(called, _V2_OWN)
            document = {"swagger": "2.0", "info": self._info, "paths": _paths(called, _v2_operation), "definitions": definitions}
            self._made["v2"] = _document(document)
        return self._made["v2"]

    def _v3(self, path: str) -> Document:
        """Returns a group's document. Where 200 kinds share a group and one of them changes, only that one is written anew."""
        if path not in self._made:
            paths: dict[str, msgspec.Raw] = {}
            waiting: list[str] = []
            for kind in self._by_path[path]:
                written = self._paths_of(kind)
                paths |= written.items
                waiting += written.names
            schemas: dict[str, msgspec.Raw] = {}
            while waiting:
                name = waiting.pop()
                if name not in schemas:
                    node = self._node(name)
                    schemas[name] = node.raw
                    waiting += node.names
            ordered = dict(sorted(schemas.items()))
            self._made[path] = _document({"openapi": "3.0.0", "info": self._info, "paths": paths, "components": {"schemas": ordered}})
        return self._made[path]

    def _paths_of(self, kind: Kind) -> Paths:
        found = self._written.get(kind)
        if found is None:
            called = list(operations(self._schema, kind))
            items = {path: msgspec.Raw(msgspec.json.encode(item)) for path, item in _paths(called, _v3_operation).items()}
            names = tuple(name for operation in called for name in (operation.body, operation.answer) if name)
            found = self._written[kind] = Paths(items, names)
        return found

    def _node(self, name: str) -> Node:
        found = self._nodes.get(name)
        if found is None:
            definition = _V3_OWN.get(name) or self._schema.definitions[name]
            raw = msgspec.Raw(msgspec.json.encode(_v3_node(told(name, definition))))
            found = self._nodes[name] = Node(definition, raw, tuple(_references(definition)))
        return found

    def _definitions(self, called: list[Operation], own: dict[str, Definition]) -> dict[str, Definition]:
        """Returns the definitions that these operations use, directly or through others."""
        reached: dict[str, Definition] = {}
        waiting = [name for operation in called for name in (operation.body, operation.answer) if name]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached[name] = _v2_node(told(name, own.get(name) or self._schema.definitions[name]))
                waiting.extend(_references(reached[name]))
        return dict(sorted(reached.items()))


def _path(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _document(content: Any) -> Document:
    body = msgspec.json.encode(content)
    return Document(body, hashlib.sha256(body).hexdigest().upper())


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[-1]
        for child in node.values():
            yield from _references(child)


def _paths(called: list[Operation], written: Any) -> dict[str, Any]:
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


def _v3_node(node: Any) -> Any:
    """Converts a schema to v3, in which references have other paths and may have no siblings."""
    if isinstance(node, list):
        return [_v3_node(child) for child in node]
    if not isinstance(node, dict):
        return node
    if not isinstance(node.get("$ref"), str):
        return {key: _v3_node(child) for key, child in node.items()}
    reference = _v3_reference(node["$ref"].rsplit("/", 1)[-1])
    rules = {key: child for key, child in node.items() if key != "$ref"}
    return {"allOf": [reference], **rules} if rules else reference


# ---- v2


def _v2_node(node: Any) -> Any:
    """Leaves out the known fields below a field that keeps unknown ones: kubectl, which checks objects by this document, takes all others for mistakes."""
    return _closed(node, top=True) if isinstance(node, dict) and _keeps_unknown(node) else node


def _keeps_unknown(node: Any) -> bool:
    if isinstance(node, list):
        return any(_keeps_unknown(child) for child in node)
    if not isinstance(node, dict):
        return False
    return node.get("x-kubernetes-preserve-unknown-fields") is True or any(_keeps_unknown(child) for child in node.values())


def _closed(node: Any, *, top: bool = False) -> Any:
    if isinstance(node, list):
        return [_closed(child) for child in node]
    if not isinstance(node, dict):
        return node
    hidden = ("properties", "items") if node.get("x-kubernetes-preserve-unknown-fields") is True and not top else ()
    return {key: _closed(child) for key, child in node.items() if key not in hidden}


def _v2_operation(operation: Operation) -> dict[str, Any]:
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
