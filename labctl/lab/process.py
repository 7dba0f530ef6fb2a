"""The master as a process: is it running, start it, stop it.

The running master holds a lock on STATE/ID/master.lock for as long as it lives, however it ends; the file holds its process id.
Its answer "ready" comes through an inherited pipe, so that nobody polls. Half of its start is imports, which need no settings: `beginning` lets
them happen while its starter still finds out what is wanted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from labctl.errors import LabctlError
from labctl.paths import Paths


def master_pid(paths: Paths) -> int:
    """The running master's process id; 0 if none runs."""
    try:
        with open(paths.state / "master.lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return 0
    except FileNotFoundError:
        return 0
    except BlockingIOError:
        return _read_pid(paths)


def _read_pid(paths: Paths) -> int:
    deadline = time.monotonic() + 1  # between taking the lock and writing the pid there is a moment
    while time.monotonic() < deadline:
        text = (paths.state / "master.lock").read_text()
        if text.strip().isdigit():
            return int(text)
        time.sleep(0.005)
    return 0


def ensure_master(paths: Paths, *, begun: Beginning | None = None, timeout_s: float = 30.0) -> None:
    """A master that answers: the one that runs, the one that somebody is just starting, the one that was begun for this, or a new one."""
    deadline = time.monotonic() + timeout_s
    while master_pid(paths):
        if master_run(paths):
            return
        if time.monotonic() > deadline:
            raise LabctlError("the lab's master has begun but does not answer", mend=f"see {paths.master_log}")
        time.sleep(0.02)
    (begun or Beginning(paths)).go()


class Beginning:
    """A master's process that imports what it needs and then waits for `go`; it reads no settings and takes no lock before."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        paths.master_log.parent.mkdir(parents=True, exist_ok=True)
        told, self._tell = os.pipe()
        self._hear, ready = os.pipe()
        with open(paths.master_log, "ab", buffering=0) as log:
            self._log_begin = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "labctl.master", "--lab", str(paths.lab), "--go-fd", str(told), "--ready-fd", str(ready)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(told, ready), start_new_session=True, cwd="/",
            )  # fmt: skip
        os.close(told)
        os.close(ready)

    def go(self, *, timeout_s: float = 30.0) -> None:
        """Be the lab's master, with the settings of now. Returns when it answers. LabctlError carries the last line of its log."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: its log says why
            os.write(self._tell, b"go")
        said, _, _ = select.select([self._hear], [], [], timeout_s)
        if said and os.read(self._hear, 16):
            self._close()
            return
        self.abandon()
        raise LabctlError(
            f"the master did not start: {_last_line(self._paths.master_log, self._log_begin)}", mend=f"see {self._paths.master_log}"
        )

    def abandon(self) -> None:
        """It was not needed, or says nothing. Nothing to do once it is the master."""
        if self._tell >= 0:
            self._close()
            self._process.kill()
            self._process.wait()

    def _close(self) -> None:
        os.close(self._tell)
        os.close(self._hear)
        self._tell = -1


@contextlib.contextmanager
def beginning(paths: Paths) -> Iterator[Beginning | None]:
    """A master that begins meanwhile, for `ensure_master`; None where one runs. It is gone afterwards if nobody needed it."""
    begun = None if master_pid(paths) else Beginning(paths)
    try:
        yield begun
    finally:
        if begun:
            begun.abandon()


def _last_line(log: Path, begin: int) -> str:
    with open(log, "rb") as file:
        file.seek(begin)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def stop_master(paths: Paths, *, timeout_s: float = 10.0) -> bool:
    """End the master in order, by force after the timeout. False if none ran."""
    pid = master_pid(paths)
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        os.kill(pid, signal.SIGTERM)
        if not _ended(paths, descriptor, timeout_s):
            os.kill(pid, signal.SIGKILL)
            _ended(paths, descriptor, 5.0)
        if descriptor is not None:
            os.close(descriptor)
    return True


def _ended(paths: Paths, descriptor: int | None, timeout_s: float) -> bool:
    if descriptor is not None:
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        return bool(ready)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not master_pid(paths):
            return True
        time.sleep(0.02)
    return False


def master_run(paths: Paths) -> dict:
    """What the running master says of itself, once it answers: pid, url, port, settings. Empty before that, and if none runs."""
    try:
        said = json.loads(paths.master_run.read_text())
    except (OSError, ValueError):
        return {}
    return said if said.get("pid") == master_pid(paths) else {}  # else it is what a killed one left


@contextlib.contextmanager
def working_on(paths: Paths, what: str) -> Iterator[None]:
    """One command at a time changes a lab. The second is told who is at it, and changes nothing."""
    paths.lab.mkdir(parents=True, exist_ok=True)
    with open(paths.lab / "command.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another labctl command"
            raise LabctlError(f"{who} is working on this lab", mend="run this again when it is done") from None
        file.truncate(0)
        file.write(f"`labctl {what}` (process {os.getpid()})")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
            if (
                paths.lab.is_dir()
                and not paths.settings.exists()
                and {entry.name for entry in paths.lab.iterdir()} <= {"command.lock", "log"}
            ):
                shutil.rmtree(paths.lab, ignore_errors=True)  # nothing was made
