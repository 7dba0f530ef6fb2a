"""Removes folders whose content a container made: however deep, however many files, whatever their names.

A pod may leave millions of files. Whoever lists a folder before emptying it holds all of their names: 400,000 of them took the agent from 32 to 149 MB, and
some more would have ended it, again and again. So this process removes a small tree itself, entry by entry, and leaves any other to rm, which
holds a bounded part of a folder's names, goes down without recursion, and takes neither this process's time nor one of its threads.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import List, Optional

from . import processes

FEW, SHALLOW = 500, 32
"""So many entries, and so many levels, make a small tree. Starting rm takes as long as removing some hundred files."""
_LONGEST_S = 24 * 3600.0


class _NotSmall(OSError):
    """The tree has more entries or levels than this process removes itself."""


def remove_tree(path: str) -> None:
    """Remove whatever is there. Nothing there is no error, and what refuses is left. Blocks until it is done."""
    if not remove_small(path):
        subprocess.run(_rm([path]), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


async def remove_trees(*paths: str) -> None:
    """The same, for a program with other things to do meanwhile: several large trees do not wait for each other, nor anybody else for them."""
    large = await asyncio.get_running_loop().run_in_executor(None, lambda: [each for each in paths if not remove_small(each)])
    if large:
        await processes.run(_rm(large), timeout_s=_LONGEST_S)


def _rm(paths: List[str]) -> List[str]:
    return ["rm", "-rf", "--", *paths]


def remove_small(path: str) -> bool:
    """Remove a small tree. Return False if something is left."""
    try:
        _remove(path, None, [FEW], SHALLOW)
    except OSError:
        return not os.path.lexists(path)
    return True


def _remove(name: str, folder: Optional[int], left: List[int], levels: int) -> None:
    """Remove a name in an open folder. `left` is how many more entries may be removed. A symbolic link is removed, never followed. Raises OSError."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        if levels == 0:
            raise _NotSmall from None
    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(inside) as entries:
            for entry in entries:
                left[0] -= 1
                if left[0] < 0:
                    raise _NotSmall
                _remove(entry.name, inside, left, levels - 1)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=folder)
