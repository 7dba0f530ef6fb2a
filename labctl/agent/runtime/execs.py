"""A further process in a running container: as its first one, but for the words of the command.

crun takes user, groups, capabilities and environment only from a process file; one in memory leaves nothing to clean, however its reader ends.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import List, Sequence

from .records import read_json

_AS_KILLABLE = 'echo "$1" >/proc/self/oom_score_adj; shift; exec "$@"'


def as_killable(bundle: str, argv: Sequence[str]) -> List[str]:
    """Return a command that runs `argv`, which the kernel kills as soon as the container's first process when memory runs out.

    crun sets this for that process only; what it starts later would be spared as the agent is.
    """
    return ["/bin/sh", "-c", _AS_KILLABLE, "sh", str(_oom_score_adj(bundle)), *argv]


def be_killable(bundle: str) -> None:
    """The same for this process, which is about to become the command."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(_oom_score_adj(bundle)))


def _oom_score_adj(bundle: str) -> int:
    """Return the first process's word, which never asks for more than this machine's root may give."""
    return int(((read_json(os.path.join(bundle, "config.json")) or {}).get("process") or {}).get("oomScoreAdj", 0))


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
