"""Each example is in order, says in its header what it teaches, and can be checked by what a person types."""

import json
import re

import pytest
from click.testing import CliRunner

from labctl import assets
from labctl.cli.experiment import experiment
from labctl.experiments.file import read
from labctl.lab import Lab
from labctl.lab.stages import LabStages
from labctl.resources.faulttypes import TYPES

EXAMPLES = sorted(assets.experiments().glob("*.yaml"))
TAUGHT = {
    "pod-death",
    "node-death",
    "partition",
    "slow-node",
    "rolling-update",
    "drain",
    "master-death",
    "flushed-rules",
    "published-table",
}


def test_each_thing_is_taught():
    assert {path.stem for path in EXAMPLES} >= TAUGHT


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_in_order_and_has_a_header(path, tmp_path):
    found = read(path, TYPES)
    assert found.name == path.stem
    assert not [why for plan in found.plans if (why := LabStages(Lab(tmp_path), tmp_path).refuse(plan.settings))]
    header = re.match(r"(#.*\n)+", path.read_text())[0]
    assert len(header.splitlines()) >= 4 and len(header.splitlines()[0]) <= 160
    for plan in found.plans:
        for step in plan.steps:
            assert set(step.parameters) <= set(TYPES[step.fault].parameters) if step.fault else True
            assert not (step.duration and TYPES[step.fault].once) if step.fault else True
    assert any(plan.hypotheses for plan in found.plans)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_check_says_so(path):
    done = CliRunner().invoke(experiment, ["check", path.stem])
    assert done.exit_code == 0 and "is in order" in done.output


def test_list_shows_what_each_teaches():
    done = CliRunner().invoke(experiment, ["list", "-o", "json"])
    assert {each["name"] for each in json.loads(done.output)} >= TAUGHT
