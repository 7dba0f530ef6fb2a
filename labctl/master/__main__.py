"""`python -m labctl.master --lab FOLDER [--ready-fd N]`: started by `labctl up`, in the background."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labctl.errors import LabctlError


def main() -> int:
    parser = argparse.ArgumentParser(prog="labctl.master", description="The master of one lab. Started by `labctl up`.")
    parser.add_argument("--lab", type=Path, required=True, help="the .labctl folder")
    parser.add_argument("--ready-fd", type=int, default=-1, help="a descriptor that is told when the API answers")
    arguments = parser.parse_args()
    from labctl.master.process import run

    try:
        run(arguments.lab, arguments.ready_fd)
    except LabctlError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
