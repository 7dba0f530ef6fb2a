"""The bench measures what it says; that it is quick is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import faults
from bench.api import percentiles
from bench.deaths import Rules
from bench.figures import BY_KEY, FAULT_CASES, FIGURES, Measured, Report
from bench.footprint import parse
from bench.lab import BenchError, wait
from labctl.measure.records import Measurement, Request
from labctl.resources.faulttypes import TYPES
from labctl.resources.kinds.labctl_internal_v1.fault import validate

PROGRAMS = Path(command.__file__).parent / "on_minion"


def test_a_figure_is_reached_by_its_median_or_only_at_best():
    less, more = BY_KEY["get-p50"], BY_KEY["get-10"]
    assert [Measured(less, samples).reached for samples in ([0.1, 0.2, 9], [0.1, 7, 9], [7, 8, 9])] == ["yes", "at best", "no"]
    assert [Measured(more, samples).reached for samples in ([9500, 9500, 1], [9500, 1, 2], [1, 2, 3])] == ["yes", "at best", "no"]
    assert Measured(BY_KEY["watch-10"], [1]).reached == ""
    assert (Measured(less, [3, 1, 2]).best, Measured(more, [3, 1, 2]).best) == (1, 3)


def test_no_failed_request_is_an_aim_too():
    assert Measured(BY_KEY["failed-drain"], [0]).reached == "yes"
    assert Measured(BY_KEY["failed-drain"], [1]).reached == "no"


def test_every_figure_belongs_to_one_group_and_every_group_is_a_module():
    grouped = [key for keys in command.GROUPS.values() for key in keys]
    assert sorted(grouped) == sorted(BY_KEY) and len(set(grouped)) == len(FIGURES)
    for group in command.GROUPS:
        assert (PROGRAMS.parent / f"{group}.py").exists()


def test_each_case_of_a_fault_has_its_figures_and_is_a_valid_fault():
    assert set(FAULT_CASES) == {*faults.CASES, "silent", "singleton"}
    victim = {"metadata": {"name": "web-1"}, "spec": {"nodeName": "minion-1"}}
    for case in (*faults.CASES.values(), faults.SILENT):
        spec = {"type": case.type, "target": case.target(victim), "parameters": case.parameters}
        assert list(validate({"metadata": {"name": "x"}, "spec": spec}, None)) == []
        assert bool(case.lasts_s) != TYPES[case.type].once, "what happens once does not last"


def test_errors_last_from_the_first_failed_request_to_the_end_of_the_last():
    requests = [
        Request("a", 1.0, "ok", 1.0, 1.0, 1.0, 1.1),
        Request("a", 2.0, "refused", 2.01, 0.0, 0.0, 2.02),
        Request("b", 2.1, "timeout", 2.1, 0.0, 0.0, 2.6),
        Request("a", 3.0, "unsent"),
    ]
    measured = Measurement("web", 10.0, "http", False, 0.0, 4.0, 0.0, (), tuple(requests))
    assert faults.errors_s(measured) == pytest.approx(0.6)
    assert faults.errors_s(Measurement("web", 10.0, "http", False, 0.0, 4.0, 0.0, (), tuple(requests[:1]))) == 0.0


def test_only_takes_groups_and_figures():
    assert command.chosen([]) == [group for group in command.GROUPS if group not in ("faults", "vms", "warm_vms", "vm_networks")]
    assert command.chosen(["vm-ssh"]) == ["vms"]
    assert command.chosen(["outage", "up"]) == ["start", "outage"]
    assert command.chosen(["nonsense"]) == []


def test_the_report_is_in_the_tables_order_and_says_all_samples(tmp_path):
    report = Report()
    report.add("up", [2, 1])
    report.add("help", 0.1, "a word")
    assert [measured.figure.key for measured in report] == ["help", "up"]
    command.write(report, {"api": "why"}, [tmp_path / "new" / "x.json"])
    said = json.loads((tmp_path / "new" / "x.json").read_text())
    assert said["figures"]["up"]["samples"] == [2, 1] and said["figures"]["up"]["best"] == 1
    assert said["failed"] == {"api": "why"} and said["figures"]["help"]["note"] == "a word"
    assert command.table(report).row_count == 2


def test_a_group_that_fails_is_named_and_the_status_tells(monkeypatch, tmp_path, capsys):
    class Broken:
        @staticmethod
        def measure(report):
            report.add("get-p50", 0.1)
            raise BenchError("nobody answered")

    monkeypatch.setattr(command.importlib, "import_module", lambda name: Broken)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "api", "--json", str(tmp_path / "out.json")])
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    assert command.main() == 1
    said = json.loads((tmp_path / "out.json").read_text())
    assert said["failed"] == {"api": "BenchError: nobody answered"} and "get-p50" in said["figures"]
    assert "nobody answered" in capsys.readouterr().out


def test_numbers_are_short():
    assert [command.number(value) for value in (0, 3, 0.12345, 12.345, 1234.5)] == ["0", "3", "0.123", "12.3", "1,234"]


def test_percentiles():
    assert percentiles([float(n) for n in range(1, 101)]) == (51, 100)
    assert percentiles([5.0]) == (5, 5)


def test_a_process_is_read_from_what_proc_says():
    assert parse("Name:\tx\nVmRSS:\t    2048 kB\ncpu 1500000000 2 3\ncpu 500000000 1 1\n") == (2.0, 2.0)
    with pytest.raises(BenchError):
        parse("")


def test_a_wait_ends():
    with pytest.raises(BenchError, match="not within 0 s: the moon"):
        wait(lambda: False, "the moon", 0)
    assert wait(lambda: [1], "a list") == [1]


def test_rules_are_followed_over_time():
    rules = Rules([])
    rules._seen = [[(1.0, ["a", "b"]), (2.0, ["b"]), (2.5, ["b", "c"])], [(1.0, ["a", "b"]), (2.2, ["b"]), (3.0, ["b", "c"])]]
    assert rules.without("a", 1.5) == 2.2
    assert rules.with_all(2, "a", 1.5) == 3.0


@pytest.mark.parametrize("program", ["ask", "reach", "rules"])
def test_what_runs_on_minions_begins_and_ends_with_its_input(program):
    """Standard library only, sent as text; here nothing answers at the address, and there may be no iptables."""
    argv = [sys.executable, "-I", "-S", "-c", (PROGRAMS / f"{program}.py").read_text(), "127.0.0.9"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[0] == "begun"


def test_help_names_the_groups(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    assert "outage" in capsys.readouterr().out
