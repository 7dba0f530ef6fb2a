"""The master as a process: starting it, stopping it, and finding out whether it runs.

A running master holds a lock on STATE/ID/master.lock until its process ends, however it ends. The file holds its process id. It reports
"ready"
through an inherited pipe, so nothing polls. Half of its start is imports, which need no settings: `prepare_master` starts a process that
imports them while `up` still finds out what is wanted.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from labctl.errors import LabctlError
from labctl.paths import Paths, make_folder

GO, HOLD = b"go", b"ho"
"""The messages that a prepared master reads from its pipe (labctl/master/__main__.py)."""

IDLE_S = 30.0
LOADING_MAX_S = 600.0
_PF_EXITING = 0x4  # linux/sched.h
_PENDING = ("SigPnd:", "ShdPnd:")
Note = Callable[[str], None]


def quiet(_text: str) -> None:
    """Do nothing, as a progress callback."""


def master_pid(paths: Paths) -> int:
    """Return the running master's process id, or 0 if none runs."""
    try:
        with open(paths.state / "master.lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return 0
    except FileNotFoundError:
        return 0
    except BlockingIOError:
        return _read_pid(paths)


def _read_pid(paths: Paths) -> int:
    deadline = time.monotonic() + 1  # the master takes the lock a moment before it writes its pid
    while time.monotonic() < deadline:
        text = (paths.state / "master.lock").read_text()
        if text.strip().isdigit():
            return int(text)
        time.sleep(0.005)
    return 0


def ensure_master(paths: Paths, *, prepared: PreparedMaster | None = None, note: Note = quiet) -> None:
    """Return when a master answers: the running one, one that another command just starts, the prepared one, or a new one."""
    if _wait_for_running(paths, note):
        return
    try:
        (prepared or PreparedMaster(paths)).go(note=note)
    except LabctlError:  # perhaps because one that a killed command had told to go took the lock before it
        if not _wait_for_running(paths, note):
            raise


def _wait_for_running(paths: Paths, note: Note) -> bool:
    """Wait until the process that holds the lock answers. Return False if none holds it. Raises LabctlError if it does not answer."""
    waiting: _StartDeadline | None = None
    while pid := master_pid(paths):
        if master_run(paths):
            return True
        if waiting is None or waiting.pid != pid:
            waiting = _StartDeadline(pid, paths, note)
        if waiting.over():
            raise LabctlError("the lab's master has started but does not answer", mend=f"see {paths.master_log}")
        time.sleep(0.02)
    return False


class _StartDeadline:
    """A deadline for a starting master that moves while it works: reading a large store takes minutes, and a process that works is not
    stuck.

    It is over when the process has used no processor time for `IDLE_S`, or after `LOADING_MAX_S` at the latest. `note` is called each
    second with what the master is doing. `clock` and `used` tell the time and the process's processor time, in seconds.
    """

    def __init__(
        self,
        pid: int,
        paths: Paths,
        note: Note,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[int], float] | None = None,
    ) -> None:
        self.pid = pid
        self._clock, self._used = clock, used or _processor_s
        self._paths = paths
        self._note = note
        self._began = self._progress_at = self._noted_at = clock()
        self._used_s = 0.0

    def over(self) -> bool:
        now, used_s = self._clock(), self._used(self.pid)
        if used_s > self._used_s + 0.05:
            self._used_s, self._progress_at = used_s, now
        if now - self._noted_at >= 1.0:
            self._noted_at = now
            self._note(f"{self._doing()}, {now - self._began:.0f} s")
        return now - self._progress_at > IDLE_S or now - self._began > LOADING_MAX_S

    def _doing(self) -> str:
        if is_ending(self.pid):
            return "waiting for the previous master to end"
        try:
            return f"reading its store of {self._paths.store.stat().st_size / 1e6:.0f} MB"
        except OSError:
            return "starting"


def is_ending(pid: int) -> bool:
    """Tell whether that process was killed but has not ended yet. It keeps its lock and its sockets until then, and answers no request."""
    try:
        head, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
        pending = [int(line.split()[1], 16) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(_PENDING)]
    except (OSError, ValueError, IndexError):
        return False  # it has ended, or this is no Linux
    fields = rest.split()
    return fields[0] in "ZX" or bool(int(fields[6]) & _PF_EXITING) or any(each >> (signal.SIGKILL - 1) & 1 for each in pending)


def _processor_s(pid: int) -> float:
    """Return the processor time that the process has used, or 0 if that can't be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


class Started(Protocol):
    """What a prepared master uses of its process."""

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...


class PreparedMaster:
    """A prepared master: a process that imports its modules and then waits for `go`. Before that it reads no settings and takes no lock."""

    def __init__(self, paths: Paths, *, machines_first: bool = False) -> None:
        """Make a master. With `machines_first` its machines exist before it, as when a snapshot is restored, so it starts its SSH process at once."""
        self._paths = paths
        self.held = False
        early = ["--ssh-early"] if machines_first else []
        paths.master_log.parent.mkdir(parents=True, exist_ok=True)
        told, self._tell = os.pipe()
        self._hear, ready = os.pipe()
        with open(paths.master_log, "ab", buffering=0) as log:
            self._log_begin = log.tell()
            self._process: Started = subprocess.Popen(
                [sys.executable, "-m", "labctl.master", "--lab", str(paths.lab), "--go-fd", str(told), "--ready-fd", str(ready), *early],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(told, ready), start_new_session=True, cwd="/",
            )  # fmt: skip
        os.close(told)
        os.close(ready)

    def replace_running(self) -> None:
        """End the master that runs, if one does."""
        stop_master(self._paths)

    def go(self, *, hold: bool = False, note: Note = quiet) -> None:
        """Let the process become the lab's master, with the present settings, and return when it answers.

        Raises LabctlError with the last line of its log if it does not. With `hold` it leaves the machines alone until `release` is called;
        if its
        starter ends without calling it, the master ends.
        """
        with contextlib.suppress(BrokenPipeError):  # it has ended: its log says why
            os.write(self._tell, HOLD if hold else GO)
        waiting = _StartDeadline(self._process.pid, self._paths, note)
        said: list[int] = []
        while not said and not waiting.over():
            said, _, _ = select.select([self._hear], [], [], 0.5)
        if said and os.read(self._hear, 16):
            self.held = hold
            if not hold:
                self._close()
            return
        self.abandon()
        raise LabctlError(
            f"the master did not start: {_last_line(self._paths.master_log, self._log_begin)}", mend=f"see {self._paths.master_log}"
        )

    def release(self) -> None:
        """Tell a held master that the machines are there, so that it may work on them."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._tell, GO)
        self.held = False
        self._close()

    def abandon(self) -> None:
        """End the process if it has not become the master."""
        if self._tell >= 0:
            self._close()
            self._process.kill()
            self._process.wait()

    def _close(self) -> None:
        os.close(self._tell)
        os.close(self._hear)
        self._tell = -1


@contextlib.contextmanager
def prepare_master(paths: Paths) -> Iterator[PreparedMaster | None]:
    """Start a master early, for `ensure_master`. It ends afterwards if nobody needed it. None if one runs that goes on."""
    prepared = None if master_pid(paths) else PreparedMaster(paths)
    try:
        yield prepared
    finally:
        if prepared:
            prepared.abandon()


def _last_line(log: Path, begin: int) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(begin)
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return "its log is gone: was the lab destroyed meanwhile?"
    return lines[-1].strip() if lines else "it said nothing"


def stop_master(paths: Paths, *, timeout_s: float = 10.0) -> bool:
    """Ask the master to end, and kill it after the timeout. Return False if none ran."""
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
    """Return what the running master wrote about itself when it began to answer: pid, url, port, settings. Empty if none answers yet."""
    try:
        said = json.loads(paths.master_run.read_text())
    except (OSError, ValueError):
        return {}
    pid = said.get("pid")
    return said if pid == master_pid(paths) and not is_ending(pid) else {}  # otherwise a killed master left the file


@contextlib.contextmanager
def working_on(paths: Paths, what: str) -> Iterator[None]:
    """Hold the lab's lock while a command changes the lab. A second command gets an error that names the first, and changes nothing."""
    with _command_lock(paths) as file:
        file.truncate(0)
        file.write(f"`labctl {what}` (process {os.getpid()})")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
            if _same_file(file, paths) and not paths.settings.exists() and _names(paths.lab) <= {"command.lock", "log"}:
                shutil.rmtree(paths.lab, ignore_errors=True)  # the command made no lab, so the folder goes too


@contextlib.contextmanager
def _command_lock(paths: Paths) -> Iterator[IO[str]]:
    """Open and lock the lab's command.lock. If a `destroy` removed the folder while this command waited, the folder is made again."""
    while True:
        make_folder(paths.lab)
        try:
            file = open(paths.lab / "command.lock", "a+")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            continue  # another command just removed the folder
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read().strip() or "another labctl command"
                raise LabctlError(f"{who} is working on this lab", mend="run this again when it is done") from None
            if _same_file(file, paths):
                yield file
                return


def _same_file(file: IO[str], paths: Paths) -> bool:
    """Tell whether the open file is still the one that has its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(paths.lab / "command.lock"))
    except FileNotFoundError:
        return False


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
