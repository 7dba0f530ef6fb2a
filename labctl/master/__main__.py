"""`python -m labctl.master --lab FOLDER [--go-fd N] [--ready-fd N]`: started by `labctl up`, in the background."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from labctl.errors import LabctlError

GO = b"go"
HOLD = b"ho"  # answer, and leave the machines alone until GO follows


def main() -> int:
    parser = argparse.ArgumentParser(prog="labctl.master", description="The master of one lab. Started by `labctl up`.")
    parser.add_argument("--lab", type=Path, required=True, help="the .labctl folder")
    parser.add_argument("--go-fd", type=int, default=-1, help="a descriptor to wait for before anything is read: its end means never mind")
    parser.add_argument("--ready-fd", type=int, default=-1, help="a descriptor that is told when the API answers")
    arguments = parser.parse_args()
    from labctl.master.imports import import_http_server, without_collections

    with without_collections():
        from labctl.master.process import run

        import_http_server()

    word = _word(arguments.go_fd)
    if not word:
        return 0
    try:
        run(arguments.lab, arguments.ready_fd, hold_fd=arguments.go_fd if word == HOLD else -1)
    except LabctlError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def _word(descriptor: int) -> bytes:
    """Wait for the word of who started us: GO or HOLD. Empty if there will be none."""
    return os.read(descriptor, len(GO)) if descriptor >= 0 else GO


if __name__ == "__main__":
    sys.exit(main())
