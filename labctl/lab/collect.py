"""A script that collects for `export` everything from a machine in one session. Its text is sent over SSH and run there, so it uses only
the standard
library of Python 3.9 and imports nothing of labctl.

It prints one JSON object: {file name: text}. If a command is missing, fails or hangs, only its own file is missing. Of a long file the end is
kept.
"""

# ruff: noqa: UP006, UP035
import glob
import json
import os
import shutil
import subprocess
from typing import Dict, List

COMMANDS = {
    "iptables.txt": ["iptables-save"],
    "addresses.txt": ["ip", "-details", "address"],
    "routes.txt": ["ip", "route", "show", "table", "all"],
    "neighbours.txt": ["ip", "neighbour"],
    "forwarding.txt": ["bridge", "fdb", "show"],
    "bird.txt": ["birdc", "show", "route", "all"],
    "ovs.txt": ["ovs-vsctl", "show"],
    "conntrack.txt": ["conntrack", "-L"],
    "processes.txt": ["ps", "-ef"],
    "mounts.txt": ["cat", "/proc/mounts"],
    "facts.json": ["/usr/bin/python3", "/opt/labctl/agent", "facts"],
}
OPTIONAL = ("birdc", "ovs-vsctl", "bridge")
COMMAND_S = 10
FILE_BYTES_MAX = 256 * 1024
LOGS_MAX = 200


def main() -> None:
    found: Dict[str, str] = {}
    for name, argv in COMMANDS.items():
        if shutil.which(argv[0]) or argv[0] not in OPTIONAL:
            found[name] = _run(argv)
    found["agent.log"] = _end_of("/var/log/labctl/agent.log")
    for path in sorted(glob.glob("/var/log/pods/*/*/*.log"), key=_changed)[-LOGS_MAX:]:
        found[os.path.relpath(path, "/var/log")] = _end_of(path)
    print(json.dumps(found))  # noqa: T201 - on a machine, for export


def _run(argv: List[str]) -> str:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"could not be read: {error}\n"
    text = done.stdout[-FILE_BYTES_MAX:].decode("utf-8", "replace")
    return text + (f"\n(exit {done.returncode}) {done.stderr.decode('utf-8', 'replace')}" if done.returncode else "")


def _end_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - FILE_BYTES_MAX))
            return file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        return f"could not be read: {error}\n"


def _changed(path: str) -> float:
    try:
        return os.path.getmtime(path)
    except OSError:
        return 0.0


if __name__ == "__main__":
    main()
