"""The row of admission steps: who is asked, in which order, with what in hand, and that a refusal stores nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources import failures
from labctl.resources.admission import Admission, Attributes
from labctl.resources.service import User, WriteOptions
from tests.resources.conftest import PERSON, Lab

EVERY = frozenset({"create", "update", "delete"})


class Step:
    """Writes down what it is asked; `does` may change the object or raise."""

    def __init__(
        self, name: str, log: list[Any], does: Callable[[Attributes], None] = lambda _: None, kinds: Any = None, verbs: Any = EVERY
    ):
        self.name, self.kinds, self.verbs = name, kinds, verbs
        self._log, self._does = log, does

    async def admit(self, attributes: Attributes) -> None:
        self._log.append((self.name, attributes.verb, attributes.kind.resource, attributes.name, attributes.subresource))
        self._does(attributes)


def config_map(**more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, **more}


def refuse(attributes: Attributes) -> None:
    raise failures.forbidden(attributes.kind, attributes.name, "not today")


async def test_steps_are_asked_in_order_with_old_and_new_in_hand(lab: Lab) -> None:
    log: list[Any] = []
    seen: list[tuple[Any, Any]] = []

    def look(attributes: Attributes) -> None:
        old, new = attributes.old, attributes.new
        seen.append((old and old.get("data"), new and new.get("data")))
        assert attributes.user == PERSON

    lab.resources.use_admission(Admission([Step("first", log, look), Step("second", log)], [Step("third", log)]))
    await lab.create("configmaps", config_map(data={"k": "1"}))
    assert [name for name, *_ in log] == ["first", "second", "third"]
    await lab.patch("configmaps", "a", {"data": {"k": "2"}})
    await lab.delete("configmaps", "a")
    assert seen == [(None, {"k": "1"}), ({"k": "1"}, {"k": "2"}), ({"k": "2"}, None)]
    asked = [(name, verb) for verb in ("update", "delete") for name in ("first", "second", "third")]
    assert [entry[:2] for entry in log[3:]] == asked


async def test_only_the_steps_that_are_concerned_are_asked(lab: Lab) -> None:
    log: list[Any] = []
    concerned = Step("pods only", log, kinds=frozenset({"pods"})), Step("deletes only", log, verbs=frozenset({"delete"}))
    lab.resources.use_admission(Admission(validating=concerned))
    await lab.create("configmaps", config_map())
    assert log == []
    await lab.delete("configmaps", "a")
    assert log == [("deletes only", "delete", "configmaps", "a", "")]


async def test_a_mutating_step_comes_before_defaults_and_validation(lab: Lab) -> None:
    def change(attributes: Attributes) -> None:
        assert attributes.new is not None
        attributes.new["spec"]["containers"].append({"name": "added", "image": "x"})
        attributes.new["metadata"]["labels"] = {"added": "yes"}

    def look(attributes: Attributes) -> None:
        assert attributes.new is not None
        assert attributes.new["spec"]["containers"][1]["imagePullPolicy"] == "Always"

    lab.resources.use_admission(Admission([Step("adds", [], change, kinds=frozenset({"pods"}))], [Step("looks", [], look)]))
    written = await lab.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    view = lab.resources.view(written.entry)
    assert (view.metadata.labels, [c.name for c in view.spec.containers]) == ({"added": "yes"}, ["c", "added"])


async def test_a_validating_step_sees_the_generated_name(lab: Lab) -> None:
    log: list[Any] = []
    lab.resources.use_admission(Admission(validating=[Step("looks", log)]))
    written = await lab.create("configmaps", {"metadata": {"generateName": "a-"}})
    assert log[0][3] == lab.resources.view(written.entry).metadata.name


@pytest.mark.parametrize("row", ["mutating", "validating"])
async def test_what_is_refused_is_not_stored(lab: Lab, row: str) -> None:
    await lab.create("configmaps", config_map(data={"k": "1"}))
    revision = lab.store.revision
    later: list[Any] = []
    lab.resources.use_admission(Admission(**{row: [Step("refuses", [], refuse), Step("later", later)]}))
    with pytest.raises(ApiError, match='configmaps "b" is forbidden: not today'):
        await lab.create("configmaps", {"metadata": {"name": "b"}})
    with pytest.raises(ApiError, match='configmaps "a" is forbidden: not today'):
        await lab.patch("configmaps", "a", {"data": {"k": "2"}})
    assert (lab.store.revision, later) == (revision, [])


async def test_whoever_evicts_or_deletes_many_is_named(lab: Lab) -> None:
    users: list[User] = []
    await lab.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    step = Step("looks", [], lambda attributes: users.append(attributes.user), verbs=frozenset({"delete", "post"}))
    lab.resources.use_admission(Admission(validating=[step]))
    kind = lab.kind("pods")
    await lab.resources.create(kind, "default", {"metadata": {"name": "p"}}, WriteOptions(user=PERSON), "p", "eviction")
    await lab.create("pods", {"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    await lab.resources.delete_collection(kind, "default", user=PERSON)
    assert users == [PERSON, PERSON]
