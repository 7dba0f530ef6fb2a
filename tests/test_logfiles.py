"""Log files are bounded while their writers keep them open."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from labctl import logfiles


def test_a_log_is_emptied_in_place_and_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "master.log"
    with open(path, "ab", buffering=0) as writer:
        for number in range(3):
            writer.write(b"%d" % number * 600)
            logfiles.bound(path, 1000)
            assert path.stat().st_size + (tmp_path / "master.log.1").stat().st_size <= 2000 if number else True
        assert (tmp_path / "master.log.1").read_bytes() == b"0" * 400 + b"1" * 600
        assert path.read_bytes() == b"2" * 600


def test_a_program_goes_on_writing_to_the_emptied_file(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    with (
        open(path, "ab") as log,
        subprocess.Popen(["sh", "-c", "printf before; read x; printf after"], stdin=subprocess.PIPE, stdout=log) as program,
    ):
        while not path.stat().st_size:
            pass
        logfiles.bound(path, 3)
        assert path.read_bytes() == b"" and (tmp_path / "console.log.1").read_bytes() == b"ore"
        program.communicate(b"go\n", timeout=10)
    assert path.read_bytes() == b"after"


def test_a_log_that_is_short_or_absent_is_left_alone(tmp_path: Path) -> None:
    logfiles.bound(tmp_path / "absent.log", 10)
    (tmp_path / "short.log").write_bytes(b"short")
    logfiles.bound(tmp_path / "short.log", 10)
    assert (tmp_path / "short.log").read_bytes() == b"short" and not (tmp_path / "short.log.1").exists()


def test_a_log_that_a_stranger_made_longer_than_any_disk_costs_its_bound_only(tmp_path: Path) -> None:
    """Root on a namespace machine can lengthen its console from inside: the host read it whole to tell its last line, and copied it whole."""
    path = tmp_path / "console.log"
    path.write_bytes(b"begin\n")
    os.truncate(path, 1 << 40)
    with path.open("ab") as file:
        file.write(b"the end")
    assert logfiles.end(path, 100) == b"\0" * 93 + b"the end"
    logfiles.bound(path, 3 << 20)
    assert path.stat().st_size == 0 and (tmp_path / "console.log.1").stat().st_size == 3 << 20


def test_a_log_that_grows_while_it_is_copied_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"x" * 2000)
    with subprocess.Popen(["sh", "-c", "exec yes >>console.log"], cwd=tmp_path) as program:
        try:
            for _ in range(50):
                logfiles.bound(path, 1000)
                assert (tmp_path / "console.log.1").stat().st_size <= 1000
        finally:
            program.kill()
