"""Following a log whose files are rotated and replaced while it is read."""

import os
import threading
import time
from datetime import UTC, datetime

import pytest

from labctl.agent import logfiles, logs
from labctl.agent.logs import LogRequest, read, rotate

STAMP = b"2026-01-02T15:04:05.000000000+00:00 stdout F "


def replace(path, first):
    """As conmon begins a new file when one is full: the old one has no name any more."""
    with open(path + ".tmp", "wb") as file:
        file.write(STAMP + first)
    os.rename(path + ".tmp", path)


def numbers(pieces):
    return [int(piece) for piece in pieces]


@pytest.mark.parametrize("rotated", [True, False], ids=["rotated by the agent", "replaced by conmon"])
def test_a_program_that_writes_at_full_speed_loses_no_line(tmp_path, rotated):
    path, count, a_file = str(tmp_path / "0.log"), 200_000, 20_000
    writing = threading.Event()
    writing.set()

    def write():
        file = open(path, "wb")  # noqa: SIM115 - one after the other
        for number in range(count):
            if number and number % a_file == 0:
                file.close()
                time.sleep(0.03)  # a file of conmon's takes longer to fill than this small one
                if rotated:
                    rotate(path, 1, keep=3)
                    file = open(path, "wb")  # noqa: SIM115
                else:
                    replace(path, b"")
                    os.truncate(path, 0)
                    file = open(path, "ab")  # noqa: SIM115
            file.write(STAMP + b"%d\n" % number)
        file.close()
        writing.clear()

    thread = threading.Thread(target=write)
    thread.start()
    assert numbers(read(path, LogRequest(follow=True), writing.is_set)) == list(range(count))
    thread.join()


def test_what_was_written_between_the_last_look_and_a_rotation_is_read(tmp_path):
    path = str(tmp_path / "0.log")
    replace(path, b"0\n")
    steps = iter([1, 2, 3])

    def sleep(_):
        step = next(steps)
        if step == 3:
            alive.clear()
            return
        with open(path, "ab") as file:
            file.write(STAMP + b"%d\n" % (10 * step))
        rotate(path, 1, keep=4)
        replace(path, b"%d\n" % (10 * step + 1))

    alive = threading.Event()
    alive.set()
    assert numbers(read(path, LogRequest(follow=True), alive.is_set, sleep)) == [0, 10, 11, 20, 21]


def test_a_reader_that_is_far_behind_is_told_that_lines_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(logfiles, "HELD_MAX", 3)
    monkeypatch.setattr(logfiles, "UNSEEN_S", 0.05)
    path = str(tmp_path / "0.log")
    replace(path, b"0\n")
    alive = threading.Event()
    alive.set()
    reading = read(path, LogRequest(follow=True), alive.is_set)
    got = [next(reading)]
    for number in range(1, 12):
        replace(path, b"%d\n" % number)
        time.sleep(0.04)  # longer than between two looks
    alive.clear()
    got += list(reading)
    assert [each for each in got if each != logs.MISSING.text] == [b"0\n", b"1\n", b"2\n", b"3\n", b"11\n"]
    assert got[-2] == logs.MISSING.text, "a busy host may make it say so before, too"


@pytest.mark.parametrize("lost", [False, True])
def test_a_reader_that_stood_still_breaks_no_line_that_goes_on_in_the_next_file(tmp_path, monkeypatch, lost):
    """conmon writes what a program wrote so far as a piece, and goes on in another file. The reader looks too late to know that it is the next one."""
    monkeypatch.setattr(logfiles, "LOOK_EVERY_S", 60.0)
    monkeypatch.setattr(logfiles, "UNSEEN_S", 0.0)  # it stood still for longer than that
    path = tmp_path / "0.log"
    path.write_bytes(written(0, b"F", b"1\n") + written(0, b"P", b"2\n"))
    os.utime(path, (WHEN_S, WHEN_S))

    def sleep(_):
        later = tmp_path / "later"
        later.write_bytes(written(1 if lost else 0.1, b"F", b"3\n") + written(1, b"F", b"4\n"))
        os.rename(later, path)
        alive.clear()

    alive = threading.Event()
    alive.set()
    told = b"".join(read(str(path), LogRequest(follow=True), alive.is_set, sleep))
    assert told == (b"1\n2\n" + logs.MISSING.text + b"3\n4\n" if lost else b"1\n23\n4\n")


WHEN_S = 1_767_366_245


def written(after_s, tag, text):
    """A line of a log, written so long after WHEN_S."""
    return datetime.fromtimestamp(WHEN_S + after_s, UTC).isoformat(timespec="microseconds").encode() + b" stdout " + tag + b" " + text


def test_a_log_that_is_rotated_while_it_is_opened_is_opened_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "0.log")
    for number in range(3):
        replace(path, b"%d\n" % number)
        if number < 2:
            rotate(path, 1, keep=4)
    found, names = [], logfiles.files_of

    def rotating(path):
        listed = names(path)
        if not found:
            found.append(rotate(path, 1, keep=4))
            replace(path, b"3\n")
        return listed

    monkeypatch.setattr(logfiles, "files_of", rotating)
    assert numbers(read(path, LogRequest(), lambda: False)) == [0, 1, 2, 3]
