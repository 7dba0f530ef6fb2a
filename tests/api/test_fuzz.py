"""Every decoder of what clients send takes any bytes: it answers a value or refuses in words, within its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.api import negotiate, protobuf, query
from labctl.errors import ApiError
from labctl.resources import documents, quantities, selectors
from labctl.resources.patches import json as json_patch
from labctl.resources.patches import merge, strategic
from labctl.resources.schema.definitions import builtin_schema
from labctl.resources.verbs import read

BUDGET_S = 2.0
POD = builtin_schema().named("io.k8s.api.core.v1.Pod")
PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b": ", b", ", b"- ", b"? ", b"&a ", b"*a", b"<<: ", b"!!int ", b"!!bool ", b"!!set ", b"!!binary ",
        b"\n", b"  ", b'"', b"'", b"|\n", b"1", b"a", b"~", b"%TAG ! x\n", b"---\n", b"null", b"1:1", b".inf", b"\xff", b"\0"]
)  # fmt: skip
TEXT = st.lists(PIECES | st.binary(max_size=4), max_size=40).map(b"".join)
WIRE = st.lists(
    st.sampled_from([b"\x0a", b"\x12", b"\x08", b"\x02v1", b"\x03Pod", b"\xff", b"\x00", b"\x05"]) | st.binary(max_size=4), max_size=30
).map(b"".join)
KEYS = st.sampled_from(
    [
        "spec",
        "containers",
        "name",
        "metadata",
        "labels",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
    ]
)
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["delete", "replace", "merge", "name"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
    max_leaves=12,
)
PATHS = st.lists(
    st.sampled_from(["", "spec", "containers", "0", "-", "-1", "name", "~0", "~1", "99999999999999999999", "\u0664"]), max_size=4
).map("/".join)
OPERATION = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"])},
    optional={"path": PATHS | JSON, "from": PATHS | JSON, "value": JSON},
)


def live() -> dict[str, Any]:
    return {"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}


DECODERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any]]] = {
    "a document": (TEXT, documents.parse),
    "protobuf": (WIRE, lambda raw: protobuf.decode(protobuf.MAGIC + b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12" + bytes([len(raw) & 127]) + raw)),
    "a JSON patch": (st.lists(OPERATION, max_size=6), lambda patch: json_patch.apply(patch, live())),
    "a merge patch": (JSON, lambda patch: merge.apply(patch, live())),
    "a strategic patch": (JSON, lambda patch: strategic.apply(POD, patch, live())),
    "a label selector": (st.text("ab=!(), in<>notexists\u0664/.-", max_size=40), selectors.parse),
    "a field selector": (st.text("ab=!\\\\,metadata.name", max_size=40), selectors.parse_fields),
    "an Accept header": (st.text("application/json;as=Table,q.*\u0664 ", max_size=60), negotiate.accepted),
    "a query": (st.text("limit=&%1aF+;", max_size=40), lambda text: query.list_options(query.parse(text))),
    "a continue token": (st.text(max_size=20) | st.binary(max_size=20).map(lambda raw: raw.hex()), read._token),
    "a quantity": (st.text("0123456789.eE+-kKmMiG", max_size=30), quantities.canonical),
}


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=150)
@given(data=st.data())
def test_any_input_is_taken_or_refused_in_time(name: str, data: st.DataObject) -> None:
    inputs, decode = DECODERS[name]
    said = data.draw(inputs)
    begun = time.process_time()
    try:
        decode(said)
    except (ApiError, ValueError) as refused:
        assert not isinstance(refused, ApiError) or 400 <= refused.code < 500
    assert time.process_time() - begun < BUDGET_S
