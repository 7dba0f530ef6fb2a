"""Programs that run in interpreters of their own, because they enter namespaces. They use only the standard library and are started by
path.

    lab_init   becomes the lab's init: its own pid and mount namespace, the lab's network; then it waits
    boot       becomes one machine: network, pid, mount, uts, ipc, cgroup namespaces, root file system, then sshd
    dial       an ssh ProxyCommand: joins the lab's network and relays
    attempt    tries, and removes at once, everything that a lab needs of this kernel

A fresh interpreter (about 20 ms, no site packages) may change its namespaces freely; the master can't, because it has many threads.
"""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[4]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module; sys.exit(import_module(sys.argv[2]).main(sys.argv[3:]))"

_QUIET = "import _signal as s; s.getsignal(2) is s.default_int_handler and s.signal(2, s.SIG_DFL); "
"""Ctrl-C in a terminal is for all of its programs, and the one that a person's ssh began has nothing to say to it."""


def command(program: str, *arguments: str) -> list[str]:
    """Return the argv that runs one of the programs above."""
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        (_QUIET if program == "dial" else "") + _START,
        str(_ROOT),
        f"{__name__}.{program}",
        *arguments,
    ]
