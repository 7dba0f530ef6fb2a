"""This module encodes the OpenAPI v2 document as protobuf (gnostic's messages, package openapi.v2), the only form in which kubectl reads v2.

The api room sends it where a client's Accept says so: `kubectl explain --output=plaintext-openapiv2`, the server-side dry run of kubectl before 1.27,
and any kubectl that asks v2 about a kind that v3 does not have. The field numbers are those of gnostic's OpenAPIv2.proto. It knows only the fields
that labctl's own document uses; tests/api/test_openapi_protobuf.py decodes the result and compares it with the JSON document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from labctl.resources.schema.definitions import Definition
from labctl.resources.schema.openapi_json import V2, path_items, v2_node, v2_operation
from labctl.resources.schema.operations import Operation
from labctl.resources.schema.pieces import Piece

Node = dict[str, Any]

_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
# the field numbers of (required, in, name, type, uniqueItems) in a path parameter and in a query parameter
_PATH_PARAMETER, _QUERY_PARAMETER = (1, 2, 4, 5, 19), (1, 2, 4, 6, 20)


class V2Protobuf:
    """The whole API as one openapi.v2.Document. Path items and definitions are repeated fields of two messages in it."""

    own: Mapping[str, Definition] = V2.own

    def items(self, called: Sequence[Operation]) -> bytes:
        return self.paths(path_items(called, v2_operation))

    def paths(self, items: Mapping[str, Any]) -> bytes:
        return b"".join(_bytes(2, _named(path, _path_item(item))) for path, item in items.items())

    def fitted(self, definition: Definition) -> Definition:
        return v2_node(definition)

    def definition(self, name: str, fitted: Definition) -> bytes:
        return _bytes(1, _named(name, _schema(fitted)))

    def joined(self, written: Sequence[bytes]) -> bytes:
        return b"".join(written)

    def whole(self, info: Mapping[str, str], paths: Sequence[Piece], definitions: Sequence[Piece]) -> Iterator[Piece]:
        yield Piece(_text(1, "2.0") + _bytes(2, _text(1, info["title"]) + _text(2, info["version"])) + _head(8, paths))
        yield from paths
        yield Piece(_head(9, definitions))
        yield from definitions


def _head(number: int, pieces: Sequence[Piece]) -> bytes:
    """Returns what stands before the bytes of a message that these pieces make up."""
    return _varint(number << 3 | 2) + _varint(sum(len(piece.raw) for piece in pieces))


def _path_item(item: Node) -> bytes:
    return b"".join(_bytes(_METHODS[method], _operation(operation)) for method, operation in item.items() if method in _METHODS)


def _operation(operation: Node) -> bytes:
    answers = b"".join(_bytes(1, _named(code, _bytes(1, _response(said)))) for code, said in operation["responses"].items())
    return b"".join(
        (
            *(_text(1, tag) for tag in operation["tags"]),
            _text(5, operation["operationId"]),
            *(_text(6, type_) for type_ in operation["produces"]),
            *(_text(7, type_) for type_ in operation["consumes"]),
            *(_bytes(8, _bytes(1, _parameter(parameter))) for parameter in operation["parameters"]),
            _bytes(9, answers),
            *(_text(10, scheme) for scheme in operation["schemes"]),
            _extensions(13, operation),
        )
    )


def _response(response: Node) -> bytes:
    schema = _bytes(2, _bytes(1, _schema(response["schema"]))) if "schema" in response else b""
    return _text(1, response["description"]) + schema


def _parameter(parameter: Node) -> bytes:
    if parameter["in"] == "body":
        known = _text(2, parameter["name"]) + _text(3, "body") + _flag(4, parameter.get("required"))
        return _bytes(1, known + _bytes(5, _schema(parameter["schema"])))
    in_path = parameter["in"] == "path"
    required, place, name, type_, unique = _PATH_PARAMETER if in_path else _QUERY_PARAMETER
    known = _flag(required, parameter.get("required")) + _text(place, parameter["in"]) + _text(name, parameter["name"])
    known += _text(type_, parameter["type"]) + _flag(unique, parameter.get("uniqueItems"))
    return _bytes(2, _bytes(4 if in_path else 3, known))


def _schema(node: Node) -> bytes:
    parts = [_text(number, node[key]) for key, number in _SCHEMA_TEXTS.items() if key in node]
    if "default" in node:
        parts.append(_bytes(5, _any(node["default"])))
    parts += [_text(19, name) for name in node.get("required", ())]
    parts += [_bytes(20, _any(value)) for value in node.get("enum", ())]
    more = node.get("additionalProperties")
    if more is not None:
        parts.append(_bytes(21, _flag(2, more) if isinstance(more, bool) else _bytes(1, _schema(more))))
    if "type" in node:
        parts.append(_bytes(22, _text(1, node["type"])))
    if "items" in node:
        parts.append(_bytes(23, _bytes(1, _schema(node["items"]))))
    parts += [_bytes(24, _schema(each)) for each in node.get("allOf", ())]
    if "properties" in node:
        parts.append(_bytes(25, b"".join(_bytes(1, _named(name, _schema(child))) for name, child in node["properties"].items())))
    return b"".join(parts) + _extensions(31, node)


def _extensions(number: int, node: Node) -> bytes:
    """Encodes the fields whose names begin with `x-` as gnostic does, in YAML (JSON is valid YAML)."""
    extensions: Iterable[tuple[str, Any]] = ((key, value) for key, value in node.items() if key.startswith("x-"))
    return b"".join(_bytes(number, _named(key, _any(value))) for key, value in extensions)


def _any(value: Any) -> bytes:
    return _bytes(2, msgspec.json.encode(value) + b"\n")


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _bytes(2, value)


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _flag(number: int, value: bool | None) -> bytes:
    return _varint(number << 3) + b"\1" if value else b""


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
