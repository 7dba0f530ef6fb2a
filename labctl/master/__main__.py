"""`python -m labctl.master --lab FOLDER [--go-fd N] [--ready-fd N]`: started by `labctl up`, in the background."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labctl.errors import LabctlError


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

    if not _go(arguments.go_fd):
        return 0
    try:
        run(arguments.lab, arguments.ready_fd)
    except LabctlError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def _go(descriptor: int) -> bool:
    """Wait for the word of who started us; False if there will be none."""
    if descriptor < 0:
        return True
    with open(descriptor, "rb", buffering=0) as told:
        return bool(told.read(2))


if __name__ == "__main__":
    sys.exit(main())
