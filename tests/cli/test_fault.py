"""`labctl fault` with a wrong command line: exit status 2, one line in the command's own words, and no lab is asked or needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.cli.main import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def labctl(capsys: pytest.CaptureFixture[str], line: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fault loss minion-1 -p share=10", '-p share: Invalid value: "10": must be a share in percent'),
        ("fault delay minion-1", "delay: -p time: Required value: labctl fault delay minion-1 -p time=50ms"),
        ("fault delay minion-1 -p tme=50ms -p time=50ms", "delay: -p: Unsupported value"),
        ("fault pause minion-1 --for 5", '--for: Invalid value: "5": must be a duration with its unit'),
        ("fault reset minion-1 --for 5s", "--for: Forbidden"),
        ("fault cut minion-1 --to minion-1", "--to: Invalid value"),
        ("fault pause minion-1 --to minion-2", "--to: Forbidden"),
        ("fault kill-container minion-1", "TARGET: Invalid value"),
        ("fault pause minion-1 -p x", "write a parameter once, as KEY=VALUE"),
    ],
)
def test_what_is_no_fault_is_said_in_the_words_of_the_command(capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    status, err = labctl(capsys, line)
    assert status == 2 and said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "meant"),
    [("fault power-of minion-1", "power-off"), ("fault lisst", "list"), ("experimnt run x", "experiment"), ("aply", "apply")],
)
def test_an_unknown_command_names_the_one_that_may_be_meant(capsys: pytest.CaptureFixture[str], line: str, meant: str) -> None:
    status, err = labctl(capsys, line)
    assert status == 2 and f"did you mean {meant}?" in err


def test_a_right_command_goes_on_to_the_lab(capsys: pytest.CaptureFixture[str]) -> None:
    status, err = labctl(capsys, "fault loss minion-1 -p share=10%")
    assert status == 1 and "no lab" in err
