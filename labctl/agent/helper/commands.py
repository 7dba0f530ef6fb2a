"""Programs of the machine, run with a list of words and input on a pipe. No shell, no inherited surprise, always a deadline."""

from __future__ import annotations

import os
import subprocess
from typing import Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEADLINE_S = 25.0


class Failed(Exception):
    """A program said no; the text is what it said."""


def run(argv: Sequence[str], stdin: bytes = b"", check: bool = True) -> bytes:
    """Its standard output. Raises Failed."""
    status, out, err = attempt(argv, stdin)
    if check and status:
        raise Failed(f"{argv[0]} exited {status}: {err.decode(errors='replace').strip()[-400:]}")
    return out


def attempt(argv: Sequence[str], stdin: bytes = b"") -> tuple:
    """(status, standard output, standard error); 127 if there is no such program."""
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
