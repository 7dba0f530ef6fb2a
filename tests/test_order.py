"""Files of tests are handed out so that all processes end at about the same time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from tests import order

FILES = {"tests/a/test_many.py": 9, "tests/a/test_long.py": 1, "tests/a/test_few.py": 2, "tests/e2e/test_x.py": 1, "tests/e2e/test_y.py": 3}
SECONDS = {"tests/a/test_long.py": 50.0, "tests/e2e/test_x.py": 40.0, "tests/e2e/test_y.py": 30.0}


class Process:
    """A process of xdist that notes the tests it is given."""

    shutting_down = False

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id="gw")
        self.given: list[int] = []

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.given += numbers

    def shutdown(self) -> None:
        self.shutting_down = True


def begun(count: int, files: dict[str, int]) -> tuple[order.LongestFirst, list[Any], list[str]]:
    """The scheduler, that many processes with their first tests, and the names of all tests."""
    tests = [f"{file}::test_{number}" for file, number_of in files.items() for number in range(number_of)]
    option = SimpleNamespace(loadscopereorder=True, tx=[f"{count}*popen"])
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: getattr(option, name))
    scheduler = order.LongestFirst(config, Producer("test", enabled=False))
    processes: list[Any] = [Process() for _ in range(count)]
    for each in processes:
        scheduler.add_node(each)
        scheduler.add_node_collection(each, tests)
    scheduler.schedule()
    return scheduler, processes, tests


def test_long_files_are_first_and_scenarios_and_the_rest_are_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "SECONDS", SECONDS)
    scheduler, processes, tests = begun(2, FILES)
    began: list[list[str]] = [[], []]
    while scheduler.has_pending:
        for each, files in zip(processes, began):
            if each.given:
                number = each.given.pop(0)
                files.append(tests[number].partition("::")[0])
                scheduler.mark_test_complete(each, number)
    first, second = (list(dict.fromkeys(files)) for files in began)
    assert first[:2] == ["tests/e2e/test_x.py", "tests/e2e/test_y.py"] and second[:2] == ["tests/a/test_long.py", "tests/a/test_many.py"]
    assert sorted([*began[0], *began[1]]) == sorted(test.partition("::")[0] for test in tests)
    assert not set(first) & set(second)


def test_one_process_of_four_begins_with_what_computes() -> None:
    files = {f"tests/{folder}/test_{number}.py": 3 for folder in ("a", "e2e") for number in range(6)}
    _, processes, tests = begun(5, files)
    assert [tests[each.given[0]].split("/")[1] for each in processes] == ["e2e", "a", "e2e", "e2e", "e2e"]


def test_every_file_whose_time_is_known_exists() -> None:
    assert [file for file in order.SECONDS if not Path(__file__).parents[1].joinpath(file).exists()] == []
