"""Which images there are: one small file, canonical name -> platform -> image. Read again only when it changed; replaced whole, under a lock.

Several processes write it (the master pulls, `labctl image load` loads), so the truth is the file, never memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from labctl.decoding import ready
from labctl.errors import LabctlError


class Blob(msgspec.Struct, frozen=True, rename="camel"):
    """An OCI descriptor."""

    digest: str
    size: int
    media_type: str


class Image(msgspec.Struct, frozen=True):
    """One image for one platform. `digest` is that of its manifest; `origin` tells people where it came from."""

    name: str
    digest: str
    platform: str
    config: Blob
    layers: tuple[Blob, ...]
    origin: str = ""
    added: float = 0.0  # epoch seconds

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def blobs(self) -> set[str]:
        return {self.digest, self.config.digest, *(layer.digest for layer in self.layers)}

    def manifest(self) -> dict[str, Any]:
        """Return the part that agents get."""
        wire = msgspec.to_builtins(self)
        return {key: wire[key] for key in ("name", "digest", "platform", "config", "layers")}


Names = Mapping[str, Mapping[str, Image]]
_decoder = msgspec.json.Decoder(ready(dict[str, dict[str, Image]]))


class Index:
    """The file that maps names to images."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_suffix(".lock")
        self._read: Names = {}
        self._stamp: tuple[int, ...] = ()

    def names(self) -> Names:
        """Return all names. The mapping is never changed in place, so a reader may keep it."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp:
            try:
                self._read = _decoder.decode(self._path.read_bytes())
            except msgspec.MsgspecError as error:
                raise LabctlError(f"{self._path} can't be read: {error}", mend="remove it, then build or load the images again") from error
            self._stamp = stamp
        return self._read

    def change(self, change: Callable[[dict[str, dict[str, Image]]], None]) -> Names:
        """Let `change` edit a copy, which then replaces the file. Only one process does so at a time.

        A killed process leaves a complete file.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._lock, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            names = {name: dict(platforms) for name, platforms in self.names().items()}
            change(names)
            temporary = self._path.with_suffix(".new")
            with open(temporary, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(names), indent=1))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        return self.names()

    def add(self, *images: Image) -> None:
        def change(names: dict[str, dict[str, Image]]) -> None:
            for image in images:
                names.setdefault(image.name, {})[image.platform] = image

        self.change(change)

    def remove(self, name: str) -> Names:
        """Remove a name and return the names that are left."""

        def change(names: dict[str, dict[str, Image]]) -> None:
            with contextlib.suppress(KeyError):
                del names[name]

        return self.change(change)
