"""Writes files into a layer: an uncompressed tar in sorted order, without times, with numbers for owners.

Its bytes depend only on its contents.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO


class Layer:
    """Collects entries by their path in the image. A later entry replaces an earlier one."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, bytes | Path]] = {}

    def directory(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        self._put(path, tarfile.DIRTYPE, mode, owner)

    def text(self, path: str, content: str, mode: int = 0o644) -> None:
        self._put(path, tarfile.REGTYPE, mode, content=content.encode())

    def link(self, path: str, target: str) -> None:
        self._put(path, tarfile.SYMTYPE, 0o777, target=target)

    def file(self, path: str, source: Path, mode: int | None = None) -> None:
        """Add a file, with its own mode or another. If `source` is a link, the file that it leads to is added: the image does not need the packages' links."""
        self._put(path, tarfile.REGTYPE, source.stat().st_mode & 0o777 if mode is None else mode, content=source.resolve())

    def write(self, out: IO[bytes]) -> None:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for _, (entry, content) in sorted(self._entries.items()):
                if isinstance(content, Path):
                    with open(content, "rb") as file:
                        entry.size = content.stat().st_size
                        archive.addfile(entry, file)
                else:
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))

    def _put(self, path: str, kind: bytes, mode: int, owner: int = 0, content: bytes | Path = b"", target: str = "") -> None:
        name = path.strip("/")
        for parent in PurePosixPath(name).parents:
            if str(parent) != "." and str(parent) not in self._entries:
                self.directory(str(parent))
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid, entry.linkname = kind, mode, owner, owner, target
        self._entries[name] = (entry, content)
