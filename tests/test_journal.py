"""The journal: bounded, survives a restart, and losing it stops nothing."""

from pathlib import Path

from labctl.clock import SystemClock
from labctl.journal import MemoryJournal


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
