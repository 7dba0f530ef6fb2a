"""Remembers which unpacked layers and image configurations are on the disk and survive a power cut.

A file system keeps the order of names, not of what they name: after a power cut, a layer that was renamed into its place seconds before can be full of
empty files (ext4 and xfs allocate late, after up to half a minute). Waiting for the disk while a pod waits would cost more than fetching again.
So a layer is used at once, written to the disk soon after, and only then marked. The first start after a boot removes what has no mark.

    ROOT/images/settled/SHORT    an empty file: a syncfs(2) that began when the blob was whole has ended
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Iterable, Set

from . import linux
from .runtime.records import names

SHORT = 16  # digits of a digest, as in the layers' names


class DurableBlobs:
    """The marks. A blob is named by the first digits of its digest; `flush` writes a file system to its disk."""

    def __init__(self, root: str, flush: Callable[[str], None] = linux.sync_file_system) -> None:
        self._folder, self._flush = os.path.join(root, "images", "settled"), flush
        os.makedirs(self._folder, exist_ok=True)

    def unmarked(self, blobs: Iterable[str]) -> Set[str]:
        """Those of `blobs` that a power cut may still damage."""
        return set(blobs) - set(names(self._folder))

    def flush(self, blobs: Iterable[str]) -> None:
        """Write all blobs to the disk and mark them. Blocks for as long as the disk takes. OSError: it failed, and nothing is marked."""
        unmarked = self.unmarked(blobs)
        if unmarked:
            self._flush(self._folder)
        for name in unmarked:
            with open(os.path.join(self._folder, name), "wb"):
                pass

    def unmark(self, blobs: Iterable[str]) -> None:
        """Call this before a blob is put into its place or removed: a journal keeps the order of such changes."""
        for name in blobs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, name))
