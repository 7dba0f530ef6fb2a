"""A running master starts over in its own process: it ends its work, and waits for its word as a prepared master does.

Half of a master's start is imports, and a master that runs has done them. `labctl.lab.up` calls this where a snapshot replaces a lab whose master
runs, and where settings have changed that a master reads at its start: the master stops as it does at its end, lets go
of its lock, and then waits at two named pipes, STATE/takeover.go and STATE/takeover.ready.

    starter                                       master
    makes the pipes, sends SIGHUP  ─────────────► stops everything, lets go of its lock, opens the pipes
             ◄──── "over" on takeover.ready ──── waits
    "go" or "ho" on takeover.go    ─────────────► reads its settings, takes the lock, serves
             ◄──── "ready" ───────────────────── answers

A process whose code has changed since it imported it is not taken over, nor is one that does not stop in time: then a new one is started.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import labctl
from labctl import assets
from labctl.lab import process
from labctl.paths import Paths

OVER = b"over"
STOP_DEADLINE_S = 10.0
"""How long a master may take to stop, as with `stop_master`."""


class TakenOver(process.PreparedMaster):
    """The running master's process, as a prepared master. Until `replace_running` is called it goes on as the lab's master, whatever happens."""

    def __init__(self, paths: Paths, pid: int) -> None:
        self._paths = paths
        self.held = False
        self._log_begin = _size(paths.master_log)
        self._process = self._running = _Running(pid)
        self._tell = self._hear = -1

    def replace_running(self) -> None:
        """Let the running master stop and wait. If it can't, it is ended, and a new process takes its place."""
        if process.master_pid(self._paths) == self._running.pid and self._over():
            return
        if self._tell >= 0:
            self.abandon()
        process.stop_master(self._paths)
        super().__init__(self._paths, machines_first=True)

    def _over(self) -> bool:
        """Return whether it stopped and waits for its word."""
        with _pipes(self._paths) as (go, ready):
            self._tell = os.open(go, os.O_RDWR | os.O_CLOEXEC)  # writing only would wait for a reader
            self._hear = os.open(ready, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._running.tell(signal.SIGHUP)
            said, _, _ = select.select([self._hear, self._running.descriptor], [], [], STOP_DEADLINE_S)
            return self._hear in said and os.read(self._hear, len(OVER)) == OVER


class _Running:
    """A process that is not our child, as much of Popen as a prepared master needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.descriptor = os.pidfd_open(pid)  # it can be read when the process has ended

    def tell(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, number)

    def kill(self) -> None:
        self.tell(signal.SIGKILL)

    def wait(self) -> int:
        select.select([self.descriptor], [], [])
        return 0


@contextlib.contextmanager
def prepare_master(paths: Paths) -> Iterator[process.PreparedMaster]:
    """Prepare the master of a lab whose machines exist before it does: the running one's process, or else a new one.

    A running master goes on until `replace_running`. Afterwards the process ends if nobody needed it.
    """
    prepared = _running(paths) or process.PreparedMaster(paths, machines_first=True)
    try:
        yield prepared
    finally:
        prepared.abandon()


def _running(paths: Paths) -> TakenOver | None:
    run = process.master_run(paths)
    if not run.get("startsOver") or run.get("python") != sys.executable or changed_since(run.get("begun", 0.0)):
        return None
    with contextlib.suppress(OSError):  # it has just ended
        return TakenOver(paths, run["pid"])
    return None


def _code() -> tuple[Path, ...]:
    """Return the folders whose files a master reads once and keeps."""
    return Path(labctl.__file__).parent, assets.root() / "templates", assets.root() / "provision"


def changed_since(begun: float, code: Sequence[Path] = (), libraries: Path | None = None) -> bool:
    """Tell whether a process that began then, in seconds since 1970, may run other code than one that begins now.

    A file's change time is compared, which no installer can set back; for the libraries that of their folder, in which an installation makes a folder.
    """
    if (libraries or Path(sysconfig.get_path("purelib"))).stat().st_mtime >= begun:
        return True
    for folder, _, names in itertools.chain.from_iterable(map(os.walk, code or _code())):
        if any(not name.endswith(".pyc") and os.stat(os.path.join(folder, name)).st_ctime >= begun for name in names):
            return True
    return False


@contextlib.contextmanager
def _pipes(paths: Paths) -> Iterator[tuple[Path, Path]]:
    """Make the two named pipes. They are needed only until both sides have opened them."""
    both = paths.takeover_go, paths.takeover_ready
    try:
        for path in both:
            path.unlink(missing_ok=True)  # left by a starter that was killed
            os.mkfifo(path, 0o600)
        yield both
    finally:
        for path in both:
            path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
