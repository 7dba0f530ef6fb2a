"""The small modules below the verbs: ages, encoding, documents, names, the registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources import documents, encoding, kinds, names
from labctl.resources.cells import duration, since
from labctl.resources.kind import Kind, Viewed
from labctl.resources.registry import Registry, builtin_registry
from labctl.store.interface import Entry

DURATIONS = [
    (-5, "<invalid>"),
    (-1, "0s"),
    (0, "0s"),
    (119, "119s"),
    (120, "2m"),
    (125, "2m5s"),
    (600, "10m"),
    (3 * 3600 - 1, "179m"),
    (3 * 3600 + 60, "3h1m"),
    (8 * 3600, "8h"),
    (47 * 3600, "47h"),
    (50 * 3600, "2d2h"),
    (8 * 86400, "8d"),
    (700 * 86400, "700d"),
    (800 * 86400, "2y70d"),
    (9 * 365 * 86400, "9y"),
]


@pytest.mark.parametrize(("seconds", "said"), DURATIONS)
def test_ages(seconds: int, said: str) -> None:
    assert duration(seconds) == said


def test_no_age() -> None:
    assert since(None, 0) == since("", 0) == "<unknown>"


TEXT = st.text(max_size=30) | st.sampled_from(['"resourceVersion":""', '"resourceVersion":"7"', '{"metadata":{"resourceVersion":""}}'])


@given(labels=st.dictionaries(TEXT, TEXT, max_size=4), data=st.dictionaries(TEXT, TEXT, max_size=4), revision=st.integers(1, 2**60))
def test_a_revision_is_stamped_in_the_right_place(labels: dict[str, str], data: dict[str, str], revision: int) -> None:
    metadata = {"annotations": labels, "labels": labels, "generateName": "a-", "name": "a-b", "resourceVersion": "3", "uid": "u"}
    obj = {"data": data, "metadata": metadata, "apiVersion": "v1", "kind": "ConfigMap", "resourceVersion": ""}
    value = encoding.stored(obj)
    assert value.startswith(b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a-b"')
    assert "resourceVersion" not in json.loads(value)["metadata"], "the revision lies beside the value"
    wanted = {**obj, "metadata": {**metadata, "resourceVersion": str(revision)}}
    entry = Entry("configmaps/default/a-b", value, revision, 1)
    assert json.loads(encoding.client_bytes(entry)) == encoding.decoded(entry) == wanted
    assert encoding.client_bytes(entry) is encoding.client_bytes(entry), "made once"


DOCUMENTS = [
    (b'{"a": 1}', {"a": 1}),
    (b"a: 1\nb: [x, true, null]\n", {"a": 1, "b": ["x", True, None]}),
    (b"{a: b}", {"a": "b"}),
    (b"when: 2026-01-02\n7: x\ntrue: y\n", {"when": "2026-01-02", "7": "x", "true": "y"}),
    (b"", None),
]


@pytest.mark.parametrize(("raw", "value"), DOCUMENTS)
def test_documents(raw: bytes, value: object) -> None:
    assert documents.parse(raw) == value


BOMB = b"a0: &a0 [x,x]\n" + b"".join(b"a%d: &a%d [" % (i, i) + b",".join([b"*a%d" % (i - 1)] * 9) + b"]\n" for i in range(1, 9))


@pytest.mark.parametrize("raw", [b"a: [", b"a: b: c", b"\xff\xfe\xfa", b"{[1]: 2}", BOMB], ids=["open", "twice", "bytes", "key", "bomb"])
def test_malformed_documents(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        documents.parse(raw)
    assert caught.value.code == 400
    assert "\n" not in caught.value.message, "one line"


@pytest.mark.parametrize("name", ["web", "a.b-c", "1", "x" * 253])
def test_good_names(name: str) -> None:
    assert names.subdomain(name) == []


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a..b", "a/b", "$(reboot)", "a\n", "x" * 254, "ä"])
def test_bad_names(name: str) -> None:
    assert names.subdomain(name)


@given(st.text(max_size=20))
def test_whatever_passes_as_a_label_is_safe_anywhere(text: str) -> None:
    if not names.label(text):
        assert text.isascii() and all(char.isalnum() or char == "-" for char in text) and text == text.lower()


def test_the_builtin_kinds() -> None:
    registry = builtin_registry()
    files = [path for path in Path(kinds.__file__).parent.glob("*/*.py") if "\nKIND = " in path.read_text()]
    assert sum(len(registry.versions(kind.resource)) for kind in registry) == len(files) > 10, "a kind for each file that makes one"
    assert {kind.group for kind in registry} > {"", "discovery.k8s.io", "labctl.internal"}
    assert registry.of("v1", "Pod") is registry["pods"] is registry.in_group("", "v1", "pods")
    assert registry.in_group("coordination.k8s.io", "v2", "leases") is None
    assert registry["services"].short_names == ("svc", "se")
    assert registry.group_versions()[0] == ("", "v1")


def test_a_registry_can_grow_and_shrink() -> None:
    kind = Kind("example.com", "v1", "Cat", "cats", "cat", True, Viewed)
    registry = Registry([kind])
    assert registry["cats.example.com"] is kind
    registry.remove("cats.example.com")
    assert registry.get("cats.example.com") is None and list(registry) == []
