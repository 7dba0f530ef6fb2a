from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from labctl.providers import locks

_HOLD = "import sys; from labctl.providers import locks; fd = locks.hold(sys.argv[1]); print(fd is not None, flush=True); "


def holding(path: Path, then: str) -> subprocess.Popen[str]:
    """A process that lives at `path` and then does something else; what it said is whether it got it."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD + then, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() in ("True\n", "False\n")
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_the_kernel_names_who_lives_there_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    assert locks.holder(path) == 0
    process = holding(path, "sys.stdin.read()")
    assert locks.holder(path) == process.pid
    end(process)
    assert locks.holder(path) == 0


def test_it_lasts_across_exec_and_is_not_shared_with_children(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    process = holding(path, "import os; os.execvp('sh', ['sh', '-c', 'echo executed; cat'])")
    assert process.stdout
    assert process.stdout.readline() == "executed\n"
    assert locks.holder(path) == process.pid
    end(process)
    assert locks.holder(path) == 0


def test_only_one_lives_there(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    first = holding(path, "sys.stdin.read()")
    second = subprocess.run([sys.executable, "-c", _HOLD, str(path)], capture_output=True, text=True)
    assert second.stdout == "False\n"
    end(first)


def test_an_operation_lasts_as_long_as_what_inherited_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locks.busy(path)
    with locks.exclusive(path) as fd:
        assert locks.busy(path)
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[fd])
    assert locks.busy(path)
    child.communicate()
    assert not locks.busy(path)


def test_a_lock_file_that_was_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    entered = threading.Event()
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with locks.exclusive(path) as fd:
            assert os.path.samestat(os.fstat(fd), path.stat())
            entered.set()

    thread = threading.Thread(target=second)
    with locks.exclusive(path):
        thread.start()
        waiting.wait()
        path.unlink()
    thread.join(5)
    assert entered.is_set()


def test_operations_are_one_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most = []

    def work() -> None:
        for _ in range(20):
            with locks.exclusive(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
