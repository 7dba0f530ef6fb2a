"""The fixture `labctl_lab`, as another project uses it: each test begins with the machines as they were when they had just come up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
def test_one_breaks_a_machine(labctl_lab):
    labctl_lab.run("minion-1", "touch", "/root/mark")
    labctl_lab.kubectl("create", "configmap", "mark")
    labctl_lab.fault("power_off", "minion-1")


def test_two_finds_it_whole(labctl_lab):
    assert labctl_lab.run("minion-1", "ls", "/root/mark", check=False).returncode
    assert [node["ready"] for node in labctl_lab.status()["nodes"]] == ["True"]
    assert "mark" not in labctl_lab.kubectl("get", "configmap", "-o", "name").stdout
"""


def test_each_test_begins_with_whole_machines(tmp_path: Path, state: Path) -> None:
    (tmp_path / "test_machines.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nlabctl_minions = 1\nlabctl_provider = namespace\n")
    environment = {**os.environ, "LABCTL_STATE_HOME": str(state / "plugin")}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
