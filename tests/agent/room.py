"""A throwaway machine for tests: own mount, network, pid, ipc, uts and cgroup namespaces, cgroups as on a namespace minion, a disk for overlays.

`run(argv)` runs a command in it and leaves nothing: the pid namespace's end kills all, the cgroups are removed from outside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_MOVE_DOWN = 'if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mkdir "$GROUP/init" && echo $$ >"$GROUP/init/cgroup.procs"; fi && exec "$@"'
"""The root of a version 2 tree may hold groups that have controllers, or processes, not both."""
INSIDE = "LABCTL_TEST_ROOM"
PATIENCE = float(os.environ.get("LABCTL_TEST_PATIENCE", "1"))

_ENTER = r"""
set -e
mount --make-rprivate /
v2=; [ -e /sys/fs/cgroup/cgroup.controllers ] && v2=1
controllers=$(cd /sys/fs/cgroup; for each in *; do mountpoint -q "$each" && [ "$each" != unified ] && echo "$each"; done; true)
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
if [ -n "$v2" ]; then mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs cgroup /sys/fs/cgroup
    for each in $controllers; do
        mkdir /sys/fs/cgroup/$each
        option=$each; [ $each = systemd ] && option=none,name=systemd
        mount -t cgroup -o $option cgroup /sys/fs/cgroup/$each || rmdir /sys/fs/cgroup/$each
    done
fi
ip link set lo up
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mount --bind "$ROOM" /var/lib
"$@" &
wait $!
"""  # the shell stays as the machine's init: it reaps what is orphaned


def hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [each for each in sorted(CGROUPS.iterdir()) if os.path.ismount(each) and each.name != "unified"]


def possible() -> bool:
    return os.geteuid() == 0 and all(shutil.which(name) for name in ("crun", "conmon", "unshare", "ip"))


def run(argv: list[str], timeout_s: float = 110.0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    name = f"labctl-test-{uuid.uuid4().hex[:8]}"
    disk = Path(tempfile.mkdtemp(prefix=name, dir="/var/tmp"))
    groups = [base / name for base in hierarchies()]
    _hand_on_controllers()
    for group in groups:
        group.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (group.parent / file).exists():  # version 1: none may enter while they are empty
                (group / file).write_text((group.parent / file).read_text())

    def join() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
    try:
        return subprocess.run(
            ["unshare", "--cgroup", "sh", "-c", _MOVE_DOWN, "sh", "unshare", *namespaces, "sh", "-c", _ENTER, "sh", *argv],
            preexec_fn=join,
            env={**os.environ, **(env or {}), INSIDE: "1", "ROOM": str(disk), "GROUP": str(groups[0])},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    finally:
        shutil.rmtree(disk, ignore_errors=True)
        for group in groups:
            _remove(group)


def _hand_on_controllers() -> None:
    """Version 2: the machine's root hands its controllers on, as a lab has it do so, too (providers/namespace/cgroup.py)."""
    file = CGROUPS / "cgroup.subtree_control"
    for name in ("cpu", "memory", "pids") if file.exists() else ():
        if name not in file.read_text().split():
            with contextlib.suppress(OSError):  # one that this machine has not: tests of it say so
                file.write_text(f"+{name}")


def _remove(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(folder)
                break
            except OSError:
                subprocess.run(["sleep", "0.02"], check=False)  # what was killed is still being reaped


def pytest_inside(path: str, *arguments: str, most_s: float = 110.0) -> None:
    """Run a test file again, inside, for at most `most_s` seconds; its failures are this test's failure."""
    finished = run(
        [sys.executable, "-m", "pytest", path, "-p", "no:cacheprovider", "-x", f"--timeout={30 * PATIENCE:g}", *arguments],
        most_s * PATIENCE,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]


def is_inside() -> bool:
    return os.environ.get(INSIDE) == "1"
