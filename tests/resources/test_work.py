"""Work in proportion: what is twice as long takes twice the time, not four times; each input here once took minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from labctl.errors import ApiError
from labctl.resources import labels, quantities
from labctl.resources.cached import SHORT, cached_if_short
from labctl.resources.kind import Object
from labctl.resources.patches import fieldset, managed, strategic
from labctl.resources.patches import json as json_patch
from labctl.resources.patches.managed import UPDATE, Manager, Ownership
from labctl.resources.schema.definitions import builtin_schema

SCHEMA = builtin_schema()
POD_SPEC = SCHEMA.named("io.k8s.api.core.v1.PodSpec")
BUDGET_S = 5.0
MANY = 40_000


def containers(start: int, **more: object) -> list[Object]:
    return [{"name": f"c{i}", **more} for i in range(start, start + MANY)]


def quantity() -> None:
    with pytest.raises(ValueError):
        quantities.canonical("1" * 1_000_000 + "x")


def merge_of_many_items() -> None:
    merged = strategic.apply(POD_SPEC, {"containers": containers(MANY // 2)}, {"containers": containers(0)})
    assert len(merged["containers"]) == MANY + MANY // 2


def deletion_of_many_items() -> None:
    gone = containers(0, **{"$patch": "delete"})
    assert strategic.apply(POD_SPEC, {"containers": gone}, {"containers": containers(1)}) == {"containers": [{"name": f"c{MANY}"}]}


def order_of_many_items() -> None:
    order = [{"name": f"c{i}"} for i in reversed(range(MANY))]
    merged = strategic.apply(POD_SPEC, {"$setElementOrder/containers": order}, {"containers": containers(0)})
    assert merged["containers"][0] == {"name": f"c{MANY - 1}"}


def insertions_at_the_beginning() -> None:
    with pytest.raises(ApiError) as refused:
        json_patch.apply([{"op": "add", "path": "/a/0", "value": 1}] * 10_000, {"a": [0] * 90_000})
    assert refused.value.code == 422


def many_managers() -> None:
    owners = {Manager(f"m{i}", UPDATE, "v1"): Ownership(frozenset({("f:data", f"f:k{i}")}), "2026-01-01T00:00:00Z") for i in range(MANY)}
    obj: Object = {"metadata": {}}
    managed.write(obj, owners)
    fields = [path for entry in obj["metadata"]["managedFields"] for path in fieldset.decode(entry["fieldsV1"])]
    assert len(fields) == MANY


@pytest.mark.parametrize(
    "work",
    [quantity, merge_of_many_items, deletion_of_many_items, order_of_many_items, insertions_at_the_beginning, many_managers],
    ids=lambda work: work.__name__,
)
def test_work_is_in_proportion(work: Callable[[], None]) -> None:
    begun = time.process_time()
    work()
    assert time.process_time() - begun < BUDGET_S


def test_copies_of_a_json_patch_are_bounded() -> None:
    copies = [{"op": "copy", "from": "/a", "path": f"/a/b{i}"} for i in range(31)]
    with pytest.raises(ApiError) as refused:
        json_patch.apply(copies, {"a": {"x": "x" * 1000}})
    assert refused.value.code == 422
    assert "accumulated size increase of copy" in str(refused.value.details)


def test_a_json_patchs_result_is_no_deeper_than_a_body_may_be() -> None:
    deeper = [
        {"op": "add", "path": "/b", "value": {}},
        {"op": "move", "from": "/a", "path": "/b/a"},
        {"op": "move", "from": "/b", "path": "/a"},
    ]
    with pytest.raises(ApiError) as refused:
        json_patch.apply(deeper * 300, {"a": {}})
    assert 400 <= refused.value.code < 500


def test_long_texts_are_not_cached() -> None:
    calls = []

    @cached_if_short(10)
    def length(text: str) -> int:
        calls.append(text[:1])
        return len(text)

    for text in ("a", "a", "b" * (SHORT + 1), "b" * (SHORT + 1)):
        assert length(text) == len(text)
    assert calls == ["a", "b", "b"]
    assert labels.value_errors("x" * 2_000_000)
