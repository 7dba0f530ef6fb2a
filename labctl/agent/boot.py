"""Which boot of this machine the state on disk is of: what an older one left is cleared, and only then is this one noted.

ROOT/boot_id
"""

from __future__ import annotations

import os


class Boot:
    def __init__(self, state_dir: str, identity: str) -> None:
        self._path, self.id = os.path.join(state_dir, "boot_id"), identity
        try:
            with open(self._path, encoding="ascii") as file:
                self.same = file.read() == identity
        except OSError:
            self.same = False

    def note(self) -> None:
        """For the next start: nothing here is of an older boot any more."""
        with open(self._path + ".new", "w", encoding="ascii") as file:
            file.write(self.id)
        os.replace(self._path + ".new", self._path)
