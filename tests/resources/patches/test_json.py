"""JSON patch: the RFC's own examples, the library's words, and nothing applied by halves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.patches import json as json_patch


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["a", "b"]}, [{"op": "remove", "path": "/foo/0"}], {"foo": ["b"]}),
        ({"foo": ["a", "b"]}, [{"op": "remove", "path": "/foo/-1"}], {"foo": ["a"]}),
        ({"foo": "bar"}, [{"op": "replace", "path": "/foo", "value": 1}], {"foo": 1}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
        (
            {"a": {"b": [1]}},
            [{"op": "copy", "from": "/a/b", "path": "/c"}, {"op": "add", "path": "/c/-", "value": 2}],
            {"a": {"b": [1]}, "c": [1, 2]},
        ),
        ({"a/b": 1, "m~n": 2}, [{"op": "remove", "path": "/a~1b"}, {"op": "test", "path": "/m~0n", "value": 2}], {"m~n": 2}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
        ({"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}),
        ({"a": 1}, [], {"a": 1}),
    ],
)
def test_what_applies(document: Any, operations: list[Any], result: Any) -> None:
    assert json_patch.apply(operations, document) == result


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "replace", "path": "/x", "value": 1}, "replace operation does not apply: doc is missing key: /x: missing value"),
        ({"op": "replace", "path": "/x/y", "value": 1}, "replace operation does not apply: doc is missing path: /x/y: missing value"),
        ({"op": "add", "path": "/x/y", "value": 1}, 'add operation does not apply: doc is missing path: "/x/y": missing value'),
        ({"op": "remove", "path": "/x"}, "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value"),
        ({"op": "remove", "path": "/l/9"}, "error in remove for path: '/l/9': Unable to access invalid index: 9: invalid index referenced"),
        ({"op": "add", "path": "/l/one", "value": 1}, "error in add for path: '/l/one': strconv.Atoi: parsing \"one\": invalid syntax"),
        ({"op": "move", "from": "/x", "path": "/y"}, "move operation does not apply: doc is missing from path: /x: missing value"),
        ({"op": "copy", "path": "/y"}, "copy operation does not apply: missing from"),
        ({"op": "test", "path": "/a", "value": 2}, "testing value /a failed: test failed"),
        ({"op": "test", "path": "/t", "value": 1}, "testing value /t failed: test failed"),
        ({"op": "drop", "path": "/a"}, "Unexpected kind: drop"),
        ({"op": "add", "value": 1}, "add operation does not apply: missing path"),
        ({"op": "replace", "path": "", "value": 1}, "json: cannot unmarshal number into Go value of type map[string]interface {}"),
    ],
)
def test_what_does_not(operation: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch.apply([operation], {"a": 1, "l": [0], "t": True})
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    assert refused.value.message == "the server rejected our request due to an error in our request"
    assert refused.value.details["causes"][0]["message"] == words


@pytest.mark.parametrize(("patch", "code"), [({}, 400), ("x", 400), ([1], 400), ([{"op": "test", "path": "", "value": {}}] * 10_001, 413)])
def test_what_is_no_patch(patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch.apply(patch, {})
    assert refused.value.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "~/"]), below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b"]), JSON), JSON)
def test_add_then_remove_leaves_what_was_there(document: dict[str, Any], value: Any) -> None:
    before = copy.deepcopy(document)
    there = json_patch.apply([{"op": "add", "path": "/new", "value": value}, {"op": "test", "path": "/new", "value": value}], document)
    assert json_patch.apply([{"op": "remove", "path": "/new"}], there) == before
