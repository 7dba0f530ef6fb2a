"""Watches processes for their end: one pidfd for each, in the event loop, without polling and without a thread."""

from __future__ import annotations

import asyncio
import os
from typing import Callable, Dict


class ProcessWatches:
    """Calls back once when a process is gone. Watching a key again, or a process that is gone already, is fine."""

    def __init__(self) -> None:
        self._watched: Dict[str, int] = {}

    def add(self, key: str, pid: int, gone: Callable[[], None]) -> bool:
        """Watch a process. Return False if there is no such process; then `gone` will not be called."""
        if key in self._watched:
            return True
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return False
        loop = asyncio.get_running_loop()

        def ended() -> None:
            self.drop(key)
            gone()

        self._watched[key] = descriptor
        loop.add_reader(descriptor, ended)
        return True

    def drop(self, key: str) -> None:
        descriptor = self._watched.pop(key, -1)
        if descriptor >= 0:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def clear(self) -> None:
        for key in list(self._watched):
            self.drop(key)
