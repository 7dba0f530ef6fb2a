"""Variables that another container of the pod wrote into a file of a volume (`fileKeyRef`, KEP-3721).

Called where a container's environment is made, after the init containers before it have ended. The file is a container's work, so it is read without
ever leaving the volume, up to a bound, and in a thread. It has one form alone, a subset of what a POSIX shell reads: `NAME='value'`, with everything
between the quotes as it stands, new lines too; blank lines and lines that begin with `#` say nothing.
"""

from __future__ import annotations

import asyncio
import re
from typing import Optional

from . import beneath

_NOTHING = re.compile(r"[ \t]*(#[^\n]*)?(\n|\Z)")
_SETS = re.compile(r"([^=\n]+)=[ \t]*'([^']*)'[ \t]*(\n|\Z)")


def value_of(text: str, name: str) -> Optional[str]:
    """Return the variable's value in the text of such a file; None if it does not set it. Raises ValueError at a line that has not the form."""
    at = 0
    while at < len(text):
        nothing = _NOTHING.match(text, at)
        if nothing:
            at = nothing.end()
            continue
        sets = _SETS.match(text, at)
        if not sets or not sets[1].strip(" \t"):
            raise ValueError(f"invalid environment variable format at line {text.count(chr(10), 0, at) + 1}")
        if sets[1].strip(" \t") == name:
            return sets[2]
        at = sets.end()
    return None


async def read(folder: str, path: str, name: str) -> Optional[str]:
    """Return the value that the file at `path` below the volume's folder gives; None without such a file or variable. Raises ValueError and OSError."""
    try:
        content = await asyncio.get_running_loop().run_in_executor(None, beneath.read_below, folder, path)
    except FileNotFoundError:
        return None
    return value_of(content.decode(), name)
