"""What a custom kind's schema does to objects, without a server: pruning, defaults, nulls, validation and its words."""

from __future__ import annotations

import time
from typing import Any

import pytest

from labctl.resources.custom.listtypes import repeated
from labctl.resources.custom.schema import Node, drop_nulls, fill, prune
from labctl.resources.custom.structural import problems
from labctl.resources.custom.validate import validate

TEXT: dict[str, Any] = {"type": "string"}
KEEP = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def struct(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def written(schema: dict[str, Any], value: Any) -> Any:
    """The value as it is stored."""
    node = Node(struct(spec=schema))
    whole = {"spec": value}
    prune(node, whole)
    fill(node, whole)
    drop_nulls(node, whole)
    return whole.get("spec")


def told(schema: dict[str, Any], value: Any) -> list[str]:
    assert problems("s", struct(spec=schema)) == []
    node, whole = Node(struct(spec=schema)), {"spec": value}
    return [f"{error.field}: {error.message}" for error in (*validate(node, whole), *repeated(node, whole))]


PRUNED = [
    (struct(a=TEXT), {"a": "x", "b": 1}, {"a": "x"}),
    (struct(a={**KEEP, "properties": {"b": struct(c=TEXT)}}), {"a": {"x": 1, "b": {"c": "d", "y": 2}}}, {"a": {"x": 1, "b": {"c": "d"}}}),
    (struct(a=struct(b=KEEP)), {"a": {"z": 1, "b": {"any": {"thing": [1]}}}}, {"a": {"b": {"any": {"thing": [1]}}}}),
    ({"type": "array", "items": struct(a=TEXT)}, [{"a": "x", "b": 1}, {"c": 1}], [{"a": "x"}, {}]),
    ({"type": "object", "additionalProperties": struct(a=TEXT)}, {"k": {"a": "x", "b": 1}}, {"k": {"a": "x"}}),
    (
        struct(t={"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": struct(a=TEXT)}}),
        {"t": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"a": "x", "b": 1}, "more": 1}},
        {"t": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"a": "x"}}},
    ),
]


@pytest.mark.parametrize(("schema", "value", "kept"), PRUNED)
def test_what_the_schema_does_not_know_is_dropped_at_every_depth(schema: dict[str, Any], value: Any, kept: Any) -> None:
    assert written(schema, value) == kept


def test_an_int_or_string_may_also_name_a_type_which_then_says_nothing() -> None:
    """The definitions of volume snapshots are written so."""
    size = struct(size={"type": "string", "pattern": "^[0-9]+Gi$", "x-kubernetes-int-or-string": True})
    assert told(size, {"size": 5}) == told(size, {"size": "5Gi"}) == []
    [wrong] = told(size, {"size": "five"})
    assert wrong.startswith("spec.size: ")
    assert "integer,string" in " ".join(told(size, {"size": True}))


FILLED = [
    (struct(a={**TEXT, "default": "x"}), {}, {"a": "x"}),
    (struct(a={**TEXT, "default": "x"}), {"a": None}, {"a": "x"}),
    (struct(a={**TEXT, "default": "x", "nullable": True}), {"a": None}, {"a": None}),
    (struct(a=TEXT), {"a": None}, {}),
    (struct(a={**TEXT, "nullable": True}), {"a": None}, {"a": None}),
    ({"type": "object", "additionalProperties": TEXT}, {"k": None, "l": "x"}, {"l": "x"}),
    ({"type": "array", "items": struct(a={"type": "integer", "default": 7})}, [{}, {"a": 1}], [{"a": 7}, {"a": 1}]),
    ({"type": "object", "additionalProperties": struct(a={"type": "integer", "default": 7})}, {"k": {}}, {"k": {"a": 7}}),
    (struct(a={**struct(b={**TEXT, "default": "x"}), "default": {}}), {}, {"a": {"b": "x"}}),
    (struct(a=struct(b={**TEXT, "default": "x"})), {}, {}),
]


@pytest.mark.parametrize(("schema", "value", "filled"), FILLED)
def test_defaults_and_nulls(schema: dict[str, Any], value: Any, filled: Any) -> None:
    assert written(schema, value) == filled


SET = {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}
BY_ID = {
    "type": "array",
    "items": struct(id={**TEXT, "default": "y"}),
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["id"],
}
SAID = [
    ({"x-kubernetes-int-or-string": True, "pattern": "^[0-9]+%$"}, 5, []),
    ({"x-kubernetes-int-or-string": True, "pattern": "^[0-9]+%$"}, "50%", []),
    (
        {"x-kubernetes-int-or-string": True, "pattern": "^[0-9]+%$"},
        "x",
        ["spec: Invalid value: \"x\": spec in body should match '^[0-9]+%$'"],
    ),
    ({**struct(a=TEXT, b=TEXT), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": "x"}, []),
    (
        {**struct(a=TEXT, b=TEXT), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"a": "x", "b": "y"},
        ['<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives'],
    ),
    (
        {**struct(a=TEXT, b=TEXT), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {},
        ['<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)', "spec.a: Required value"],
    ),
    (
        {**struct(a=TEXT, b=struct(c=TEXT)), "oneOf": [{"required": ["a"]}, {"properties": {"b": {"required": ["c"]}}, "required": ["b"]}]},
        {"b": {}},
        ['<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid', "spec.b.c: Required value"],
    ),
    (
        {**TEXT, "allOf": [{"pattern": "a"}, {"pattern": "b"}]},
        "b",
        [
            "spec: Invalid value: \"b\": spec in body should match 'a'",
            '<nil>: Invalid value: "": "spec" must validate all the schemas (allOf)',
        ],
    ),
    (
        {**TEXT, "allOf": [{"pattern": "a"}]},
        "b",
        [
            "spec: Invalid value: \"b\": spec in body should match 'a'",
            '<nil>: Invalid value: "": "spec" must validate all the schemas (allOf). None validated',
        ],
    ),
    (
        {**TEXT, "enum": ["x", "y"]},
        5,
        [
            'spec: Invalid value: "integer": spec in body must be of type string: "integer"',
            'spec: Unsupported value: 5: supported values: "x", "y"',
        ],
    ),
    ({**TEXT, "enum": ["x"], "nullable": True}, None, ['spec: Unsupported value: "null": supported values: "x"']),
    ({**TEXT, "format": "date"}, 5, ['spec: Invalid value: "int64": spec in body must be of type date: "int64"']),
    ({**TEXT, "format": "date"}, [], []),
    ({**TEXT, "format": "unheard-of"}, 5, ['spec: Invalid value: "integer": spec in body must be of type string: "integer"']),
    ({"x-kubernetes-preserve-unknown-fields": True, "enum": [1]}, True, ['spec: Unsupported value: true: supported values: "1"']),
    ({"type": "integer", "enum": [1, 2]}, 3, ['spec: Unsupported value: 3: supported values: "1", "2"']),
    ({**TEXT, "maxLength": 2, "pattern": "^x"}, "abc", ["spec: Too long: may not be more than 2 bytes"]),
    (
        {**struct(a=TEXT), "minProperties": 2, "required": ["b"]},
        {"a": 5},
        ["spec: Invalid value: 1: spec in body should have at least 2 properties"],
    ),
    (
        {"type": "array", "items": TEXT, "minItems": 2},
        [5],
        [
            'spec[0]: Invalid value: "integer": spec[0] in body must be of type string: "integer"',
            "spec: Invalid value: 1: spec in body should have at least 2 items",
        ],
    ),
    ({**TEXT, "not": {"enum": ["x"]}}, "x", ['<nil>: Invalid value: "": "spec" must not validate the schema (not)']),
    ({"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}, ["a", "b", "a", "a"], ['spec[2]: Duplicate value: "a"']),
    ({"type": "object", "additionalProperties": SET}, {"k": ["a", "a"]}, ['spec[k][1]: Duplicate value: "a"']),
    (BY_ID, [{}, {"id": "x"}, {}], ["spec[2]: Duplicate value: {}"]),
    ({"type": "array", "items": TEXT, "x-kubernetes-list-type": "atomic"}, ["a", "a"], []),
    ({"type": "integer", "format": "int32"}, 2**31 - 1, []),
    (
        {"type": "integer", "format": "int32"},
        2**31,
        ['<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec'],
    ),
    (
        {"type": "integer", "format": "int32", "maximum": 4294967295},
        5,
        ['<nil>: Invalid value: "": Maximum boundary value must be of type integer with format int32 in spec'],
    ),
    ({"type": "integer", "format": "int64", "maximum": 4294967295}, 4200000000, []),
    (
        {"type": "number", "format": "float"},
        3.5e38,
        ['<nil>: Invalid value: "": Checked value must be of type number with format float in spec'],
    ),
    ({"type": "number", "format": "float"}, -3.4e38, []),
    ({"type": "number", "format": "double"}, 1e308, []),
    ({"type": "integer"}, 2**63, ['spec: Invalid value: "number": spec in body must be of type integer: "number"']),
]


@pytest.mark.parametrize(("schema", "value", "words"), SAID)
def test_validation_in_a_real_servers_words(schema: dict[str, Any], value: Any, words: list[str]) -> None:
    assert told(schema, value) == words


def test_big_schemas_and_hostile_patterns_take_little_time() -> None:
    begun = time.monotonic()
    wide = struct(**{f"p{number}": {**TEXT, "pattern": "^(a+)+$"} for number in range(10_000)})
    assert problems("s", struct(spec=wide)) == []
    deep: dict[str, Any] = TEXT
    for _ in range(60):
        deep = struct(a=deep)
    assert problems("s", struct(spec=deep)) == []
    assert len(told(struct(a={**TEXT, "pattern": "^(a+)+$"}), {"a": "a" * 100_000 + "b"})) == 1
    assert time.monotonic() - begun < 20


def test_what_no_object_may_cost() -> None:
    """Each of these took minutes, or the whole memory, or was a traceback."""
    many = [f"e{number}" for number in range(50_000)]
    assert told({"type": "array", "items": {**TEXT, "enum": many}}, [many[-1]] * 50_000) == []
    [error] = told({**TEXT, "enum": many}, "x")
    assert len(error) < 2_000
    assert told({**TEXT, "pattern": "(" * 5000 + "a" + ")" * 5000}, "a" * 100_000) == []
    assert told({"type": "number", "multipleOf": 1e-300}, 1e300) == []
    assert told({"type": "number", "multipleOf": 0.1}, 0.3) == []
    assert "should be a multiple of" in told({"type": "number", "multipleOf": 7e300}, 1)[0]
    pieces = [{"pattern": f"^a{number}*b"} for number in range(300)]
    [error] = told({"type": "array", "items": {**TEXT, "not": {"anyOf": pieces}}}, ["a"] * 2_000)
    assert "takes more than 300000 steps" in error
    errors = told({**TEXT, "allOf": [{"pattern": f"b{number}"} for number in range(200)]}, "a" * 2_900_000)
    assert sum(map(len, errors)) < 2_000_000


def test_a_schema_that_is_dear_is_asked_in_a_thread() -> None:
    assert not Node(struct(a=TEXT)).dear
    assert Node(struct(a={**TEXT, "anyOf": [{"pattern": f"{number}"} for number in range(1000)]})).dear
    assert Node({**struct(a=TEXT), "x-kubernetes-validations": [{"rule": f"self.a != '{number}'"} for number in range(1000)]}).dear


def test_rules_of_a_schema_are_bounded_together() -> None:
    rules = [{"rule": f"self.a != 'x{number}'" + " || true" * 100} for number in range(1000)]
    [error] = problems("s", {**struct(a=TEXT), "x-kubernetes-validations": rules})
    assert error.message.startswith("Forbidden: x-kubernetes-validations of a schema may have 200000 characters")
