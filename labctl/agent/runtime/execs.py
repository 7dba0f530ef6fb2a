"""A further process in a running container: as its first one, but for the words of the command.

crun takes user, groups, capabilities and environment only from a process file; one in memory leaves nothing to clean, however its reader ends.
"""

from __future__ import annotations

import json
import os
from typing import Sequence

from .records import read_json


def process_file(bundle: str, argv: Sequence[str], tty: bool = False) -> int:
    """Return a file descriptor for `crun exec --process /proc/self/fd/N`, to be inherited. Raises OSError if the container is gone."""
    config = read_json(os.path.join(bundle, "config.json"))
    if config is None:
        raise FileNotFoundError(bundle)
    process = {**config["process"], "args": list(argv), "terminal": tty}
    if tty and not any(each.startswith("TERM=") for each in process["env"]):
        process["env"] = [*process["env"], "TERM=xterm"]
    descriptor = os.memfd_create("process", 0)
    os.write(descriptor, json.dumps(process).encode())
    return descriptor
