"""What `labctl status` says of a machine that is to be on and is not Ready: what is wrong, and what mends it."""

from __future__ import annotations

import pytest

from labctl.cli import lifecycle

READY, SILENT = {"ready": "True"}, {"ready": "Unknown"}
RESET = "`labctl fault reset minion-1` boots it anew"
ANEW = "`labctl destroy minion-1` and `labctl up --minions 2` makes it anew"


def machine(**fields):
    return {"name": "minion-1", "wanted": "On", "power": "On", "phase": "Ready", "message": "", **fields}


@pytest.mark.parametrize(
    ("shown", "node", "said"),
    [
        (machine(), READY, ""),
        (machine(power="Off", phase="Off", wanted="Off", message="halted"), None, ""),
        (machine(phase="Joining"), None, ""),
        (machine(), SILENT, f"its agent does not speak; labctl up tries again, or {RESET}, or {ANEW}"),
        (
            machine(phase="Joining", message="its sshd does not answer"),
            SILENT,
            f"its sshd does not answer; labctl up tries again, or {RESET}, or {ANEW}",
        ),
        (machine(power="Off", phase="Failed", message="no tini"), SILENT, f"no tini; labctl up tries again, or {ANEW}"),
        (
            machine(power="Off", phase="Off", message="its power was cut; it stays off until `labctl up`"),
            SILENT,
            "its power was cut; it stays off until `labctl up`",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_mends_it(shown, node, said):
    assert lifecycle._trouble(shown, node, "namespace", 2) == said


def test_machines_that_exist_already_are_not_booted_or_made():
    assert lifecycle._trouble(machine(), SILENT, "ssh", 2) == "its agent does not speak; labctl up tries again"
