"""Objects inside of custom objects: what is kept of their metadata, and what is said of their apiVersion, kind and metadata."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.resources.custom.embedded import Malformed, coerced, problems
from labctl.resources.custom.schema import Node, prune
from labctl.resources.custom.structural import problems as schema_problems

WHOLE = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}


def node(**properties: Any) -> Node:
    schema = {"type": "object", "properties": properties}
    assert schema_problems("s", schema) == []
    return Node(schema)


def pod(**more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", **more}


def test_metadata_is_kept_as_every_objects() -> None:
    value = {"t": pod(metadata={"name": "n", "labels": {}, "namespace": "", "creationTimestamp": None, "colour": "red"}, spec={"x": 1})}
    assert coerced(node(t=WHOLE), value) == ["t.metadata.colour"]
    assert value == {"t": pod(metadata={"name": "n"}, spec={"x": 1})}


def test_pruning_leaves_the_head_alone_and_what_is_inside_knows_its_own_schema() -> None:
    known = node(t={"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": WHOLE}})
    inner = pod(metadata={"annotations": {"a": "b"}, "size": 3}, more=1)
    value = {"t": pod(metadata={"name": "n"}, spec=inner, other=2)}
    assert [*prune(known, value), *coerced(known, value)] == ["t.other", "t.spec.metadata.size"]
    assert value == {"t": pod(metadata={"name": "n"}, spec=pod(metadata={"annotations": {"a": "b"}}, more=1))}


MALFORMED = [
    ({"metadata": {"labels": {"a": 1}}}, 't.metadata: Invalid value: {"labels":{"a":1}}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string'),
    ({"metadata": "n"}, 't.metadata: Invalid value: "n": json: cannot unmarshal string into Go value of type v1.ObjectMeta'),
    ({"kind": 5}, "t.kind: Invalid value: 5: must be a string"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "words"), MALFORMED)
def test_a_wrong_type_in_the_head_is_no_such_object(more: dict[str, Any], words: str) -> None:
    with pytest.raises(Malformed) as refused:
        coerced(node(t=WHOLE), {"t": pod(**more)})
    assert str(refused.value) == words


WRONG = [
    (
        pod(apiVersion={"a": 1}, kind=5),
        ['t.apiVersion: Invalid value: {"a":1}: must be a string', "t.kind: Invalid value: 5: must be a string"],
    ),
    ({}, ["t.apiVersion: Required value: must not be empty", "t.kind: Required value: must not be empty"]),
    (pod(apiVersion="a/b/c"), ['t.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c']),
    (pod(metadata={"name": "a/b"}), ["t.metadata.name: Invalid value: \"a/b\": may not contain '/'"]),
    (pod(metadata={"generation": -1}), ["t.metadata.generation: Invalid value: -1: must be greater than or equal to 0"]),
    (
        pod(metadata={"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
        ['t.metadata.ownerReferences.uid: Invalid value: "": must not be empty'],
    ),
    (pod(metadata={"name": "n", "namespace": "m", "labels": {"a": "b"}, "finalizers": ["x/y"]}), []),
]


@pytest.mark.parametrize(("value", "words"), WRONG)
def test_what_is_wrong_with_the_head_is_said(value: dict[str, Any], words: list[str]) -> None:
    assert [f"{error.field}: {error.message}" for error in problems(node(t=WHOLE), {"t": value})] == words


def test_a_kind_may_be_what_a_kind_may_be_called() -> None:
    [error] = problems(node(t=WHOLE), {"t": pod(kind="Pod!")})
    assert error.message.startswith('Invalid value: "Pod!": may have mixed case, but should otherwise match: a DNS-1035 label')


def test_an_entry_of_a_map_is_named_by_its_key() -> None:
    several = node(m={"type": "object", "additionalProperties": {"type": "array", "items": WHOLE}})
    assert [error.field for error in problems(several, {"m": {"k": [pod(kind="")]}})] == ["m[k][0].kind"]


def test_a_default_is_looked_at_too() -> None:
    schema = {"type": "object", "properties": {"t": {**WHOLE, "default": {"kind": "Pod"}}}}
    assert [error.field for error in schema_problems("s", schema)] == ["s.properties[t].default.apiVersion"]
    schema["properties"]["t"]["default"] = pod(metadata="n")  # type: ignore[index]
    assert [error.field for error in schema_problems("s", schema)] == ["s.properties[t].default.metadata"]
