"""The journal: bounded, survives a restart, and losing it stops nothing."""

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from labctl.clock import SystemClock
from labctl.journal import Line, MemoryJournal, came_and_went, read_came_and_went


def test_a_restart_reads_what_was_noted_and_passes_over_a_cut_line(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    MemoryJournal(SystemClock(), path).note("scheduler", "pods/default/a", "placed on minion-1", rev=7, cause=5)
    with open(path, "ab") as file:
        file.write(b'{"t": 1, "at": 2, "room": "x", "abo')
    lines = list(MemoryJournal(SystemClock(), path).about("pods/default/a"))
    assert [(line.text, line.rev, line.cause) for line in lines] == [("placed on minion-1", 7, 5)]


def test_the_file_is_bounded_and_keeps_the_newest(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = MemoryJournal(SystemClock(), path, max_bytes=10_000)
    for number in range(1_000):
        journal.note("room", "thing/x", f"note {number}")
    assert path.stat().st_size <= 10_200
    assert list(MemoryJournal(SystemClock(), path).lines)[-1].text == "note 999"


def test_memory_is_bounded(tmp_path: Path):
    journal = MemoryJournal(SystemClock(), keep=10)
    for number in range(100):
        journal.note("room", "thing/x", f"note {number}")
    assert [line.text for line in journal.lines] == [f"note {number}" for number in range(90, 100)]


def test_a_full_disk_stops_nobody(tmp_path: Path):
    journal = MemoryJournal(SystemClock(), Path("/dev/full"))
    journal.note("room", "thing/x", "still noted")
    assert journal.lines[-1].text == "still noted"


def test_an_urgent_line_and_what_follows_it_are_in_the_file_when_the_process_is_killed(tmp_path: Path):
    """The process kills itself in the very turn of the loop after the lines, as `kill -9` may."""
    program = """
import asyncio, os, signal, sys
from pathlib import Path
from labctl.clock import SystemClock
from labctl.journal import MemoryJournal

async def main():
    journal = MemoryJournal(SystemClock(), Path(sys.argv[1]))
    journal.note("machines", "machine/minion-1", "off", did="off", urgent=True)
    journal.note("node-controller", "nodes/minion-1", "out of service")
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    path = tmp_path / "journal.jsonl"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=30)
    assert [line.text for line in MemoryJournal(SystemClock(), path).lines] == ["off", "out of service"]


def test_lines_since_a_moment_are_bounded_and_of_this_boot_of_the_host():
    journal = MemoryJournal(SystemClock())
    journal.lines.append(Line(1e9, 0.0, "room", "thing/x", "before the host's last boot"))
    journal.lines.extend(Line(float(number + 1), 0.0, "room", "thing/x", str(number)) for number in range(10))
    assert [line.text for line in journal.since(8.0, 100)] == ["7", "8", "9"]
    assert [line.text for line in journal.since(0.0, 3)] == ["0", "1", "2"]
    assert journal.since(99.0, 3) == []


ENDPOINTS = st.sets(st.from_regex(r"10\.246\.[0-9]{1,3}\.[0-9]{1,3}( [a-z0-9-]{1,20})?", fullmatch=True), max_size=5)


@given(ENDPOINTS, ENDPOINTS)
def test_who_came_and_went_is_read_as_it_was_written(came, went):
    assert read_came_and_went(came_and_went(came, went)) == (tuple(sorted(came)), tuple(sorted(went)))
