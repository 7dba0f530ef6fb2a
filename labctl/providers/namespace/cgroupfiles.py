"""Folders of control groups: which processes are in them, removing them, and moving processes out of them. Both versions of cgroups have the same files.

Who uses it: cgroup.py and guards.py.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from labctl.errors import ProviderError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def unified(mountinfo: str) -> Path | None:
    """Return where version 2 is mounted, or None."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def walk(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Yield the folder and all below it, deepest first: a descriptor of it, one of its parent, and its name there.

    A machine's root may nest groups without end, so neither a stack of calls nor a path nor a descriptor for each level is kept.
    """
    try:
        here = os.open(folder, _FOLDER)
    except OSError:
        return
    left, names = [_below(here)], [folder.name]
    try:
        while names:
            if left[-1]:
                name = left[-1].pop()
                try:
                    below = os.open(name, _FOLDER, dir_fd=here)
                except OSError:
                    continue  # it was removed meanwhile
                os.close(here)
                here = below
                left.append(_below(here))
                names.append(name)
                continue
            try:
                parent = os.open("..", _FOLDER, dir_fd=here)
            except OSError:  # somebody else removes it, too
                return
            try:
                yield here, parent, names.pop()
            finally:
                os.close(here)
                here = parent
            left.pop()
    finally:
        os.close(here)


def _below(folder: int) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def pids(folder: Path) -> list[int]:
    """Return the processes of the folder and of all below it."""
    found: list[int] = []
    for here, _, _ in walk(folder):
        with contextlib.suppress(OSError), open(os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=here)) as file:
            found += [int(line) for line in file]
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
    while True:
        busy = ""
        for _, parent, name in walk(folder):
            try:
                os.rmdir(name, dir_fd=parent)
            except FileNotFoundError:
                pass
            except OSError as error:
                busy = str(error)
        if not folder.exists():
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


def write_below(folder: Path, name: str, value: str) -> None:
    """Write a setting in the folder and in all below it. A group that goes meanwhile needs it no more."""
    for here, _, _ in walk(folder):
        with contextlib.suppress(OSError), open(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=here), "w") as file:
            file.write(value)


def write(path: Path, value: str) -> None:
    """Write a setting. Raises ProviderError."""
    try:
        path.write_text(value)
    except OSError as error:
        raise ProviderError(f"cannot write {value!r} to {path}: {error.strerror}") from error
