"""This module says where a lab's files are.

    .labctl/ (beside the Vagrantfile, the person's)   id, lab.json, kubeconfig, ssh_config, ssh keys, certificates, log/, journal
    STATE/ID/ (this machine's, per lab)               store, sockets, machine root file systems, overlays, locks
    CACHE/ (this machine's, shared by labs)           root file systems, boxes, image blobs, images built, snapshots

STATE is $LABCTL_STATE_HOME, else /var/lib/labctl for root, else $XDG_STATE_HOME/labctl;
CACHE is $LABCTL_CACHE_HOME, else /var/cache/labctl for root, else $XDG_CACHE_HOME/labctl.
`labctl.lab.settings` reads the environment and passes both in; this module reads none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabctlError

LAB_DIRECTORY = ".labctl"
FOLDERS = 512  # of a tree that is removed are looked for, so that none of its parts takes long
REMOVERS = 8


@dataclass(frozen=True)
class Paths:
    """All paths of one lab. Whoever writes first into a folder makes it."""

    lab: Path  # the .labctl folder
    state: Path  # STATE/ID
    cache: Path  # CACHE

    # the person's folder
    @property
    def kubeconfig(self) -> Path:
        return self.lab / "kubeconfig"

    @property
    def ssh_config(self) -> Path:
        return self.lab / "ssh_config"

    @property
    def settings(self) -> Path:
        return self.lab / "lab.json"

    @property
    def ssh_key(self) -> Path:
        return self.lab / "ssh" / "id_ed25519"

    @property
    def certificates(self) -> Path:
        return self.lab / "pki"

    @property
    def front_proxy(self) -> Path:
        """Return the folder of the CA and certificate by which servers behind the API know it."""
        return self.certificates / "front-proxy"

    @property
    def token_keys(self) -> Path:
        """Return the folder of the keys that sign ServiceAccounts' tokens."""
        return self.certificates / "tokens"

    @property
    def journal(self) -> Path:
        return self.lab / "journal.jsonl"

    @property
    def master_log(self) -> Path:
        return self.lab / "log" / "master.log"

    @property
    def audit_log(self) -> Path:
        return self.lab / "log" / "audit.jsonl"

    # this machine's state of this lab
    @property
    def store(self) -> Path:
        return self.state / "store.db"

    @property
    def store_snapshot(self) -> Path:
        """Return the file into which the master writes a copy of the store when it is asked for one."""
        return self.state / "store.snapshot"

    @property
    def master_run(self) -> Path:
        """Return the file in which the running master describes itself: {"pid", "url", "port", "started"}."""
        return self.state / "master.json"

    @property
    def takeover_go(self) -> Path:
        """Return the named pipe on which a master that starts over is told to go on (labctl/lab/takeover.py)."""
        return self.state / "takeover.go"

    @property
    def takeover_ready(self) -> Path:
        """Return the named pipe on which that master says that it is over, and then that it answers."""
        return self.state / "takeover.ready"

    @property
    def machines(self) -> Path:
        return self.state / "machines"

    # this machine's cache
    @property
    def blobs(self) -> Path:
        return self.cache / "blobs"

    @property
    def images(self) -> Path:
        return self.cache / "images.json"

    @property
    def snapshots(self) -> Path:
        """Return the folder of snapshots. It is in the cache and not in a lab's state, because a snapshot outlives its lab."""
        return self.cache / "snapshots"

    @property
    def rootfs(self) -> Path:
        return self.cache / "rootfs"


def find_lab(start: Path) -> Path | None:
    """Returns the nearest `.labctl` folder of a lab at or above `start`, or None. A folder that an early failure of `up` left, without lab.json, is no lab."""
    for folder in (start, *start.parents):
        with contextlib.suppress(PermissionError):  # another user's folder that nobody else may look into
            if (folder / LAB_DIRECTORY / "lab.json").is_file():
                return folder / LAB_DIRECTORY
    return None


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises LabctlError, in one line."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabctlError(f"the folder {path} can't be made: {error.strerror or error}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, as `written_whole` does."""
    with written_whole(path) as new:
        new.write_bytes(data)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file that gets its name when it is whole: a full disk or an end in between leaves what was there before.

    What is there and no file, as /dev/stdout or a pipe, is written to: it must not be replaced. Raises LabctlError, in one line.
    """
    real = Path(os.path.realpath(path))  # the file behind a link is replaced, not the link
    new = real.with_name(f"{real.name[:200]}.{os.getpid()}.new{real.suffix}") if real.name else real
    try:
        if path.exists() and not path.is_file():
            yield path
            return
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(new, real)
    except OSError as error:
        raise LabctlError(f"{path} can't be written: {error.strerror or error}", mend="free space there, or choose another place") from None
    finally:
        if new != real:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)


def read_file(path: Path, most_bytes: int) -> bytes:
    """Return a file's content. A stranger may have put anything there, so a link is not followed and a pipe is not waited for.

    Raises OSError for these, and for more than `most_bytes`.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "this is no file", str(path))
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes} bytes", str(path))
    return data


def remove_tree(path: Path) -> None:
    """Removes a folder and all in it, as deep as it may be: shutil gives up at a thousand levels, rm does not. What can't be removed is left.

    A file that somebody made immutable is made mutable again: chattr follows no link.
    """
    with contextlib.suppress(RecursionError):
        _remove_side_by_side(path)
        shutil.rmtree(path, ignore_errors=True)
    for argv in (["rm", "-rf", "--"], ["chattr", "-R", "-f", "-i", "-a", "--"], ["rm", "-rf", "--"]):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(
                    [*argv, str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
                )


def _remove_side_by_side(path: Path) -> None:
    """Remove what lies in the folders below, several at a time: on a file system that discards what is freed (`discard`), each file waits 2 ms for its disk."""
    folders = [] if path.is_symlink() else _folders(path)
    if len(folders) > 1:
        from concurrent.futures import ThreadPoolExecutor  # 4 ms, which few commands need

        with ThreadPoolExecutor(REMOVERS) as pool:
            list(pool.map(lambda folder: shutil.rmtree(folder, ignore_errors=True), folders))


def _folders(path: Path) -> list[str]:
    """Return folders below this one, none inside another: those at the least depth at which there are many. No link is followed."""
    waiting, ends = deque([str(path)]), list[str]()
    while waiting and len(waiting) + len(ends) < FOLDERS:
        folder = waiting.popleft()
        below: list[str] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        waiting.extend(below)
        if not below:
            ends.append(folder)
    return [*ends, *waiting]
