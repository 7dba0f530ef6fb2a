"""Which boot of this machine the state on disk is of: what an older one left is cleared, and only then is this one noted.

ROOT/boot_id          the machine's boot
ROOT/kernel_boot_id   the kernel's: machines that are namespaces share one, which goes on when a machine's power is cut
"""

from __future__ import annotations

import os

KERNEL = ("/etc/labctl/kernel_boot_id", "/proc/sys/kernel/random/boot_id")
"""Where a machine says which boot of its kernel this is. One that is a namespace has its provider's word: below /proc it sees its own boot's id."""
_BYTES_MAX = 1000


class Boot:
    """`same`: the machine has not booted since the state was noted. `same_kernel`: nor has its kernel, so no file that was written is lost."""

    def __init__(self, state_dir: str, identity: str, kernel: str = "") -> None:
        self.id, self._kernel = identity, kernel or _kernel()
        self._path, self._kernel_path = os.path.join(state_dir, "boot_id"), os.path.join(state_dir, "kernel_boot_id")
        self.same = _read(self._path) == identity
        self.same_kernel = bool(self._kernel) and _read(self._kernel_path) == self._kernel

    def note(self) -> None:
        """Note for the next start that nothing here is of an older boot any more."""
        _write(self._kernel_path, self._kernel)
        _write(self._path, self.id)


def _kernel() -> str:
    return next((found for path in KERNEL if (found := _read(path))), "")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(_BYTES_MAX).strip()
    except (OSError, ValueError):  # ValueError: a file that was damaged is of no boot
        return ""


def _write(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
    os.replace(path + ".new", path)
