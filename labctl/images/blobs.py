"""Stores bytes under their digest: CACHE/blobs/sha256/HEX. A blob is verified once, appears complete, and never changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import IO, Any

from labctl.errors import LabctlError

_DIGEST = re.compile(r"sha256:([a-f0-9]{64})")
_CHUNK_BYTES = 1 << 20


class BlobStore:
    """A folder of blobs.

    Several processes may write at once: a blob appears by a rename, and two writers of the same blob write the same bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folder = folder / "sha256"

    def path(self, digest: str) -> Path:
        """Return where that blob is or would be. Raises ValueError if it is no digest, so no name leads out of the folder."""
        match = _DIGEST.fullmatch(digest)
        if not match:
            raise ValueError(f"not a sha256 digest: {digest!r}")
        return self._folder / match[1]

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def read_json(self, digest: str) -> Any:
        return json.loads(self.path(digest).read_bytes())

    def put(self, content: bytes) -> str:
        """Store the content and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self.has(digest):
            fd, temporary = self._temporary()
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                _sync(file)
            os.replace(temporary, self.path(digest))
        return digest

    def put_stream(self, source: IO[bytes], expected: str = "") -> tuple[str, int]:
        """Store what `source` yields and return (digest, size).

        Raises LabctlError if the digest is not `expected`; then nothing is stored.
        """
        fd, temporary = self._temporary()
        hasher, size = hashlib.sha256(), 0
        try:
            with os.fdopen(fd, "wb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    hasher.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                _sync(file)
            digest = f"sha256:{hasher.hexdigest()}"
            if expected and digest != expected:
                raise LabctlError(f"the blob {expected} is damaged: its bytes have the digest {digest}", mend="get the image again")
            os.replace(temporary, self.path(digest))
            return digest, size
        finally:
            Path(temporary).unlink(missing_ok=True)

    def remove_all_but(self, kept: set[str]) -> int:
        """Remove the blobs that no image refers to, and the temporary files of killed writers. Return how many bytes that freed.

        Nobody may write at the same time.
        """
        freed = 0
        for path in self._folder.glob("*"):
            if f"sha256:{path.name}" not in kept:
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
        return freed

    def _temporary(self) -> tuple[int, str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return tempfile.mkstemp(prefix=".new-", dir=self._folder)


def _sync(file: IO[bytes]) -> None:
    """Write the bytes to disk before the blob gets its name, so that a named blob is complete also after a power cut."""
    file.flush()
    os.fsync(file.fileno())
