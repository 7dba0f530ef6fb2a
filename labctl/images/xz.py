"""Reads what is compressed by xz, with a bound on memory: an archive says itself how much of what was unpacked must be kept, up to 4 GiB, and `lzma.open` obeys."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC = b"\xfd7zXZ\0"
MEMORY_BYTES_MAX = 192 << 20  # `xz -9` needs 65 MiB of who unpacks
_CHUNK = 1 << 18
_PADDING_MAX = 1 << 20  # zeros between two streams


class Unpacked(io.RawIOBase):
    """What an xz file holds, as a stream. Reading raises UsageError for what is no xz, or needs too much memory."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - close() closes it
        self._name = path.name
        self._stream = self._begun()

    def _begun(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_BYTES_MAX)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            data = self._read(len(view))
        except lzma.LZMAError as error:
            raise UsageError(f"{self._name} is damaged, or needs more than {MEMORY_BYTES_MAX >> 20} MiB of memory: {error}") from None
        view[: len(data)] = data
        return len(data)

    def _read(self, most: int) -> bytes:
        while True:
            if self._stream.eof:
                packed = self._after_padding()
                if not packed:
                    return b""
                self._stream = self._begun()
            else:
                packed = self._file.read(_CHUNK) if self._stream.needs_input else b""
                if not packed and self._stream.needs_input:
                    raise lzma.LZMAError("it ends in the middle")
            data = self._stream.decompress(packed, most)
            if data:
                return data

    def _after_padding(self) -> bytes:
        """Return what follows a whole stream and the zeros behind it, or nothing."""
        rest, skipped = self._stream.unused_data.lstrip(b"\0"), 0
        while not rest and skipped < _PADDING_MAX and (read := self._file.read(_CHUNK)):
            skipped += len(read)
            rest = read.lstrip(b"\0")
        return rest

    def close(self) -> None:
        self._file.close()
        super().close()
