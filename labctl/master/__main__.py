"""`python -m labctl.master --lab FOLDER [--go-fd N] [--ready-fd N] [--ssh-early]`: started by `labctl up`, in the background."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import LabctlError

if TYPE_CHECKING:
    from labctl.remote.child import SshChild

GO = b"go"
HOLD = b"ho"  # answer requests, but leave the machines alone until GO follows


def main() -> int:
    parser = argparse.ArgumentParser(prog="labctl.master", description="The master of one lab. Started by `labctl up`.")
    parser.add_argument("--lab", type=Path, required=True, help="the .labctl folder")
    parser.add_argument("--go-fd", type=int, default=-1, help="a descriptor to wait for before anything is read: its end means never mind")
    parser.add_argument("--ready-fd", type=int, default=-1, help="a descriptor that is told when the API answers")
    parser.add_argument(
        "--ssh-early", action="store_true", help="start the SSH process now: the machines will be there before this one is ready"
    )
    arguments = parser.parse_args()
    if sys.stderr is not None:
        faulthandler.enable()  # into its log
    begun = time.time()
    from labctl.master.imports import import_http_server, without_garbage_collection

    with without_garbage_collection():
        ssh = _begin_ssh() if arguments.ssh_early else None
        from labctl.master.process import Pipes, run

        import_http_server()

    pipes: Pipes | None = Pipes(arguments.go_fd, arguments.ready_fd, ssh)
    try:
        while pipes and (word := _word(pipes.go)):
            pipes = run(arguments.lab, pipes, begun, hold=word == HOLD)
    except LabctlError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def _begin_ssh() -> SshChild:
    """Start the SSH process, which imports what it needs while this one does the same."""
    from labctl.remote.child import SshChild

    return SshChild()


def _word(descriptor: int) -> bytes:
    """Wait for the message of the process that started this one: GO or HOLD, or nothing if that process has ended."""
    return os.read(descriptor, len(GO)) if descriptor >= 0 else GO


if __name__ == "__main__":
    sys.exit(main())
