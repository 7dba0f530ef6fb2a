"""What is said of schemas that are wrong, in a real server's words and order. What is right was asked of Kubernetes' own validators."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.custom.structural import problems

TEXT: dict[str, Any] = {"type": "string"}
NUMBER = {"type": "integer"}
EITHER = [{"type": "integer"}, {"type": "string"}]
ITEM = {"type": "object", "properties": {"id": TEXT}, "required": ["id"]}
WHOLE = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}


def struct(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def items(of: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": of, **more}


def by(*keys: str) -> dict[str, Any]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def told(schema: dict[str, Any], *, has_status: bool = False) -> list[str]:
    return [f"{error.field.removeprefix('s.')}: {error.message}" for error in problems("s", schema, has_status=has_status)]


RIGHT = [
    struct(a={"x-kubernetes-int-or-string": True, "anyOf": EITHER}),
    struct(a={"x-kubernetes-int-or-string": True, "allOf": [{"anyOf": EITHER}, {"pattern": "^a"}]}),
    struct(a={"x-kubernetes-preserve-unknown-fields": True, "anyOf": EITHER}),
    struct(a={"type": "object", "additionalProperties": False}, b={**struct(c=TEXT), "additionalProperties": True}),
    struct(a={**TEXT, "minLength": -1}, metadata={"type": "object", "properties": {"name": {**TEXT, "maxLength": 9}}}),
    struct(a=items(ITEM, **by("id")), b=items({**struct(c=TEXT), "x-kubernetes-map-type": "atomic"}, **{"x-kubernetes-list-type": "set"})),
    {"x-kubernetes-preserve-unknown-fields": True, "type": "object"},
]


@pytest.mark.parametrize("schema", RIGHT)
def test_what_a_real_server_takes_is_taken(schema: dict[str, Any]) -> None:
    assert told(schema) == []


WRONG = [
    (
        struct(a={"x-kubernetes-int-or-string": True, "anyOf": EITHER[::-1]}),
        [
            "properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
            "properties[a].anyOf[1].type: Forbidden: must be empty to be structural",
        ],
    ),
    (
        struct(metadata={"type": "object", "description": "said already"}),
        [
            "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
        ],
    ),
    (
        struct(metadata={"type": "object", "default": {}}),
        ["properties[metadata].default: Forbidden: must not be set in top-level metadata"],
    ),
    (
        {**struct(a=struct(b=TEXT)), "oneOf": [{"properties": {"a": {"required": ["b"], "nullable": True, "properties": {"c": {}}}}}]},
        [
            "oneOf[0].properties[a].nullable: Forbidden: must be false to be structural",
            "properties[a].properties[c]: Required value: because it is defined in s.oneOf[0].properties[a].properties[c]",
        ],
    ),
    (
        {**struct(a=TEXT), "not": {"properties": {"metadata": {}}}},
        [
            "not.properties[metadata]: Forbidden: must not be specified in a nested context",
            "properties[metadata]: Required value: because it is defined in s.not.properties[metadata]",
        ],
    ),
    ({"type": "object", "additionalProperties": TEXT}, ["additionalProperties: Forbidden: must not be used at the root"]),
    (
        struct(a={**struct(b=TEXT), "additionalProperties": TEXT}),
        ["properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
    ),
    (
        struct(a=items(struct(b=TEXT), **{"x-kubernetes-list-type": "set"})),
        [
            'properties[a].items.x-kubernetes-map-type: Invalid value: "null": must be atomic as item of a list with x-kubernetes-list-type=set'
        ],
    ),
    (
        struct(a=items({**TEXT, "nullable": True}, **{"x-kubernetes-list-type": "set"})),
        ["properties[a].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set"],
    ),
    (
        struct(a=items(struct(id=TEXT), **by("id"))),
        [
            "properties[a].items.properties[id].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
        ],
    ),
    (
        struct(a=items(ITEM, **by("id", "id"))),
        ['properties[a].x-kubernetes-list-map-keys: Invalid value: ["id","id"]: must not contain duplicate entries'],
    ),
    (
        struct(a=items(ITEM, **{"x-kubernetes-list-map-keys": ["id"]})),
        ["properties[a].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty"],
    ),
    (
        struct(a={"x-kubernetes-list-type": "set", "x-kubernetes-preserve-unknown-fields": True}),
        ["properties[a].type: Required value: must be array if x-kubernetes-list-type is specified"],
    ),
    (
        struct(a={**WHOLE, "properties": {"kind": NUMBER}}),
        ['properties[a].properties[kind].type: Invalid value: "integer": must be string'],
    ),
    (
        struct(a={"x-kubernetes-int-or-string": True, "x-kubernetes-preserve-unknown-fields": True}),
        ["properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"],
    ),
    (struct(a={"$ref": "elsewhere"}), ["properties[a].$ref: Forbidden: $ref is not supported"]),
    (
        {**struct(a=TEXT), "$schema": "http://json-schema.org/schema#"},
        ["s: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"],
    ),
    (struct(a={**TEXT, "default": 5}), ['properties[a].default: Invalid value: "integer":  in body must be of type string: "integer"']),
    (
        struct(a={**struct(b=TEXT), "default": {"b": 5}}),
        ['properties[a].default.b: Invalid value: "integer": b in body must be of type string: "integer"'],
    ),
    (struct(a={**struct(b=TEXT), "default": {"c": 5}}), ['properties[a].default: Invalid value: {"c":5}: must not have unknown fields']),
    (
        {**struct(a=TEXT), "default": {}},
        ["default.apiVersion: Required value: must not be empty", "default.kind: Required value: must not be empty"],
    ),
]


@pytest.mark.parametrize(("schema", "words"), WRONG)
def test_what_a_real_server_refuses_is_refused_in_its_words(schema: dict[str, Any], words: list[str]) -> None:
    assert told(schema) == words


def test_nothing_at_the_root_speaks_of_a_status_that_has_a_schema_of_its_own() -> None:
    schema = {**struct(spec=TEXT), "oneOf": [{"required": ["spec"]}]}
    assert told(schema) == []
    [said] = told(schema, has_status=True)
    assert said.startswith("s: Invalid value: {") and said.endswith(
        "XValidations] fields are allowed at the root of the schema if the status subresource is enabled"
    )


def test_nothing_is_not_nothing() -> None:
    [said] = told(struct(a={**TEXT, "not": {}, "default": "x"}))
    assert said.endswith('"" must not validate the schema (not)')


RULES = [
    (
        {"rule": "self.all(x, x != oldSelf[0])", "message": "m"},
        "",
        'rule: Invalid value: "self.all(x, x != oldSelf[0])": oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[outer]',
    ),
    (
        {"rule": "oldSelf.hasValue()", "optionalOldSelf": True},
        "",
        'rule: Invalid value: "oldSelf.hasValue()": oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[outer]',
    ),
    (
        {"rule": "self.size() > 0", "optionalOldSelf": True},
        "granular",
        "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
    ),
    (
        {"rule": "self.size() > 0", "optionalOldSelf": False},
        "granular",
        "optionalOldSelf: Invalid value: false: may not be set if oldSelf is not used in rule",
    ),
    (
        {"rule": "self.size() > 0 &&\ntrue", "messageExpression": "'m'"},
        "granular",
        "message: Required value: message must be specified if rule contains line breaks",
    ),
    (
        {"rule": "self.size() > 0", "messageExpression": " "},
        "granular",
        "messageExpression: Required value: messageExpression must be non-empty if specified",
    ),
]


@pytest.mark.parametrize(("rule", "map_type", "words"), RULES)
def test_what_is_wrong_with_a_rule(rule: dict[str, Any], map_type: str, words: str) -> None:
    """Inside of an atomic map nothing of the old value is known."""
    inner = items(TEXT, maxItems=5, **{"x-kubernetes-validations": [rule]})
    outer = {**struct(inner=inner), "x-kubernetes-map-type": map_type or "atomic"}
    [said] = told(struct(outer=outer))
    assert said == f"properties[outer].properties[inner].x-kubernetes-validations[0].{words}"


def test_rules_that_are_too_dear_together_are_named() -> None:
    ruled = {"x-kubernetes-validations": [{"rule": "self.contains('which is longer than thirty characters')"}]}
    texts = {f"t{number}": {**TEXT, **ruled} for number in range(90)}
    *dearest, total = told(struct(**texts))
    assert len(dearest) == 4 and all(
        "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema" in each for each in dearest
    )
    assert total.startswith(
        "s: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of 1."
    )
