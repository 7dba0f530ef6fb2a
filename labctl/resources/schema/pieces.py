"""A large document that is kept in pieces: when one kind changes, only its pieces are written anew, and nothing copies or compresses the others again.

openapi.py makes the pieces; the api room sends a Document piece by piece, or compressed. A piece is compressed once: as a part of a deflate stream that
refers to nothing before it and ends at a byte, so that any row of such parts is one valid stream (RFC 1951, 3.2; RFC 1952 for the frame around it).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

LEVEL = 1
"""Of compression: six times as quick as zlib's default, for a result that is a fifth longer."""
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_GZIP_END = b"\x03\x00"  # an empty last block


class Piece:
    """Bytes, with what is known of them. Two threads may ask at once: both then do the same work."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(self.raw).digest()

    @cached_property
    def deflated(self) -> bytes:
        """The piece as a part of a deflate stream."""
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        return compressor.compress(self.raw) + compressor.flush(zlib.Z_FULL_FLUSH)


COMMA = Piece(b",")


def separated(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yields the pieces with a comma between any two."""
    for number, piece in enumerate(pieces):
        if number:
            yield COMMA
        yield piece


class Document:
    """Pieces in a row. `hash` names this version of the document (its ETag, without quotes)."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces: Sequence[Piece] = tuple(pieces)
        self.size = sum(len(piece.raw) for piece in self.pieces)
        self.hash = hashlib.sha256(b"".join(piece.digest for piece in self.pieces)).hexdigest().upper()

    @property
    def body(self) -> bytes:
        """The whole document, made anew each time."""
        return b"".join(piece.raw for piece in self.pieces)

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yields the document in parts of about `size` bytes or more. Only pieces that are smaller are copied."""
        waiting: list[bytes] = []
        length = 0
        for piece in self.pieces:
            if len(piece.raw) >= size:
                yield from (b"".join(waiting), piece.raw)
                waiting, length = [], 0
                continue
            waiting.append(piece.raw)
            length += len(piece.raw)
            if length >= size:
                yield b"".join(waiting)
                waiting, length = [], 0
        yield b"".join(waiting)

    def gzipped(self) -> bytes:
        """Returns the whole document as a gzip file. Takes long the first time; call it in a thread."""
        check = 0
        for piece in self.pieces:
            check = zlib.crc32(piece.raw, check)
        frame = check.to_bytes(4, "little") + (self.size & 0xFFFFFFFF).to_bytes(4, "little")
        return b"".join((_GZIP_HEAD, *(piece.deflated for piece in self.pieces), _GZIP_END, frame))
