"""Lists: selectors, pieces, and which moment a resourceVersion means."""

from __future__ import annotations

import base64
import json

import pytest

from labctl.errors import ApiError
from labctl.resources.service import ListOptions
from tests.resources.conftest import Lab, config, pod


@pytest.fixture
async def six(lab: Lab) -> Lab:
    for number in range(6):
        await lab.create("configmaps", config(f"c{number}", {"parity": "even" if number % 2 == 0 else "odd"}))
    return lab


async def test_by_labels(six: Lab) -> None:
    assert six.names("configmaps", label_selector="parity=even") == ["c0", "c2", "c4"]
    assert six.names("configmaps", label_selector="parity notin (even)") == ["c1", "c3", "c5"]


async def test_by_fields(lab: Lab) -> None:
    for name in ("a", "b"):
        await lab.create("pods", pod(name))
    await lab.client.bind("default/a", "minion-1")
    assert lab.names("pods", field_selector="spec.nodeName=minion-1") == ["a"]
    assert lab.names("pods", field_selector="spec.nodeName=,status.phase!=Running") == ["b"]
    assert lab.names("pods", field_selector="metadata.name=b") == ["b"]
    assert lab.names("pods", field_selector="metadata.namespace=other") == []


async def test_a_field_that_nobody_may_select_by(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        lab.names("pods", field_selector="spec.foo=1")
    assert caught.value.code == 400
    assert caught.value.message == "field label not supported: spec.foo"


async def test_an_invalid_selector_is_refused(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        lab.names("pods", label_selector="a in (")
    assert caught.value.code == 400


async def test_pages_of_a_list_show_one_revision(six: Lab) -> None:
    kind = six.kind("configmaps")
    first = six.resources.list(kind, "default", ListOptions(limit=4))
    assert (len(first.entries), first.remaining) == (4, 2)
    await six.create("configmaps", config("c9"))
    await six.delete("configmaps", "c5")
    second = six.resources.list(kind, "default", ListOptions(limit=4, continue_token=first.continue_token))
    assert [entry.key.rpartition("/")[2] for entry in second.entries] == ["c4", "c5"]
    assert second.revision == first.revision
    assert second.continue_token == ""


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_of_a_selection_add_up_to_the_whole_list(six: Lab, limit: int) -> None:
    kind, token, found = six.kind("configmaps"), "", []
    while True:
        options = ListOptions(label_selector="parity=even", limit=limit, continue_token=token)
        piece = six.resources.list(kind, "default", options)
        assert len(piece.entries) <= limit
        found += [entry.key.rpartition("/")[2] for entry in piece.entries]
        token = piece.continue_token
        if not token:
            break
    assert found == ["c0", "c2", "c4"]


async def test_a_token_from_before_a_compaction_says_how_to_go_on(six: Lab) -> None:
    kind = six.kind("configmaps")
    first = six.resources.list(kind, "default", ListOptions(limit=4))
    await six.create("configmaps", config("c9"))
    await six.store.compact(six.store.revision)
    with pytest.raises(ApiError) as caught:
        six.resources.list(kind, "default", ListOptions(limit=4, continue_token=first.continue_token))
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert caught.value.message.startswith("The provided continue parameter is too old to display a consistent list result.")
    goes_on = six.resources.list(kind, "default", ListOptions(continue_token=caught.value.details["continue"]))
    assert [entry.key.rpartition("/")[2] for entry in goes_on.entries] == ["c4", "c5", "c9"]


@pytest.mark.parametrize("token", ["x", "e30", base64.urlsafe_b64encode(b'{"v":"v9","rv":1,"start":"a"}').decode()])
async def test_a_continue_token_of_another_server_is_refused(lab: Lab, token: str) -> None:
    with pytest.raises(ApiError) as caught:
        lab.names("configmaps", continue_token=token)
    assert caught.value.code == 400 and "continue key is not valid" in caught.value.message


async def test_at_an_exact_revision(six: Lab) -> None:
    then = six.store.revision
    await six.delete("configmaps", "c0")
    assert len(six.names("configmaps", resource_version=str(then), resource_version_match="Exact")) == 6
    assert len(six.names("configmaps", resource_version=str(then), resource_version_match="NotOlderThan")) == 5
    assert len(six.names("configmaps", resource_version=str(then))) == 5
    assert len(six.names("configmaps", resource_version="0")) == 5


async def test_a_revision_that_was_compacted(six: Lab) -> None:
    await six.delete("configmaps", "c0")
    await six.store.compact(six.store.revision)
    with pytest.raises(ApiError) as caught:
        six.names("configmaps", resource_version="2", resource_version_match="Exact")
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert caught.value.message == "The resourceVersion for the provided list is too old."


async def test_a_revision_from_the_future(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        lab.names("configmaps", resource_version="999")
    assert (caught.value.code, caught.value.reason) == (504, "Timeout")
    assert caught.value.message == f"Too large resource version: 999, current: {lab.store.revision}"
    assert caught.value.details["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize(
    "options",
    [
        {"resource_version_match": "Exact"},
        {"resource_version_match": "Exact", "resource_version": "0"},
        {"resource_version_match": "Sometimes", "resource_version": "1"},
    ],
)
async def test_an_invalid_resource_version_match_is_refused(lab: Lab, options: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        lab.names("configmaps", **options)
    assert caught.value.code == 422


@pytest.mark.parametrize(("text", "why"), [("new", "invalid syntax"), ("9" * 5000, "value out of range")])
async def test_a_revision_that_is_no_number(lab: Lab, text: str, why: str) -> None:
    with pytest.raises(ApiError) as caught:
        lab.names("configmaps", resource_version=text)
    assert caught.value.code == 400 and caught.value.message.endswith(why)


async def test_over_all_namespaces(lab: Lab) -> None:
    await lab.create("configmaps", config("a"))
    await lab.client.create("configmaps", {"metadata": {"name": "b", "namespace": "kube-system"}})
    listed = lab.resources.list(lab.kind("configmaps"), "")
    assert [json.loads(entry.value)["metadata"]["name"] for entry in listed.entries] == ["a", "b"]


async def test_a_view_is_decoded_once(lab: Lab) -> None:
    await lab.create("configmaps", config("a"))
    entry = lab.resources.get(lab.kind("configmaps"), "default", "a")
    assert lab.resources.view(entry) is lab.resources.view(lab.resources.get(lab.kind("configmaps"), "default", "a"))
