"""Strategic merge patch: known cases, its errors, and a naive oracle for merging lists."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.kind import Object
from labctl.resources.patches import strategic
from labctl.resources.schema.definitions import builtin_schema

SCHEMA = builtin_schema()
POD = SCHEMA.type_of("", "v1", "Pod")


def patched(live: Object, patch: Object) -> Object:
    return strategic.apply(POD, patch, copy.deepcopy(live))


def containers(*items: Object) -> Object:
    return {"spec": {"containers": list(items)}}


A, B, C = ({"name": name, "image": name} for name in "abc")


@pytest.mark.parametrize(
    ("live", "patch", "result"),
    [
        # fields
        ({"spec": {"hostname": "a"}}, {"spec": {"hostname": "b", "nodeName": "n"}}, {"spec": {"hostname": "b", "nodeName": "n"}}),
        ({"spec": {"hostname": "a"}}, {"spec": {"hostname": None, "nodeName": None}}, {"spec": {}}),
        ({}, {"metadata": {"labels": {"a": "b", "c": None}}}, {"metadata": {"labels": {"a": "b"}}}),
        ({"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {"c": "d"}}}, {"metadata": {"labels": {"a": "b", "c": "d"}}}),
        # lists that replace
        (containers({"name": "a", "args": ["x", "y"]}), containers({"name": "a", "args": ["z"]}), containers({"name": "a", "args": ["z"]})),
        # lists that merge by key
        (containers(A, B), containers({"name": "b", "image": "new"}), containers(A, {"name": "b", "image": "new"})),
        (containers(A, B), containers({"name": "b", "image": None}), containers(A, {"name": "b"})),
        (containers(A, B), containers({"name": "a", "$patch": "delete"}), containers(B)),
        (containers(A, B), containers(C, {"$patch": "replace"}), containers(C)),
        (containers(A, B), containers({"$patch": "replace"}), containers()),
        (containers(A), containers(B), containers(B, A)),
        ({}, containers({"name": "a", "$patch": "delete"}, B), containers(B)),
        # order
        (containers(A, B), {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}, containers(B, A)),
        (containers(A, B), {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "c"}, {"name": "b"}], "containers": [C]}}, containers(A, C, B)),
        (containers(A, B, C), {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}]}}, containers(A, C, B)),
        ({}, {"spec": {"$setElementOrder/containers": [{"name": "b"}]}}, {"spec": {}}),
        # sets of scalars
        ({"metadata": {"finalizers": ["a"]}}, {"metadata": {"finalizers": ["b", "a"]}}, {"metadata": {"finalizers": ["b", "a"]}}),
        ({"metadata": {"finalizers": ["a", "b"]}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}, {"metadata": {"finalizers": ["b"]}}),
        ({"metadata": {}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, {"metadata": {}}),
        # maps as a whole
        ({"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {"$patch": "replace", "c": "d"}}}, {"metadata": {"labels": {"c": "d"}}}),
        ({"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {"$patch": "delete"}}}, {"metadata": {"labels": {}}}),
        # unions: the other volume source goes
        (
            {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
            {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]}]}},
            {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}},
        ),
        ({"spec": {"a": 1}}, {"spec": {"$retainKeys": ["b"], "b": 2, "a": None}}, {"spec": {"b": 2}}),
    ],
)  # fmt: skip
def test_known_cases(live: Object, patch: Object, result: Object) -> None:
    assert patched(live, copy.deepcopy(patch)) == result


@pytest.mark.parametrize(
    ("patch", "code", "words"),
    [
        (containers({"image": "x"}), 400, "map: map[image:x] does not contain declared merge key: name"),
        (containers({"name": "a", "$patch": "merge"}), 400, "merging lists cannot yet be specified in the patch"),
        (containers({"name": "a", "$patch": "oops"}), 400, "unknown patch type: oops in map: map[$patch:oops name:a]"),
        (containers("x"), 400, "list element types are not identical: [{'name': 'a', 'image': 'a'}, 'x']"),  # type: ignore[arg-type]
        ({"spec": {"$retainKeys": ["x"], "hostname": "a"}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$retainKeys": 1}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder/containers": {}}}, 400, "invalid patch format of setElementOrder list"),
        ({"spec": {"$setElementOrder/containers": [None]}}, 400, "expected a map with the merge key name, not null"),
        ({"spec": {"$setElementOrder/containers": ["a"], "containers": [{"name": "a"}]}}, 400, "expected a map with the merge key name, not string"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}, 400, "invalid patch format of primitive list"),
        ([], 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
    ],
)  # fmt: skip
def test_errors(patch: Any, code: int, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        patched({**containers(A), "metadata": {}}, patch)
    assert (refused.value.code, refused.value.message) == (code, words)


def test_the_patchs_order_must_agree_with_the_order_it_sets() -> None:
    with pytest.raises(ApiError, match="doesn't match \\$setElementOrder list"):
        patched({"spec": {}}, {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [B, A]}})


NAMES = st.lists(st.sampled_from("abcde"), unique=True, max_size=4)


@given(NAMES, NAMES, st.sets(st.sampled_from("abcde")))
def test_a_merging_list_agrees_with_dicts(live: list[str], patch: list[str], gone: set[str]) -> None:
    """The oracle: lists of named items are dicts; the patch's items are updates, or deletions."""
    change = [{"name": name, "$patch": "delete"} if name in gone else {"name": name, "tty": True} for name in patch]
    result = patched(containers(*({"name": name, "image": "x"} for name in live)), containers(*change))["spec"]["containers"]
    wanted: dict[str, Object] = {name: {"name": name, "image": "x"} for name in live}
    for name in patch:
        if name in gone:
            wanted.pop(name, None)
        else:
            wanted[name] = {**wanted.get(name, {"name": name}), "tty": True}
    assert {item["name"]: item for item in result} == wanted
    assert len(result) == len(wanted)
    named = [item["name"] for item in result]
    assert [name for name in named if name in patch] == [name for name in patch if name in wanted], "the patch's order"
    assert [name for name in named if name not in patch] == [name for name in live if name in wanted and name not in patch], (
        "then the old one"
    )


@given(NAMES, NAMES, st.permutations("abcde"))
def test_the_order_is_as_set(live: list[str], patch: list[str], order: list[str]) -> None:
    patch.sort(key=order.index)
    directive = {"$setElementOrder/containers": [{"name": name} for name in order]}
    result = patched(containers(*({"name": n} for n in live)), {"spec": {**directive, "containers": [{"name": n} for n in patch]}})
    named = [item["name"] for item in result["spec"]["containers"]]
    assert named == sorted(set(live) | set(patch), key=order.index)


FIELDS = st.dictionaries(st.sampled_from(["hostname", "nodeName", "subdomain"]), st.sampled_from(["x", "y"]) | st.none())


@given(FIELDS, FIELDS)
def test_without_lists_it_is_a_merge_patch(live: Object, patch: Object) -> None:
    live = {key: value for key, value in live.items() if value is not None}
    wanted = {key: value for key, value in {**live, **patch}.items() if value is not None}
    assert patched({"spec": live}, {"spec": patch}) == {"spec": wanted}
