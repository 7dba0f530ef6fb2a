"""Runs programs of the machine: a list of words, input on a pipe, a small environment, always a deadline, never a shell."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import Iterator, Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEADLINE_S = 25.0


class Failed(Exception):
    """A program failed. The text is what the program wrote."""


def run(argv: Sequence[str], stdin: bytes = b"", check: bool = True) -> bytes:
    """Run a program and return its standard output. Raises Failed if it exits with another status than 0, unless `check` is False."""
    status, out, err = attempt(argv, stdin)
    if check and status:
        raise Failed(f"{argv[0]} exited {status}: {err.decode(errors='replace').strip()[-400:]}")
    return out


def lines(argv: Sequence[str], check: bool = True) -> Iterator[str]:
    """Yield the lines of a program's standard output as they come: a pod decides how long some are, and none is held. Raises Failed as `run` does."""
    environment, nothing = {"PATH": PATH, "LC_ALL": "C"}, subprocess.DEVNULL
    try:
        process = subprocess.Popen(list(argv), stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, env=environment)
    except FileNotFoundError:
        raise Failed(f"{argv[0]} is not installed") from None
    late = threading.Timer(DEADLINE_S, process.kill)
    late.start()
    assert process.stdout is not None
    try:
        for line in process.stdout:
            yield line.decode(errors="replace")
        if process.wait() and check:
            raise Failed(f"{argv[0]} exited {process.returncode}")
    finally:
        late.cancel()
        process.kill()  # whoever has read enough lets the rest go
        process.stdout.close()
        process.wait()


def attempt(argv: Sequence[str], stdin: bytes = b"") -> tuple:
    """Run a program. Return (status, standard output, standard error); the status is 127 if there is no such program, 124 after DEADLINE_S."""
    environment = {"PATH": PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(list(argv), input=stdin, capture_output=True, env=environment, timeout=DEADLINE_S, check=False)
    except FileNotFoundError:
        return 127, b"", f"{argv[0]} is not installed".encode()
    except subprocess.TimeoutExpired:
        return 124, b"", f"{argv[0]} took longer than {DEADLINE_S:.0f} s".encode()
    return done.returncode, done.stdout, done.stderr


def installed(program: str) -> bool:
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in PATH.split(":"))
