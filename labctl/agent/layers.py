"""One image layer, from a tar archive to a folder that overlayfs can use as a lower directory.

Whiteouts become overlay's own (a 0:0 device, an opaque mark); owners, modes, times, hard links, devices and file capabilities are kept. Hard links to
files that are not in this layer are answered, for hardlinks.py to complete.
The archive is hostile until shown otherwise: every path is resolved inside the target, symlinks of the archive itself included, and nothing is ever written
through one. What it costs is bounded: bytes, entries, and the headers that tarfile would read into memory whole. Attributes that steer overlayfs are left out.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import stat
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, Any, Dict, List, Optional, Tuple

from . import trees
from .failures import BadLayer
from .hardlinks import OPAQUE_MARK, SYMLINKS_FOLLOWED, Link

UNPACKED_LIMIT_BYTES = 32 << 30
ENTRIES_LIMIT = 2_000_000
DEPTH_LIMIT = 512
HEADER_LIMIT_BYTES = 1 << 20
"""Of one extended header or long name: tarfile reads it as one piece. A path has 4 KiB at most, an attribute 64."""

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_XATTR = "SCHILY.xattr."
_HOSTILE = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError, RecursionError)
"""What tarfile and the calls of `os` make of an archive that is damaged or meant to harm: names with a zero byte, numbers that fit nowhere, headers in headers."""


@dataclass(frozen=True)
class Unpacked:
    """`size_bytes`: what its files hold. `links`: its hard links to files that are not in it."""

    size_bytes: int
    links: Tuple[Link, ...] = ()


def unpack(archive: IO[bytes], target: str, limit_bytes: int = UNPACKED_LIMIT_BYTES) -> Unpacked:
    """Into an empty folder. Blocking. Raises BadLayer or OSError."""
    return _Unpacking(target, limit_bytes).all(_plain_tar(archive))


class _Entry(tarfile.TarInfo):
    """An entry whose numbers are looked at before anything is read or skipped because of them (CVE-2025-8194: a negative size never ends)."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        """Go on with what the header says. Each version of tarfile comes by here; Debian 12's of today no longer makes entries by `frombuf`."""
        if self.size < 0 or (self.type in _HEADERS and self.size > HEADER_LIMIT_BYTES):
            raise BadLayer(f"not a layer: a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _block(self, count: int) -> int:
        if count < 0:
            raise BadLayer(f"not a layer: an entry of {count} bytes")
        return super()._block(count)  # type: ignore[misc]


def _plain_tar(archive: Any) -> IO[bytes]:
    archive = archive if hasattr(archive, "peek") else io.BufferedReader(archive)
    magic = archive.peek(4)[:4]
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=archive)  # type: ignore[return-value]
    if magic == b"\x28\xb5\x2f\xfd":
        raise BadLayer(
            "zstd-compressed layers are not supported: pull the image through the lab, or compress its layers with gzip or not at all"
        )
    return archive


class _Unpacking:
    def __init__(self, target: str, limit_bytes: int) -> None:
        self._root = os.path.realpath(target)
        self._left = limit_bytes
        self._written = 0
        self._folder_times: List[Tuple[str, float]] = []
        self._links: Dict[str, str] = {}

    def all(self, stream: IO[bytes]) -> Unpacked:
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry) as tar:
                for count, member in enumerate(tar):
                    if count == ENTRIES_LIMIT:
                        raise BadLayer("the layer has more entries than a layer may")
                    tar.members = []  # type: ignore[attr-defined]  # it would keep every one of them
                    self._one(tar, member)
            for path, at in reversed(self._folder_times):
                os.utime(path, (at, at), follow_symlinks=False)
        except _HOSTILE as error:
            raise BadLayer(f"not a layer: {error}") from error
        return Unpacked(self._written, tuple((os.path.relpath(path, self._root), linked) for path, linked in self._links.items()))

    def _one(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            os.chmod(self._root, stat.S_IMODE(member.mode))
            os.chown(self._root, member.uid, member.gid)
            return
        parent = self._inside(parts[:-1])
        assert parent is not None
        name = parts[-1]
        if name == _OPAQUE:
            _mark_opaque(parent)
        elif name.startswith(_WHITEOUT + _WHITEOUT):
            return  # bookkeeping of another union file system
        elif name.startswith(_WHITEOUT):
            _white_out(os.path.join(parent, _safe(name[len(_WHITEOUT) :])))
        else:
            self._make(tar, member, os.path.join(parent, name))

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        whited_out = _clear(path, keep_folder=member.isdir())
        self._links.pop(path, None)
        if member.isdir():
            if not os.path.isdir(path):
                os.mkdir(path)
            if whited_out:
                _mark_opaque(path)
            self._folder_times.append((path, member.mtime))
        elif member.isreg():
            self._write(tar, member, path)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            self._link(member, path)
            return  # shares its inode with what was set already
        elif member.ischr() or member.isblk() or member.isfifo():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK if member.isblk() else stat.S_IFIFO
            os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
        else:
            return
        _set_attributes(path, member)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        self._left -= member.size
        self._written += member.size
        if self._left < 0:
            raise BadLayer("the layer unpacks to more than a layer may")
        source = tar.extractfile(member)
        assert source is not None
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(source, file, 256 * 1024)

    def _link(self, member: tarfile.TarInfo, path: str) -> None:
        parts = _parts(member.linkname)
        if not parts:
            raise BadLayer(f"{member.name} links to the layer's root")
        parent = self._inside(parts[:-1], make=False)
        if parent is None or not _holds(os.path.join(parent, parts[-1])):
            self._links[path] = "/".join(parts)  # of a lower layer, or of nobody: hardlinks.py will see
            return
        try:
            os.link(os.path.join(parent, parts[-1]), path, follow_symlinks=False)
        except OSError as error:
            raise BadLayer(f"{member.name} links to {member.linkname}: {error.strerror}") from error

    def _inside(self, parts: List[str], make: bool = True) -> Optional[str]:
        """Return the folder of these parts below the root. A symlink on the way is followed as if the root were /.

        A missing folder is made, or answered as None without `make`.
        """
        path, todo, followed = self._root, list(reversed(parts)), 0
        while todo:
            part = todo.pop()
            if part == "..":
                path = path if path == self._root else os.path.dirname(path)
                continue
            below = os.path.join(path, part)
            try:
                mode = os.lstat(below).st_mode
            except FileNotFoundError:
                if not make:
                    return None
                os.mkdir(below, 0o755)
                mode = stat.S_IFDIR
            if stat.S_ISLNK(mode):
                followed += 1
                if followed > SYMLINKS_FOLLOWED:
                    raise BadLayer("symlinks go round in circles")
                link = os.readlink(below)
                path = self._root if link.startswith("/") else path
                todo += [each for each in reversed(link.split("/")) if each not in ("", ".")]
                continue
            if not stat.S_ISDIR(mode):
                if not make:
                    return None
                os.unlink(below)
                os.mkdir(below, 0o755)
            path = below
        return path


def _parts(name: str) -> List[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadLayer(f"{name!r} leaves the layer")
    if len(parts) > DEPTH_LIMIT:
        raise BadLayer(f"{name[:40]!r}... lies {len(parts)} folders deep")
    return parts


def _safe(name: str) -> str:
    if name in ("", ".", ".."):
        raise BadLayer(f"a whiteout of {name!r}")
    return name


def _clear(path: str, keep_folder: bool) -> bool:
    """Remove what is at the path of a new entry. True if it was a whiteout."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(there.st_mode):
        if not keep_folder:
            trees.remove_tree(path)
        return False
    os.unlink(path)
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == 0


def _holds(path: str) -> bool:
    """Tell whether this layer has something of that name. A whiteout does not count."""
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return not (stat.S_ISCHR(there.st_mode) and there.st_rdev == 0)


def _white_out(path: str) -> None:
    """Hide what lower layers have at this path. What this layer itself put there stays."""
    if os.path.lexists(path):
        if os.path.isdir(path) and not os.path.islink(path):
            _mark_opaque(path)
        return
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def _mark_opaque(path: str) -> None:
    os.setxattr(path, OPAQUE_MARK, b"y")


def _set_attributes(path: str, member: tarfile.TarInfo) -> None:
    """Give a new file the owner, mode, attributes and time of its entry. Owner first: a change of it takes the set-user-id bit away."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, stat.S_IMODE(member.mode))
    for key, value in member.pax_headers.items():
        name = key[len(_XATTR) :]
        if key.startswith(_XATTR) and (
            name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay."))
        ):
            with contextlib.suppress(OSError):  # this file system keeps none of that kind
                os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    if not member.isdir():
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
