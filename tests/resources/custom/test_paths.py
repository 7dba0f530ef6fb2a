"""Paths in definitions: what a column shows, what can be selected, and which field a rule's error names."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.custom import jsonpaths
from tests.resources.conftest import Lab

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
PLAIN = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."
SPEC = {
    "type": "object",
    "properties": {
        "color": {"type": "string"},
        "part": {"type": "object", "properties": {"n": {"type": "integer"}}},
        "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def definition(spec: dict[str, Any] = SPEC, **version: Any) -> dict[str, Any]:
    metadata = {"type": "object", "properties": {"name": {"type": "string"}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "metadata": metadata}}}
    served = {"name": "v1", "served": True, "storage": True, "schema": schema, **version}
    names = {"plural": "things", "kind": "Thing"}
    spec_ = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [served]}
    return {"metadata": {"name": "things.example.com"}, "spec": spec_}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (".c[-1:].type", ["Ready"]),
        (".c[0:1].type", ["Begun"]),
        (".c[:].type", ["Begun", "Mid", "Ready"]),
        (".c[::2].type", ["Begun", "Ready"]),
        (".c[:-1].type", ["Begun", "Mid"]),
        (".c[9:].type", []),
        (".c[::0].type", []),
        (".none[-1:].type", []),
    ],
)
def test_a_part_of_a_list(path: str, shown: list[str]) -> None:
    """Many definitions show their last condition."""
    found = jsonpaths.parse(path)({"c": [{"type": "Begun"}, {"type": "Mid"}, {"type": "Ready"}]})
    assert found == shown


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([".spec.part"], f'[0].jsonPath: Invalid value: ".spec.part": {PLAIN}'),
        ([".spec.list"], f'[0].jsonPath: Invalid value: ".spec.list": {PLAIN}'),
        ([".spec.none"], '[0].jsonPath: Invalid value: ".spec.none": is an invalid path: does not refer to a valid field'),
        (["spec.color"], '[0].jsonPath: Invalid value: "spec.color": is an invalid path: expected [ or . but got: spec'),
        ([".spec['color']"], "[0].jsonPath: Invalid value: \".spec['color']\": is an invalid path: array notation is not allowed"),
        ([".metadata.name"], '[0].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata'),
        ([".spec.color", ".spec.color"], '[1].jsonPath: Duplicate value: ".spec.color"'),
        ([""], "[0].jsonPath: Required value"),
        ([".spec.part.n", ".spec.map.any", ".spec.color"], ""),
    ],
)
async def test_what_can_be_selected_is_a_plain_field_of_the_schema(lab: Lab, paths: list[str], words: str) -> None:
    made = definition(selectableFields=[{"jsonPath": path} for path in paths])
    if not words:
        await lab.create(CRDS, made)
        return
    with pytest.raises(ApiError) as refused:
        await lab.create(CRDS, made)
    assert str(refused.value.message).partition("spec.versions[0].selectableFields")[2] == words


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (".none", "does not refer to a valid field"),
        (".list[0]", "expected single quoted string but got 0"),
        (".part['n'", "unexpected end of JSON path"),
        ("color", "expected [ or . but got: color"),
        (".part.n", ""),
        ("['part'].n", ""),
        (".map['a.b c']", ""),
    ],
)
async def test_a_rules_field_is_one_of_the_schema(lab: Lab, path: str, why: str) -> None:
    made = definition({**SPEC, "x-kubernetes-validations": [{"rule": "true", "fieldPath": path}]})
    if not why:
        await lab.create(CRDS, made)
        return
    with pytest.raises(ApiError) as refused:
        await lab.create(CRDS, made)
    said = str(refused.value.message).partition("x-kubernetes-validations[0].")[2]
    assert said == f'fieldPath: Invalid value: "{path}": fieldPath must be a valid path: {why}'
