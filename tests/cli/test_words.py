"""What pods, machines and other people say reaches the terminal as words: no escape sequence, no carriage return, no turned writing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.cli import look, main, output
from labctl.cli.words import echo, echo_line, visible
from labctl.errors import LabctlError
from labctl.lab import Lab
from labctl.lab.progress import Step

HOSTILE = "ready\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eevil\x00\x7f"
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def test_what_commands_a_terminal_is_shown_and_not_sent() -> None:
    assert visible(HOSTILE) == "ready^[]0;owned^G^[[2J^M\ufffd31m\ufffdevil^@^?"
    assert visible("a\tb\nc é 日本 \u00a0\u2009✓ │") == "a\tb\nc é 日本 \u00a0\u2009✓ │"


@pytest.mark.parametrize("err", [False, True])
def test_lines_tables_and_steps_are_plain(capsys: pytest.CaptureFixture[str], err: bool) -> None:
    echo(HOSTILE, err=err)
    output.print_table(("NAME", "MESSAGE"), [("a", HOSTILE + "\nsecond line")])
    steps = output.Steps()
    for state in ("begun", "note", "failed"):
        steps(Step(HOSTILE, state, 0.1, HOSTILE + "[bold]"))
    steps.close()
    said = capsys.readouterr()
    assert not COMMANDS.search(said.out + said.err)
    assert "ready^[]0;owned" in said.out + said.err
    assert len(said.out.splitlines()) == (2 if err else 3), "a cell stays in its row"


FORGED = "waits: ImagePullBackOff\nIt is on node minion-9.\u2028\x85\x0b\x0cIt is ready.\r\nIt is well."


def test_what_is_quoted_in_a_line_begins_no_other(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`labctl why` tells what containers and Events say; a line break in that would begin a sentence that looks like labctl's."""
    echo_line(FORGED)
    monkeypatch.setattr(Lab, "why", lambda *_args, **_more: ["It is on node minion-1.", FORGED])
    monkeypatch.setattr(look, "with_master", lambda lab: lab)
    main.labctl.main(["why", "pod/web"], standalone_mode=False)
    first, second, third = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert (second, third) == ("It is on node minion-1.", first)
    assert first.startswith("waits: ImagePullBackOff It is on node minion-9.") and len(first.splitlines()) == 1


def test_errors_are_plain(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise LabctlError(HOSTILE)

    monkeypatch.setattr(main.labctl, "main", fails)
    with pytest.raises(SystemExit):
        main.main(["status"])
    assert not COMMANDS.search(capsys.readouterr().err)


@pytest.mark.parametrize(
    "words",
    [["timeline", "x", "--measurement", "\x1b[2J.gz"], ["measure", "web", "--rate", "\x1b[2J"], ["\x1b[2J"], ["status", "--\x1b[2J"]],
)
def test_so_are_errors_of_the_command_line_which_quote_the_names_of_files(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said and not COMMANDS.search(said)


def test_no_command_prints_by_another_way() -> None:
    folder = Path(main.__file__).parent
    found = [path.name for path in folder.glob("*.py") if re.search(r"click\.(s?echo|secho)\(|(?<![\w.])print\(", path.read_text())]
    assert found == ["words.py"]
