"""The disk of the machine, where pods live: fills it up to a free share that stays, or bounds how fast containers read and write.

Filling is refused on a machine that is a container of its host: its files lie on the host's disk, and the host would be full, too. The bound on reading and
writing is the control groups': version 2 has one for all pods together; in version 1 each group has its own, and groups that are made later get it from
a process that looks for them.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, List, Sequence, Tuple

from ..cgroups import MOUNT, Cgroups
from ..runtime.records import names
from ..settings import Settings
from . import keeper, machine
from .request import Request

FILL_PREFIX = "labctl-fault-"
FREE_BYTES_LEAST = 4 << 20  # the machine itself must go on
CHUNK_BYTES_MAX, CHUNK_BYTES_LEAST = 1 << 30, 64 << 10
RATE_LEAST, RATE_MAX = 4096.0, 1e12
LOOK_S = 0.2
OPERATIONS = {"read": ("read",), "write": ("write",), "both": ("read", "write")}


# -- full


def look_fill(asked: Request) -> str:
    _wanted(asked)
    if machine.is_container():
        return "this machine is a container: its files lie on its host's disk, which would be full as well"
    if os.path.exists(_filling(asked)):
        return ""
    free, keep = _free(asked), _keep(asked)
    return "" if free > keep else f"the disk has {free >> 20} MiB free already, not more than the {keep >> 20} MiB that are to stay free"


def fill(asked: Request) -> Sequence[str]:
    """Reserve the disk's blocks for one file until only the stated share is free."""
    keep = _keep(asked)
    if machine.is_container():
        raise OSError(look_fill(asked))
    descriptor = os.open(_filling(asked), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        size, chunk = os.fstat(descriptor).st_size, CHUNK_BYTES_MAX
        while chunk >= CHUNK_BYTES_LEAST:
            if _free(asked) - keep < chunk or not _grow(descriptor, size, chunk):
                chunk //= 2
            else:
                size += chunk
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return [f"a file of {size >> 20} MiB fills the disk of {asked.settings.state_dir}; {_free(asked) / (1 << 20):.1f} MiB are free"]


def empty(asked: Request) -> Sequence[str]:
    return ["the file that filled the disk was removed"] if _remove(_filling(asked)) else ["no file fills the disk any more"]


def empty_all(settings: Settings) -> None:
    """Remove every file that fills the disk."""
    folder = os.path.dirname(settings.state_dir)
    for each in names(folder):
        if each.startswith(FILL_PREFIX):
            _remove(os.path.join(folder, each))


def _grow(descriptor: int, size: int, chunk: int) -> bool:
    try:
        os.posix_fallocate(descriptor, size, chunk)
    except OSError:
        return False
    return True


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _filling(asked: Request) -> str:
    """Return the path of the file that fills the disk. It lies beside the agent's state, so it is on the same disk."""
    return os.path.join(os.path.dirname(asked.settings.state_dir), f"{FILL_PREFIX}{asked.fault}")


def _free(asked: Request) -> int:
    """Return the bytes that root may still take. Blocks that are reserved for root count as free, because containers run as root."""
    found = os.statvfs(asked.settings.state_dir)
    return found.f_bfree * found.f_frsize


def _wanted(asked: Request) -> Tuple[str, float]:
    if "percent" in asked.parameters:
        return "percent", asked.number("percent", 0, 99)
    return "bytes", asked.number("bytes", 0, 1e15)


def _keep(asked: Request) -> int:
    unit, value = _wanted(asked)
    found = os.statvfs(asked.settings.state_dir)
    return max(FREE_BYTES_LEAST, int(found.f_blocks * found.f_frsize * value / 100 if unit == "percent" else value))


# -- slow


def look_slow(asked: Request) -> str:
    _rates(asked)
    try:
        _device(asked.settings.state_dir)
    except OSError as error:
        return str(error)
    if Cgroups().v2:
        with open(f"{MOUNT}/cgroup.controllers", encoding="ascii") as file:
            return (
                "" if "io" in file.read().split() else "the control groups of this machine can't limit input and output: no controller io"
            )
    there = os.path.exists(f"{MOUNT}/blkio/blkio.throttle.read_bps_device")
    return "" if there else "the control groups of this machine can't limit input and output: no controller blkio that throttles"


def slow(asked: Request) -> Sequence[str]:
    device, rates = _device(asked.settings.state_dir), _rates(asked)
    root = Cgroups(asked.settings.cgroup_root).pods
    words = " and ".join(f"{operation} at most {rate} bytes/s" for operation, rate in rates.items())
    if Cgroups().v2:
        _limit_v2(root, device, rates)
        return [f"all pods together {words} on device {device}"]
    found = keeper.record(asked.fault)
    if not (found and keeper.alive(found)):
        keeper.end(asked.fault, undo)
        keeper.begin(asked.fault, {"root": root, "device": device}, lambda ready: _keep_slow(root, device, rates, asked.for_s, ready), undo)
    return [f"each container may {words} on device {device}; writes that wait in memory are not bounded before they reach the disk"]


def quicken(asked: Request) -> Sequence[str]:
    root = Cgroups(asked.settings.cgroup_root).pods
    if not Cgroups().v2:
        return ["the limits were taken away"] if keeper.end(asked.fault, undo) else ["no container was limited any more"]
    with contextlib.suppress(OSError):  # the group is gone with the last pod, or the machine booted again
        _write(f"{MOUNT}{root}/io.max", f"{_device(asked.settings.state_dir)} rbps=max wbps=max")
    return ["the limits were taken away"]


def undo(found: Dict[str, Any]) -> None:
    """Version 1: no group below the pods' is limited any more."""
    for folder in _groups(found["root"]):
        for operation in OPERATIONS["both"]:
            with contextlib.suppress(OSError):
                _write(_file(folder, operation), f"{found['device']} 0")


def _keep_slow(root: str, device: str, rates: Dict[str, int], for_s: float, ready: keeper.Ready) -> None:
    until = time.monotonic() + for_s if for_s else float("inf")
    limited: set = set()
    first = True
    while time.monotonic() < until:
        there = set(_groups(root))
        for folder in there - limited:
            for operation, rate in rates.items():
                try:
                    _write(_file(folder, operation), f"{device} {rate}")
                except OSError:
                    if os.path.isdir(folder):
                        raise
                    # else it has just gone: ENOENT, or ENODEV if its file was open already
        limited = there
        if first:
            first = False
            ready()
        time.sleep(LOOK_S)


def _limit_v2(root: str, device: str, rates: Dict[str, int]) -> None:
    """Set the limit, after the groups above have enabled the controller for it. It stays enabled, which limits nothing."""
    folder = MOUNT
    for part in root.strip("/").split("/"):
        _write(f"{folder}/cgroup.subtree_control", "+io")
        folder = os.path.join(folder, part)
        os.makedirs(folder, exist_ok=True)
    limits = " ".join(f"{operation[0]}bps={rate}" for operation, rate in rates.items())
    _write(f"{folder}/io.max", f"{device} {limits}")


def _groups(root: str) -> List[str]:
    return [path for path, _, _ in os.walk(f"{MOUNT}/blkio{root}")]


def _file(folder: str, operation: str) -> str:
    return f"{folder}/blkio.throttle.{operation}_bps_device"


def _rates(asked: Request) -> Dict[str, int]:
    rate = int(asked.number("bytesPerSecond", RATE_LEAST, RATE_MAX))
    operations = asked.parameters.get("operations", "both")
    if operations not in OPERATIONS:
        raise OSError(f"{operations!r} is neither read, write nor both")
    return dict.fromkeys(OPERATIONS[operations], rate)


def _device(path: str) -> str:
    """Return major:minor of the whole disk that holds this folder, because only whole disks can be limited."""
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    folder = f"/sys/dev/block/{device}"
    if not os.path.exists(folder):
        raise OSError(f"the file system of {path} has no block device of its own that could be limited")
    if os.path.exists(f"{folder}/partition"):
        with open(os.path.join(os.path.dirname(os.path.realpath(folder)), "dev"), encoding="ascii") as file:
            return file.read().strip()
    return device


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
