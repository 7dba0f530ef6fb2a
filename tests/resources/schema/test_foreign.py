"""What another server's OpenAPI v2 document brings into ours, and what it can't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import builtin_schema
from labctl.resources.schema.foreign import Foreign, beside, joined, parsed
from labctl.resources.schema.openapi import Documents

ROOT = "/apis/a.example.com/v1"


def nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"properties": {"x": schema}}
    return schema


def document(definitions: Any, item: Any = None) -> bytes:
    item = item or {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/A"}}}}}
    return json.dumps({"swagger": "2.0", "paths": {ROOT + "/as": item}, "definitions": definitions}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 5000,
        b"{}",
        b"[]",
        b'{"swagger": "3.0"}',
        document({"A": nested(150)}),
        document({"A": nested(101)}),
        document(
            {f"{name}": {"properties": {"x": {"$ref": f"#/definitions/{name + 1}"}}} for name in range(6000)}
            | {"A": {"$ref": "#/definitions/0"}}
        ),
    ],
    ids=["deep", "empty", "list", "v3", "nested", "nested-schema", "many"],
)
def test_nonsense_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="it is no|nested|exceeded|definitions"):
        parsed(raw, "a.example.com", "v1")


@pytest.mark.parametrize(
    "item",
    [
        {"get": 3, "post": {"parameters": {}, "responses": [], "tags": [1], "operationId": 7}},
        {"get": {"parameters": [3, {"in": "body"}, {"in": "query", "type": ["a"]}], "responses": {"200": "OK"}}},
        {
            "parameters": "x",
            "put": {"responses": {"200": {"schema": {"type": ["a"], "items": [], "required": "a", "enum": 3, "$ref": "http://x"}}}},
        },
        [],
    ],
)
def test_whatever_is_no_openapi_is_left_out_and_both_forms_can_still_be_written(item: Any) -> None:
    found = parsed(document({"A": {"type": 3}}, item), "a.example.com", "v1")
    documents = Documents(builtin_schema(), builtin_registry().served("", "v1"))
    whole = json.loads(documents.v2(others=found).body)
    assert ROOT + "/as" in whole["paths"] and "/api/v1/namespaces" in whole["paths"]
    assert ROOT.encode() in documents.v2(protobuf=True, others=found).body
    assert ROOT.encode() not in documents.v2().body


def test_definitions_of_one_name_that_differ_keep_apart() -> None:
    one = parsed(document({"A": {"type": "string", "description": "x"}}), "a.example.com", "v1")
    same = parsed(document({"A": {"type": "string", "description": "y"}}), "a.example.com", "v1")
    other = parsed(
        document({"A": {"properties": {"b": {"$ref": "#/definitions/B"}}}, "B": {"$ref": "#/definitions/A"}}), "a.example.com", "v1"
    )
    whole = joined([one, same, other])
    assert whole.definitions == {
        "A": {"type": "string", "description": "x"},
        "A_v2": {"properties": {"b": {"$ref": "#/definitions/B"}}},
        "B": {"$ref": "#/definitions/A_v2"},
    }
    fitting = beside(Foreign(one.paths, one.definitions), {"A": {"type": "integer"}, "A_v2": {}})
    assert list(fitting.definitions) == ["A_v3"]
    assert fitting.paths[ROOT + "/as"]["get"]["responses"]["200"]["schema"] == {"$ref": "#/definitions/A_v3"}


def test_a_reference_in_a_value_is_a_value() -> None:
    value = {"$ref": "#/definitions/B", "items": {"$ref": "#/definitions/C"}}
    held = {
        "properties": {"default": {"$ref": "#/definitions/C"}, "a": {"default": value, "enum": [value]}},
        "x-example.com/value": value,
    }
    item = {"get": {"responses": {"default": {"schema": {"$ref": "#/definitions/A"}}}, "x-value": value}}
    found = parsed(document({"A": held, "B": {"type": "string"}, "C": {"type": "string"}}, item), "a.example.com", "v1")
    assert sorted(found.definitions) == ["A", "C"], "B is named by values alone"
    fitting = beside(found, {"A": {}, "B": {}, "C": {"type": "integer"}})
    assert fitting.definitions["A_v2"] == held | {"properties": held["properties"] | {"default": {"$ref": "#/definitions/C_v2"}}}
    assert fitting.paths[ROOT + "/as"]["get"]["responses"]["default"]["schema"] == {"$ref": "#/definitions/A_v2"}
    assert fitting.paths[ROOT + "/as"]["get"]["x-value"] == value
