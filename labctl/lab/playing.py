"""One experiment at a time plays on a lab: a second one would restore the lab under the first one's load, and call what it then sees a measurement."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from labctl.errors import LabctlError


@contextlib.contextmanager
def playing(lock: Path) -> Iterator[None]:
    """Hold the file's lock. Raises LabctlError, which names the process, if another experiment has it; one that was killed has it no longer."""
    with contextlib.ExitStack() as held:
        file = _locked(lock, held)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        held.callback(lock.unlink, missing_ok=True)
        yield


def _locked(lock: Path, held: contextlib.ExitStack) -> IO[str]:
    """Return the file, open and locked. One that its holder removed while we waited is no lock any more."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = held.enter_context(open(lock, "a+"))  # noqa: SIM115 - closed with `held`
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read(20).strip() or "unknown"
            raise LabctlError(
                f"an experiment is being played on this lab already (process {who})", mend="wait for its end, or press Ctrl-C there"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                return file
