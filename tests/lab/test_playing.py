"""Two experiments never play on one lab at a time, and a killed one keeps nobody away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.errors import LabctlError
from labctl.lab.playing import playing

HOLDER = "import sys; from pathlib import Path; from labctl.lab.playing import playing\nwith playing(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_a_second_experiment_is_told_who_plays(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "experiment.lock"
    with playing(lock), pytest.raises(LabctlError, match=rf"played on this lab already \(process {os.getpid()}\)"), playing(lock):
        pass
    assert not lock.exists()
    with playing(lock):
        pass


def test_one_that_was_killed_keeps_nobody_away(tmp_path: Path) -> None:
    lock = tmp_path / "experiment.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(LabctlError, match=f"process {holder.pid}"), playing(lock):
            pass
        holder.kill()
        holder.wait()
        with playing(lock):
            pass
