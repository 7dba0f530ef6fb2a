"""Unpacks an image archive (tar, also with gzip, bzip2, xz or zstd) into a folder, whatever its author had in mind.

Python's tarfile reads an extended header whole, recurses for each header before a header, goes backwards for a negative size (CVE-2025-8194), and fails with
a dozen kinds of errors. So numbers are looked at before they are used, and every failure is one line about the archive.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, Any, cast

from labctl.errors import UsageError
from labctl.images import xz, zstd
from labctl.tarfiles import tarfile

FILES_MAX = 20_000  # an archive has a file for each layer and a few more
HEADER_BYTES_MAX = 1 << 20  # of one extended header or long name; a path has 4 KiB at most
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_HOSTILE = (
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    OSError,  # names that are too long, a file where a folder should be, and a full disk
    ValueError,  # numbers that are none, names with a zero byte
    OverflowError,
    LookupError,  # a link to what is not there
    RecursionError,
)


def unpack(path: Path, folder: str) -> None:
    """Unpack the archive at `path` into an empty folder. Raises UsageError, in one line."""
    try:
        with contextlib.ExitStack() as opened:
            stream = _decompressed(path)
            if stream is None:
                archive = opened.enter_context(tarfile.open(path, "r:", tarinfo=_Entry))
            else:
                archive = opened.enter_context(tarfile.open(fileobj=opened.enter_context(stream), mode="r|", tarinfo=_Entry))
            archive.extractall(folder, filter=Bounded(path.name))
    except _HOSTILE as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        why = said.partition("\n")[0].rstrip(":- ")[:200]  # tarfile's message lists every compression that it tried
        raise UsageError(f"{path} is no image archive: {why}", mend="it should be an OCI archive or what `docker save` wrote") from error


def _decompressed(path: Path) -> IO[bytes] | None:
    """Return what a compressed file holds, by its first bytes; None if it is not compressed. It is read as a stream: going back in it would begin anew.

    tarfile does not try by itself: xz would take any number of zeros for the space between its streams."""
    if zstd.is_zstd(path):
        return io.BufferedReader(zstd.Unpacked(path))
    with open(path, "rb") as file:
        begin = file.read(6)
    if begin[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(path))
    if begin[:3] == b"BZh":
        return bz2.open(path)
    return io.BufferedReader(xz.Unpacked(path)) if begin == xz.MAGIC else None


class _Entry(tarfile.TarInfo):
    """An entry whose numbers are looked at before anything is read or skipped because of them."""

    def _proc_member(self, archive: Any) -> Any:
        """Go on with what the header says. Each version of tarfile comes by here; Debian 12's of today no longer makes entries by `frombuf`."""
        if self.size < 0 or (self.type in _HEADERS and self.size > HEADER_BYTES_MAX):
            raise ValueError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError("a file with holes")
        return super()._proc_member(archive)

    def _block(self, count: int) -> int:
        if count < 0:
            raise ValueError(f"an entry of {count} bytes")
        return super()._block(count)

    def _holes(self, *_: Any) -> None:
        """Refuse a file with holes: the list of them has no bound, and no image has one."""
        raise ValueError("a file with holes")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _holes


class Bounded:
    """A filter of tarfile's that refuses what the filter "data" refuses, and archives that unpack to more than `most_bytes` or `most_files`.

    A few bytes of gzip may stand for any number of zeros. Raises UsageError before the file that is too much is written.
    """

    def __init__(self, name: str, most_bytes: int = zstd.UNPACKED_BYTES_MAX, most_files: int = FILES_MAX) -> None:
        self._name, self._most_bytes, self._most_files = name, most_bytes, most_files
        self._bytes = self._files = 0

    def __call__(self, member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        self._bytes += member.size
        self._files += 1
        if self._bytes > self._most_bytes:
            raise UsageError(f"{self._name} unpacks to more than {self._most_bytes} bytes")
        if self._files > self._most_files:
            raise UsageError(f"{self._name} has more than {self._most_files} files")
        return tarfile.data_filter(
            member.replace(mtime=0, deep=False), folder
        )  # the folder is a temporary one, and times may be no numbers
