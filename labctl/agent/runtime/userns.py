"""A pod's own users (`hostUsers: false`, KEP-127): a user namespace in which 65,536 ids are mapped to ids of the machine that no other pod has.

Its root may do in the pod's namespaces what root may, and is nobody on the machine. So the namespaces that the pod's containers share must belong to it: they are
made by a process that was moved into it. What containers see of the machine's files is mounted anew with shifted owners (idmapped mounts, Linux 5.12;
overlays 5.19; tmpfs 6.3): on the disk all ids stay those that the container sees, so that volumes can be handed from pod to pod. Both happen here and not in crun,
as the crun of Debian 12 does not know of idmapped mounts, and need not: it binds what was mounted for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import subprocess
import tempfile
from typing import Iterator, List, Sequence, Set

from .. import linux

IDS = 65_536
"""How many ids a pod has. The machine keeps the first range for itself, as with a kubelet."""
RANGES = 65_000
_START_S = 10.0

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # on every architecture
_CLONE, _CLOEXEC, _RECURSIVE, _EMPTY_PATH, _FROM_EMPTY_PATH = 1, os.O_CLOEXEC, 0x8000, 0x1000, 4
_AT_FDCWD, _IDMAP = -100, 0x0010_0000
_libc = ctypes.CDLL(None, use_errno=True)


def free_range(taken: Set[int]) -> int:
    """Return the first id of a range that nobody has. Raises OSError if there is none."""
    for number in range(1, RANGES):
        if number * IDS not in taken:
            return number * IDS
    raise OSError("no range of user ids is free on this machine")


def make(folder: str, kinds: Sequence[str], first: int) -> None:
    """Make a user namespace whose ids begin at `first`, and namespaces that belong to it; hold them at FOLDER/user and FOLDER/KIND. Raises OSError."""
    options = [f"--{kind}" for kind in ("user", *kinds)]
    with _waiting(["unshare", *options, "--", "cat"]) as pid:
        for name in ("gid_map", "uid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(f"0 {first} {IDS}\n")
        for kind in ("user", *kinds):
            hold(f"/proc/{pid}/ns/{kind}", os.path.join(folder, kind))


def hold(namespace: str, path: str) -> None:
    """Keep a namespace at a path, in place of one of an attempt that was not finished."""
    linux.unmount(path)
    with open(path, "w"):
        pass
    linux.mount(namespace, path, None, linux.MS_BIND)


@contextlib.contextmanager
def _waiting(argv: List[str]) -> Iterator[int]:
    """Run a program that ends as `cat`, until the block ends; yield its pid once it is that. Raises OSError if it can't."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(b"here\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _START_S)
        said = process.stdout.readline() if ready else b"it took too long"
        if said != b"here\n":
            raise OSError(f"{argv[0]}: {said.decode(errors='replace').strip() or 'it ended'}")
        yield process.pid
    except BrokenPipeError as error:
        raise OSError(f"{argv[0]} ended") from error
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def shift(source: str, target: str, users: str) -> None:
    """Mount `source` and all below it at `target`; there its owners are those of the user namespace at `users`. Raises OSError.

    Only the source's own mount is shifted. What lies mounted below it belongs to nobody in the pod.
    """
    namespace = os.open(users, os.O_RDONLY | os.O_CLOEXEC)
    try:
        tree = _call(source, _OPEN_TREE, _AT_FDCWD, os.fsencode(source), _CLONE | _CLOEXEC | _RECURSIVE)
        try:
            wanted = struct.pack("=QQQQ", _IDMAP, 0, 0, namespace)
            _call(source, _MOUNT_SETATTR, tree, b"", _EMPTY_PATH, wanted, len(wanted))
            _call(target, _MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _FROM_EMPTY_PATH)
        finally:
            os.close(tree)
    finally:
        os.close(namespace)


def _call(about: str, number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), about)
    return result


def possible(folder: str) -> bool:
    """Tell whether pods may have users of their own: the kernel has them, and shifts the owners of files in `folder`, of memory, and of an overlay's layers."""
    with contextlib.suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory(prefix=".users-", dir=folder) as tried:
        parts = {name: os.path.join(tried, name) for name in ("ns", "disk", "memory", "layer", "shifted", "upper", "work", "root")}
        for part in parts.values():
            os.mkdir(part)
        try:
            make(parts["ns"], [], IDS)
            linux.mount("tmpfs", parts["memory"], "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=64k")
            users = os.path.join(parts["ns"], "user")
            shift(parts["memory"], parts["shifted"], users)
            shift(parts["disk"], parts["layer"], users)
            layers = f"lowerdir={parts['layer']},upperdir={parts['upper']},workdir={parts['work']}"
            linux.mount("overlay", parts["root"], "overlay", 0, layers)
            return os.stat(parts["layer"]).st_uid == IDS
        finally:
            linux.unmount_below(tried)
    return False
