"""Which of what was unpacked is on the disk for good.

A file system keeps the order of names, not of what they name: after a power cut a layer that was renamed into its place seconds before can be full of empty
files (ext4 and xfs allocate late, after up to half a minute). To wait for the disk while a pod waits would cost more than to fetch again. So a layer is used at
once, brought to the disk soon after, and only then marked; the first start in a new boot forgets what has no mark.

    ROOT/images/settled/SHORT    an empty file, made after a syncfs(2) that began when the blob was whole
"""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Iterable, Set

from . import linux
from .runtime.records import names

SHORT = 16  # digits of a digest, as in the layers' names


class Settled:
    def __init__(self, root: str, flush: Callable[[str], None] = linux.sync_file_system) -> None:
        self._folder, self._flush = os.path.join(root, "images", "settled"), flush
        os.makedirs(self._folder, exist_ok=True)

    def lacking(self, blobs: Iterable[str]) -> Set[str]:
        return set(blobs) - set(names(self._folder))

    def settle(self, blobs: Iterable[str]) -> None:
        """Blocks for as long as the disk takes. OSError: it failed, and nothing is marked."""
        lacking = self.lacking(blobs)
        if lacking:
            self._flush(self._folder)
        for name in lacking:
            with open(os.path.join(self._folder, name), "wb"):
                pass

    def unmark(self, blobs: Iterable[str]) -> None:
        """Before one is put into its place, or taken away: a journal keeps the order of such changes."""
        for name in blobs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, name))
