"""What a container's files say of its life, whenever they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.agent.runtime import records
from labctl.agent.runtime.interface import Container, State
from labctl.agent.runtime.records import LOST_EXIT_CODE, Records, container_id, write_json

IDENTITY = container_id("u1", "app", 0)
NOBODY = {"pid": 1 << 22, "ticks": 1, "at": 5.0}
"""A process that there can't be: pids end below it."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    made = Path(Records(str(tmp_path)).bundle("u1", "app", 0))
    (made / "exits").mkdir(parents=True)
    kept = {"image": "x", "image_id": "x", "log_path": "", "stop_signal": "", "delay_s": 0, "message_path": "", "created_s": 1.0}
    write_json(str(made / "container.json"), kept)
    write_json(str(made / "started"), NOBODY)
    return made


def look(tmp_path: Path) -> Container:
    found = Records(str(tmp_path)).container("u1", "app", 0)
    assert found is not None
    return found


def test_a_container_of_whose_end_nothing_is_known_is_lost(bundle: Path, tmp_path: Path) -> None:
    found = look(tmp_path)
    assert (found.state, found.exit_code, found.lost) == (State.EXITED, LOST_EXIT_CODE, True)


def test_an_end_that_is_written_while_one_looks_is_not_lost(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """conmon writes the exit code and ends: who saw no code, and then no conmon, has to look for the code again."""

    def ends(*_: str) -> bool:
        (bundle / "oom").touch()
        (bundle / "exits" / IDENTITY).write_text("3")
        return False

    monkeypatch.setattr(records, "conmon_alive", ends)
    found = look(tmp_path)
    assert (found.state, found.exit_code, found.lost, found.oom_killed) == (State.EXITED, 3, False, True)


@pytest.mark.parametrize("content", ["", "x"])
def test_a_file_that_a_power_cut_left_without_a_code_is_no_success(bundle: Path, tmp_path: Path, content: str) -> None:
    (bundle / "exits" / IDENTITY).write_text(content)
    assert (look(tmp_path).state, look(tmp_path).exit_code) == (State.EXITED, LOST_EXIT_CODE)
