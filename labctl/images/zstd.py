"""Reads what is compressed by zstd (RFC 8878): whole image archives, and layers of the media type tar+zstd.

Agents read gzip alone, because Python 3.11's standard library has no zstd: so layers are written anew with gzip when an image is loaded. What a frame may
make of a few bytes is bounded: its window by WINDOW_BYTES_MAX, and everything that comes out by a limit.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, TYPE_CHECKING

from labctl.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC = b"\x28\xb5\x2f\xfd"
WINDOW_BYTES_MAX = 128 << 20  # as skopeo and containerd take; `zstd --ultra` asks for no more
UNPACKED_BYTES_MAX = 32 << 30  # as much as an agent unpacks of a layer
_CHUNK = 1 << 20
_GZIP_LEVEL = 1  # it stays on this disk: quick is better than small


def is_zstd(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class Unpacked(io.RawIOBase):
    """What a zstd file holds, as a stream. Reading raises UsageError for what is no zstd, and for more than `most_bytes`."""

    def __init__(self, path: Path, most_bytes: int = UNPACKED_BYTES_MAX) -> None:
        import zstandard  # it costs 5 ms, and most archives have no zstd

        self._file = open(path, "rb")  # noqa: SIM115 - close() closes it
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        self._reader = decompressor.stream_reader(self._file, read_across_frames=True)
        self._broken = zstandard.ZstdError
        self._name = path.name
        self._left = self._most = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            read: int = self._reader.readinto(view)
        except self._broken as error:
            raise UsageError(f"{self._name} is damaged: {error}") from None
        self._left -= read
        if self._left < 0:
            raise UsageError(f"{self._name} unpacks to more than {self._most} bytes")
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


def as_gzip(path: Path, target: IO[bytes], most_bytes: int = UNPACKED_BYTES_MAX) -> None:
    """Write what a zstd file holds as gzip. The same content gives the same bytes, so that an image that is loaded again keeps its digest."""
    with Unpacked(path, most_bytes) as unpacked, gzip.GzipFile("", "wb", _GZIP_LEVEL, target, mtime=0) as packed:
        while chunk := unpacked.read(_CHUNK):
            packed.write(chunk)
