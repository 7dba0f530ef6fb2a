"""Log files that other programs append to, kept within a bound.

Who calls it: the master for its own log, the provider of namespace machines for their consoles, every few seconds. The writers keep their descriptors
(opened to append), so a file that is too long is not renamed but emptied in place, after its end was copied to FILE.1. A line that is written between
the copy and the emptying is lost; one that is written later is not.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOST_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20


def end(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return at most so much of a file's end. Who writes it may be a stranger, and may have made it as long as a file can be. Raises OSError."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most_bytes))
        return file.read(most_bytes)


def bound(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Keep at most `most_bytes` in the file, and as much of what was before in FILE.1. A disk that refuses the copy loses the copy, not the bound."""
    try:
        size = path.stat().st_size
    except OSError:
        return
    if size <= most_bytes:
        return
    older = path.with_name(f"{path.name}.1")
    with contextlib.suppress(OSError), open(path, "rb") as source, open(older, "wb") as target:
        source.seek(size - most_bytes)
        for at in range(0, most_bytes, _CHUNK_BYTES):  # not until its end: it may grow as fast as it is copied
            target.write(source.read(min(_CHUNK_BYTES, most_bytes - at)))
    with contextlib.suppress(OSError):
        os.truncate(path, 0)
