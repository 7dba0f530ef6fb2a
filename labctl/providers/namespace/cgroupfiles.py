"""Folders of control groups: which processes are in them, removing them, and moving processes out of them. Both versions of cgroups have the same files.

Who uses it: cgroup.py.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from labctl.errors import ProviderError


def tree(folder: Path) -> Iterator[Path]:
    """Yield the folder and all below it, deepest first."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from tree(Path(entry.path))
    yield folder


def pids(folder: Path) -> list[int]:
    """Return the processes of the folder and of all below it."""
    found: list[int] = []
    for each in tree(folder):
        with contextlib.suppress(OSError):
            found += [int(line) for line in (each / "cgroup.procs").read_text().split()]
    return found


def move_all(source: Path, target: Path) -> None:
    """Move every process of one group into another below it. Processes that fork meanwhile are found by the next round.

    Kernel threads, and processes of other pid namespaces, stay.
    """
    target.mkdir(exist_ok=True)
    for _ in range(20):
        pids = [pid for pid in (source / "cgroup.procs").read_text().split() if pid != "0"]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                (target / "cgroup.procs").write_text(pid)


def remove(folder: Path, deadline_s: float) -> None:
    """Remove each folder, deepest first. A dead process leaves its cgroup a moment after it is reaped, so busy ones are tried again."""
    deadline = time.monotonic() + deadline_s
    while folder.exists():
        busy = ""
        for each in tree(folder):
            try:
                each.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                busy = str(error)
        if not busy:
            return
        if time.monotonic() > deadline:
            raise ProviderError(f"cgroup {folder} stays busy ({busy}); processes: {pids(folder)[:10]}")
        time.sleep(0.002)


def remove_if_empty(folder: Path) -> None:
    """Remove the folder unless something is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def inherit(parent: Path, folder: Path, name: str) -> None:
    """Copy a setting from the parent if it is empty here."""
    if not (folder / name).read_text().strip():
        write(folder / name, (parent / name).read_text())


def write(path: Path, value: str) -> None:
    """Write a setting. Raises ProviderError."""
    try:
        path.write_text(value)
    except OSError as error:
        raise ProviderError(f"cannot write {value!r} to {path}: {error.strerror}") from error
