"""Which faults an experiment can't have is known by its provider, without a lab, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.experiments.file import Experiment
from labctl.experiments.file import read as read_experiment
from labctl.lab import Lab
from labctl.lab.stages import LabStages
from labctl.resources.faulttypes import TYPES


def read(folder: Path, *steps: str) -> Experiment:
    path = folder / "tried.yaml"
    timeline = "".join(f"  - {{at: 1s, {step}}}\n" for step in steps)
    path.write_text(f"name: tried\nsteady: [{{nodes: 1}}]\nduration: 2s\ntimeline:\n{timeline}")
    return read_experiment(path, TYPES)


def said(folder: Path, settings: dict[str, object], *steps: str) -> str:
    plan = read(folder, *steps).plans[0]
    return LabStages(Lab(folder), folder).refuse(settings, plan.steps)


@pytest.mark.parametrize(
    ("provider", "step", "why"),
    [
        ("ssh", "fault: power-off, target: minion-1", "provider ssh can't power-off a machine"),
        ("ssh", "fault: cut, target: minion-1", "provider ssh can't break a machine's link"),
        ("ssh", "fault: loss, target: minion-1, parameters: {share: 10%}", "provider ssh can't break a machine's link"),
        ("ssh", "fault: flush-rules, target: minion-1", "provider ssh has no snapshots, and each repetition begins from one"),
        ("namespace", "fault: fill-disk, target: minion-1", "fill-disk needs a virtual machine"),
        ("namespace", "fault: skew-clock, target: minion-1, parameters: {by: 5m}", "a namespace machine has its host's clock"),
    ],
)
def test_a_provider_that_can_not_is_named(tmp_path: Path, provider: str, step: str, why: str) -> None:
    assert why in said(tmp_path, {"provider": provider}, step)


@pytest.mark.parametrize("provider", ["namespace", "vagrant", "auto"])
def test_what_a_provider_can_is_not_refused(tmp_path: Path, provider: str) -> None:
    steps = ("fault: power-off, target: minion-2", "fault: cut, target: minion-1, for: 1s", "fault: slow-disk, target: minion-1, for: 1s")
    assert said(tmp_path, {"provider": provider}, *steps) == ""


def test_while_the_provider_is_open_only_what_none_can_is_refused(tmp_path: Path) -> None:
    assert said(tmp_path, {}, "fault: fill-disk, target: minion-1, for: 1s") == "", "virtual machines have a disk"
    assert said(tmp_path, {"provider": "vagrant"}, "fault: fill-disk, target: minion-1, for: 1s") == ""


def test_every_fault_that_is_refused_is_named(tmp_path: Path) -> None:
    found = said(tmp_path, {"provider": "ssh"}, "fault: pause, target: minion-1", "name: second, fault: power-off, target: minion-1")
    assert (
        found == "timeline[0] (pause-1): provider ssh can't pause a machine; timeline[1] (second): provider ssh can't power-off a machine"
    )


def test_listed_machines_are_providers_ssh(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("no real key")
    (tmp_path / "lab.yml").write_text(f"machines:\n  - {{address: 10.0.0.1, key: {key}}}\n")
    assert "provider ssh has no snapshots" in said(tmp_path, {}, "fault: flush-rules, target: minion-1")


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("fault: kill-container, target: minion-1", "timeline[0] (kill-container-1): target: Invalid value"),
        ("fault: power-off, target: pod of web", "a fault of type power-off hits minion-1"),
        ("fault: delay, target: minion of pod of web", "parameters[time]: Required value"),
        ("fault: loss, target: minion-1, parameters: {share: 10}", "parameters[share]: Invalid value"),
        ("fault: reset, target: minion-1, for: 3s", "duration: Forbidden"),
        ("fault: pause, target: minion-1, peer: minion-2", "peer: Forbidden"),
    ],
)
def test_what_is_no_fault_is_said_before_there_is_a_lab(tmp_path: Path, step: str, why: str) -> None:
    assert why in said(tmp_path, {}, step)
