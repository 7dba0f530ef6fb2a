"""The routes of the journal and of timelines: which fault is meant, what is refused, what bounds an answer."""

import asyncio

import msgspec
import pytest

from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.api.query import parse
from labctl.clock import SystemClock
from labctl.errors import ApiError
from labctl.journal import Line, MemoryJournal
from labctl.master.timelines import add_routes
from labctl.resources.kinds.labctl_internal_v1.fault import Fault


class View:
    def __init__(self, *faults):
        self._faults = {fault.metadata.name: fault for fault in faults}

    def get(self, kind, key):
        return self._faults.get(key)

    def all(self, kind, namespace=""):
        return self._faults.values()


def fault(name, target="minion-1", injected=0.0, healed=0.0, **status):
    times = {"injectedMonotonic": injected, "healedMonotonic": healed} if injected else {}
    said = {"metadata": {"name": name}, "spec": {"type": "power-off", "target": target}, "status": {**times, **status}}
    return msgspec.convert(said, Fault)


def asked(path, lines=(), *faults):
    """The answer of the master to a GET."""
    journal = MemoryJournal(SystemClock())
    journal.lines.extend(lines)
    routes = Extensions()
    add_routes(routes, View(*faults), journal)
    path, _, query = path.partition("?")
    handler, params = routes._find("GET", f"/labctl/v1/{path}")
    return asyncio.run(handler(ExtensionRequest(None, params, parse(query))))


def off(t, machine="minion-1"):
    return Line(t, 0.0, "machines", f"machine/{machine}", "off", did="off", where=machine)


def refused(path, *more):
    with pytest.raises(ApiError) as error:
        asked(path, *more)
    return error.value.code, error.value.message


def test_a_fault_by_its_name_ends_where_the_next_one_of_its_target_begins():
    one, two, elsewhere = fault("one", injected=10.0, healed=30.0), fault("two", injected=20.0), fault("three", "minion-2", 11.0)
    told = asked("timeline/one", [off(10.5), off(20.5), off(21.0)], one, two, elsewhere)
    assert [(mark["at_s"], mark["what"]) for mark in told["marks"]] == [(0.0, "injected"), (0.5, "known"), (20.0, "healed")]
    assert told["fault"]["target"] == "minion-1"


def test_a_machine_and_a_pod_without_a_fault():
    lines = [
        off(1.0),
        off(5.0),
        Line(6.0, 0, "agent", "pods/shop/web", "ended", did="ended", where="minion-1"),
        Line(6.5, 0, "agent", "pods/shop/web", "", did="unready"),
    ]
    assert asked("timeline/machine/minion-1", lines)["fault"] == {
        "name": "machine/minion-1",
        "type": "noticed",
        "target": "minion-1",
        "injected_s": 5.0,
    }
    assert (
        asked("timeline/pod/shop/web", lines)["fault"]["injected_s"]
        == asked("timeline/pod/web?namespace=shop", lines)["fault"]["injected_s"]
        == 6.0
    )


@pytest.mark.parametrize(
    "path, code, words",
    [
        ("timeline/nothing", 404, 'faults "nothing" not found'),
        ("timeline/waits", 409, "fault waits was not injected: it is Refused: there is no machine"),
        ("timeline/machine/minion-9", 404, "the journal knows of no end or failure of machine/minion-9"),
        ("timeline/tree/oak", 400, "'tree/oak' names no fault"),
        ("timeline/machine/a/b", 400, "'machine/a/b' names no fault"),
        ("journal?since=nan", 400, "since: 'nan' is no number of seconds"),
        ("journal?since=" + "9" * 5000, 400, "is no number of seconds"),
        ("journal?limit=x", 400, "invalid syntax"),
    ],
)
def test_what_is_refused(path, code, words):
    found = refused(path, [], fault("waits", phase="Refused", message="there is no machine"))
    assert found[0] == code and words in found[1]


def test_the_journal_is_answered_in_pieces():
    lines = [off(float(number)) for number in range(1, 50)]
    first = asked("journal?since=10&limit=5", lines)
    assert [line.t for line in first["lines"]] == [10, 11, 12, 13, 14] and not first["complete"]
    assert asked("journal?since=47", lines)["complete"] and len(asked("journal?limit=-3", lines)["lines"]) == 1
