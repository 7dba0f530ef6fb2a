"""Where the `labctl` command begins.

Modules take a tenth of a second to import. Ctrl-C ends the process at once meanwhile, as it does a program in C, where Python would print where it was;
from then on it is an exception, which `main` answers.
"""

from __future__ import annotations

import signal

_as_it_was = signal.getsignal(signal.SIGINT)
if _as_it_was is signal.default_int_handler:  # it is ignored in a shell's background, and stays so
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from labctl.cli.main import main  # noqa: E402 - after Ctrl-C was seen to

signal.signal(signal.SIGINT, _as_it_was)

__all__ = ["main"]
