"""Merge patch: the RFC's table, and a round trip: the difference of two objects makes one of the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.patches import merge


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"a": "foo"}, {"a": {"b": 1, "c": None}}, {"a": {"b": 1}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_rfcs_table(original: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]) -> None:
    assert merge.apply(patch, original) == result


@pytest.mark.parametrize(("patch", "found"), [([], "array"), ("x", "string"), (1, "number"), (None, "null"), (True, "bool")])
def test_a_patch_is_an_object(patch: Any, found: str) -> None:
    with pytest.raises(ApiError) as refused:
        merge.apply(patch, {})
    assert refused.value.message == f"error decoding patch: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"


JSON = st.recursive(
    st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=10,
)
OBJECT = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(OBJECT, OBJECT)
def test_the_difference_makes_one_of_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = merge.diff(old, new)
    made = merge.apply(patch, copy.deepcopy(old))
    assert repr(_sorted(made)) == repr(_sorted(new)), "as JSON, where true is not 1"
    assert merge.diff(new, made) == {}
    assert merge.apply(patch, copy.deepcopy(made)) == made, "twice is once"


def _sorted(value: Any) -> Any:
    return sorted((key, _sorted(child)) for key, child in value.items()) if isinstance(value, dict) else value
