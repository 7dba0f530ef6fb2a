"""A command in a container's terminal: a stand-in for crun makes the terminal, the real code carries its bytes and its size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CRUN = """
import array, os, pty, signal, socket, sys
path, *command = sys.argv[1:]
if not command:
    sys.exit(7)  # it could not start: no terminal is sent
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in any container: a test run of `nohup` ignores it, and the command would outlive its terminal
    os.execvp(command[0], command)
with socket.socket(socket.AF_UNIX) as console:
    console.connect(path)
    console.sendmsg([b"/dev/ptmx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [terminal]))])
os.close(terminal)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
AGENT = """
import os, sys
from labctl.agent import terminal
crun, folder, *command = sys.argv[1:]
sys.exit(terminal.run(lambda path: [sys.executable, crun, path, *command], os.environ, folder, os.open("/dev/null", os.O_RDONLY)))
"""


class Window:
    """A person's terminal, with the agent in it."""

    def __init__(self, folder: Path, *command: str, typed: bytes = b"") -> None:
        """`typed` is what the person typed before the agent looked at the terminal."""
        (folder / "crun").write_text(CRUN)
        self.master, slave = pty.openpty()
        self.resize(24, 80)
        os.write(self.master, typed)
        argv = [sys.executable, "-c", AGENT, str(folder / "crun"), str(folder), *command]

        def controlling() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=controlling)
        os.close(slave)
        self.said = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, wanted: bytes, deadline_s: float = 20.0) -> None:
        end = time.monotonic() + deadline_s
        while wanted not in self.said:
            assert time.monotonic() < end, self.said[-200:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.said += os.read(self.master, 65536)

    def end(self) -> int:
        """Reads the rest; the exit status."""
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            if not data:
                break
            self.said += data
        return self.process.wait(20)


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Callable[..., Window]]:
    opened: list[Window] = []

    def make(*command: str, typed: bytes = b"") -> Window:
        opened.append(Window(tmp_path, *command, typed=typed))
        return opened[-1]

    yield make
    for each in opened:
        each.process.kill()
        each.process.wait()
        os.close(each.master)
    deadline = time.monotonic() + 20
    while still := [line for line in command_lines() if str(tmp_path) in line]:  # the command's terminal is gone with the agent
        assert time.monotonic() < deadline, still
        time.sleep(0.01)


def command_lines() -> Iterator[str]:
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield each.read_text(errors="replace").replace("\0", " ")


def test_it_follows_the_window(window: Callable[..., Window]) -> None:
    opened = window("sh", "-c", "while true; do stty size; sleep 0.05; done")
    opened.until(b"24 80")
    for rows, columns in ((50, 132), (30, 90)):
        opened.resize(rows, columns)
        opened.until(b"%d %d" % (rows, columns))


def test_keys_output_and_exit_status_pass(window: Callable[..., Window], tmp_path: Path) -> None:
    opened = window("sh", "-c", "stty -echo; echo ready; read line; echo got $line; exit 3")
    opened.until(b"ready")
    os.write(opened.master, b"hello\r")
    assert opened.end() == 3
    assert b"got hello" in opened.said
    assert [path.name for path in tmp_path.iterdir()] == ["crun"], "the socket is gone"


def test_what_is_typed_before_the_command_starts_reaches_it(window: Callable[..., Window]) -> None:
    """A program opens a shell and writes its first command at once: nothing tells it when the shell is there."""
    opened = window("sh", "-c", "read line; echo got $line; exit 3", typed=b"hello\r")
    opened.until(b"got hello")
    assert opened.end() == 3


def test_more_input_than_the_command_reads_holds_up_no_output(window: Callable[..., Window]) -> None:
    """A command that writes before it reads: neither side may wait for the other."""
    script = "stty raw -echo; echo ready; head -c 300000 /dev/zero | tr '\\0' x; echo; head -c 100000 | wc -c"
    opened = window("sh", "-c", script)
    opened.until(b"ready")
    sent = 0
    while sent < 100_000:
        readable, writable, _ = select.select([opened.master], [opened.master], [], 20)
        assert readable or writable
        if readable:
            opened.said += os.read(opened.master, 65536)
        if writable:
            sent += os.write(opened.master, b"y" * min(1000, 100_000 - sent))
    assert opened.end() == 0
    assert opened.said.count(b"x") == 300_000
    assert b"100000" in opened.said[-20:]


def test_a_command_that_could_not_start_is_no_terminal(window: Callable[..., Window]) -> None:
    assert window().end() == 7
