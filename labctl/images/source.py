"""The folder of an image's layout, from whoever made it: what is read of it has the digest by which it is called, and a bound.

An index may name the same manifest ten thousand times, a manifest the same layer, and docker's list any number of names. So whatever is visited is counted,
and each layer is taken into the store once.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TypeVar

from labctl.errors import LabctlError, UsageError
from labctl.images import documents, zstd
from labctl.images.blobs import BlobStore
from labctl.images.documents import LAYER
from labctl.images.index import Blob

DOCUMENTS_BYTES_MAX = 256 << 20  # of all that are read, one that is read twice counts twice
ENTRIES_MAX = 10_000  # of all its indexes together: one that is named by each of another's entries counts as often
PARTS_MAX = 100_000  # layers and names of all its images together
LAYERS_MAX = 1_000  # of one image; docker takes 127
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")

T = TypeVar("T")


class Source:
    """A folder, and what may still be read of it."""

    def __init__(self, folder: Path, blobs: BlobStore) -> None:
        self._folder, self._blobs = folder, blobs
        self._bytes, self._entries, self._parts = DOCUMENTS_BYTES_MAX, ENTRIES_MAX, PARTS_MAX
        self._stored: dict[Path, Blob] = {}

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def entry(self) -> None:
        """Count an entry of an index, or of docker's list. Raises UsageError."""
        self._entries -= 1
        if self._entries < 0:
            raise UsageError(f"its indexes have more than {ENTRIES_MAX} entries")

    def parts(self, layers: int, names: int) -> None:
        """Count an image's layers and names. Raises UsageError."""
        if layers > LAYERS_MAX:
            raise UsageError(f"an image in it has {layers} layers, more than {LAYERS_MAX}")
        self._parts -= layers + names
        if self._parts < 0:
            raise UsageError(f"its images have more than {PARTS_MAX} layers and names")

    def file(self, name: str) -> Path:
        """Return a file by its path, which leads nowhere but into the folder. Raises UsageError."""
        try:
            path = (self._folder / name).resolve()
            if path.is_relative_to(self._folder.resolve()) and path.is_file():
                return path
        except (OSError, ValueError):  # too long, or with a zero byte
            pass
        raise UsageError(f"{name[:200]!r} is missing in it")

    def blob(self, digest: str) -> Path:
        """Return the file of a blob, whose bytes nobody has looked at yet. Raises UsageError."""
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"not a sha256 digest: {digest[:200]!r}")
        path = self._folder / "blobs" / "sha256" / digest[7:]
        if not path.is_file():
            raise UsageError(f"the blob {digest} is missing in it")
        return path

    def named(self, path: Path, type_: type[T]) -> T:
        """Return the document in a file. Raises LabctlError."""
        return documents.decoded(self._read(path), type_, path.name)

    def document(self, digest: str, type_: type[T]) -> T:
        """Return the document that has this digest. Raises LabctlError if the file that is called so holds another: the store may have the true one."""
        raw = self._read(self.blob(digest))
        has = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if has != digest:
            raise damaged(digest, has)
        return documents.decoded(raw, type_, digest)

    def _read(self, path: Path) -> bytes:
        raw = documents.read(path)
        self._bytes -= len(raw)
        if self._bytes < 0:
            raise UsageError(f"its indexes, manifests and configurations have more than {DOCUMENTS_BYTES_MAX} bytes")
        return raw

    def put(self, path: Path, expected: str = "") -> Blob:
        """Put a layer into the store, once, and return it: with gzip if it has zstd, which agents can't read. `expected` is its digest, if one is said."""
        found = self._stored.get(path)
        if found is None:
            found = self._stored[path] = self._put(path, expected)
        return found

    def _put(self, path: Path, expected: str) -> Blob:
        with open(path, "rb") as file:
            if zstd.is_zstd(path):
                has = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                if expected not in ("", has):
                    raise damaged(expected, has)
                return self._gzipped(path)
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return Blob(*self._blobs.put_stream(file, expected), LAYER + ("+gzip" if gzipped else ""))

    def _gzipped(self, path: Path) -> Blob:
        with tempfile.TemporaryFile(dir=path.parent) as packed:
            zstd.as_gzip(path, packed)
            packed.seek(0)
            return Blob(*self._blobs.put_stream(packed), LAYER + "+gzip")


def damaged(digest: str, has: str) -> LabctlError:
    return LabctlError(f"the blob {digest} is damaged: its bytes have the digest {has}", mend="get the image again")
