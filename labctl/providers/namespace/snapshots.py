"""Copies the machines' file systems into a folder, and makes machines from such a folder.

    FOLDER/machines.json        which machines there are, and which of them were on
    FOLDER/NAME/                spec.json host_key(.pub) upper/ storage/: everything of a machine that is off

Saving takes every machine's operation lock, freezes all, calls `meanwhile`, copies all at the same time, and thaws. Copies share blocks
with the original
if the file system can (reflink), and holes stay holes. Processes are not saved: after a load, a machine that was on is booted again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from labctl.decoding import from_json
from labctl.errors import ProviderError
from labctl.paths import read_file, remove_tree
from labctl.providers.namespace import apart
from labctl.providers.namespace.cgroup import Cgroups
from labctl.providers.namespace.machine import NamespaceMachine
from labctl.providers.protocol import MACHINE_NAME

_KEPT = ("spec.json", "host_key", "host_key.pub", "upper", "storage")
_FILES = ("spec.json", "host_key", "host_key.pub")
_RECORD_BYTES_MAX = 1 << 20  # two hundred machines have 10 KB
_AT_A_TIME = 8
_FREEZE_DEADLINE_S = 10.0
# It thaws at the end of its input: that is when the save is done, and also when the saving process was killed.
_THAW = 'while read -r _; do :; done; for file; do echo "$WORD" > "$file"; done'


class Saved(msgspec.Struct, frozen=True):
    """One machine in machines.json."""

    name: Annotated[str, msgspec.Meta(pattern=rf"\A{MACHINE_NAME}\Z")]
    was_on: bool


class Loaded(NamedTuple):
    """What a load leaves to do: machines to boot, and folders to remove."""

    booting: Sequence[NamespaceMachine]
    gone: Sequence[Path]


def save(machines: Mapping[str, NamespaceMachine], cgroups: Cgroups, folder: Path, meanwhile: Callable[[], None]) -> None:
    """Save the machines, as protocol.Snapshots.save_machines says."""
    with contextlib.ExitStack() as operations:
        for name in sorted(machines):
            operations.enter_context(machines[name].operation())
        there = [machine for machine in machines.values() if machine.spec() and (machine.folder / "host_key.pub").exists()]
        saved = [Saved(machine.name, machine.running()) for machine in there]
        with _at_rest(cgroups, [each.name for each in saved if each.was_on]):
            meanwhile()
            _copy([(_parts(machine.folder), folder / machine.name) for machine in there])
    (folder / "machines.json").write_bytes(msgspec.json.encode(saved))


def load(machines: Mapping[str, NamespaceMachine], make: Callable[[str], NamespaceMachine], incoming: Path, folder: Path) -> Loaded:
    """Do what protocol.Snapshots.load_machines says, except for the boots."""
    saved = read(folder)
    names = [each.name for each in saved]
    for name in machines.keys() - set(names):
        machines[name].destroy()
    remove_tree(incoming)  # left by a load that was killed
    try:
        new = {name: incoming / f"{name}-{uuid.uuid4().hex}" for name in names}
        _copy([(_parts(folder / name), new[name]) for name in names])
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            gone = list(pool.map(lambda name: make(name).replace(new[name]), names))
    finally:
        remove_tree(incoming)
    return Loaded([make(each.name) for each in saved if each.was_on], [folder for folder in gone if folder])


def boot(loaded: Loaded, lower: Callable[[], Path]) -> None:
    """Boot what was on, side by side, and meanwhile remove what was there before. The first failure is raised when all have been tried."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        below = lower() if loaded.booting else Path()
        work = [pool.submit(_boot, machine, below) for machine in loaded.booting]
        work += [pool.submit(remove_tree, folder) for folder in loaded.gone]
        for done in work:
            done.result()


def _boot(machine: NamespaceMachine, lower: Path) -> None:
    spec = machine.spec()
    if spec is None:
        raise ProviderError(f"{machine.name}: the snapshot has no specification of it")
    machine.up(spec, lower, resume=True)


def read(folder: Path) -> list[Saved]:
    """Return the machines of a snapshot. Raises ProviderError if it is damaged, or if a part of one is a link: a machine's disk would be that of this host."""
    mend = "labctl snapshot delete, and save it again"
    try:
        saved = from_json(read_file(folder / "machines.json", _RECORD_BYTES_MAX), list[Saved])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderError(f"the snapshot's machines can't be read: {error}", mend=mend) from error
    if len({each.name for each in saved}) < len(saved):
        raise ProviderError("the snapshot has a machine twice", mend=mend)
    for each in saved:
        for path in (folder / each.name, *(folder / each.name / part for part in _KEPT)):
            if path.is_symlink():
                raise ProviderError(f"{path} is a link, which no snapshot has", mend=mend)
            wanted = path.is_file if path.name in _FILES else path.is_dir
            if path.exists() and (not wanted() or (path.name in _FILES and path.stat().st_size > _RECORD_BYTES_MAX)):
                raise ProviderError(f"{path} is not what a snapshot has there", mend=mend)
    return saved


def _parts(folder: Path) -> list[Path]:
    return [folder / part for part in _KEPT if (folder / part).exists()]


@contextlib.contextmanager
def _at_rest(cgroups: Cgroups, names: Sequence[str]) -> Iterator[None]:
    """Freeze these machines inside the block. Those that a person had paused stay paused."""
    pausing = [name for name in names if not cgroups.frozen(name)]
    with _thawing(cgroups, pausing):
        for name in pausing:
            cgroups.freeze(name, True)  # all start to stop at the same time
        for name in names:
            if not cgroups.freeze_all(name, _FREEZE_DEADLINE_S):
                raise ProviderError(f"{name} can't be paused: a process of it does not stop", mend="labctl doctor")
        yield


@contextlib.contextmanager
def _thawing(cgroups: Cgroups, names: Sequence[str]) -> Iterator[None]:
    """Thaw these machines at the end of the block, whatever happens in it. Another process in its own session does it."""
    files = [cgroups.thaw(name) for name in names]
    if not files:
        yield
        return
    argv = ["/bin/sh", "-c", _THAW, "labctl-thaw", *(str(path) for path, _ in files)]
    thawing = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True, env={**os.environ, "WORD": files[0][1]})
    assert thawing.stdin
    try:
        yield
    finally:
        thawing.stdin.close()
        thawing.wait()


def _copy(jobs: Sequence[tuple[Sequence[Path], Path]]) -> None:
    """Copy files and folders into new folders, in parallel, with owners, modes, links, attributes, whiteouts and pipes."""
    running = []
    for sources, target in jobs:
        apart.make(target.parent)
        target.mkdir(mode=0o700)
        argv = ["cp", "--archive", "--reflink=auto", "--sparse=auto", "--", *map(str, sources), str(target)]
        running.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    said = [(process.communicate()[1].strip(), process.returncode) for process in running]
    wrong = [text for text, status in said if status]
    if wrong:
        last = wrong[0].splitlines()[-1] if wrong[0] else "cp failed"
        raise ProviderError(f"the machines' disks can't be copied: {last}", mend="free space on that disk")
