"""The helper's programs: what they print may be as long as pods make it."""

import subprocess
import sys
import tracemalloc

import pytest

from labctl.agent.helper import commands

LONG = "for n in range(200_000): print('udp 17 29 src=10.246.1.2 dst=10.245.1.9 sport=1024 dport=', n)"


def program(text):
    return [sys.executable, "-S", "-c", text]


def test_a_long_answer_is_read_line_by_line_and_never_held():
    tracemalloc.start()
    try:
        count = sum(line.startswith("udp 17") for line in commands.lines(program(LONG)))
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200_000 and most_bytes < 1 << 20


def test_who_has_read_enough_ends_the_program(monkeypatch):
    begun = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **more: begun.append(popen(*words, **more)) or begun[-1])
    endless = commands.lines(program("while True: print('more', flush=True)"))
    assert next(endless) == "more\n"
    endless.close()
    assert begun[0].returncode == -9


def test_a_failure_is_told_after_what_was_said(monkeypatch):
    failing = program("print('one'); raise SystemExit(3)")
    assert list(commands.lines(failing, check=False)) == ["one\n"]
    with pytest.raises(commands.Failed, match="exited 3"):
        list(commands.lines(failing))
    monkeypatch.setattr(commands, "DEADLINE_S", 0.1)
    with pytest.raises(commands.Failed, match="exited -9"):
        list(commands.lines(program("import time; time.sleep(60)")))
    with pytest.raises(commands.Failed, match="not installed"):
        list(commands.lines(["labctl-no-such-program"]))
