"""Every error that labctl raises on purpose belongs to one tree. There is one class for each thing that a caller can do about an error.

    LabctlError                 one line for a person: what is wrong, where, and how to mend it; exit status 1
    ├── UsageError              what was typed or written in lab.yml is wrong; exit status 2
    ├── ApiError                becomes a Kubernetes `Status` (code, reason, details); the api room alone writes it as HTTP
    ├── StoreError
    │   ├── Conflict            a compare failed: another writer was first
    │   ├── Compacted           that revision is no longer kept: list again
    │   ├── Lagging             this watcher was too slow and was closed: list again
    │   ├── Damaged             the store's file is not what was written: `labctl doctor --store`
    │   └── Unavailable         the disk refused: writes are refused until one succeeds
    ├── RemoteError
    │   ├── Unreachable         no SSH connection to the machine now
    │   ├── HostKeyMismatch     the machine is not the one that was pinned: never retried
    │   ├── Deadline            the call took longer than its deadline
    │   └── CommandFailed       the command ran and failed (status, stderr)
    └── ProviderError           the provider can't do what was asked

Assertions are for our own mistakes, these classes for the world's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class LabctlError(Exception):
    """`message` says in one line what is wrong and where. `mend` says in one line how to mend it; it may be empty."""

    exit_status = 1

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}: {self.mend}" if self.mend else self.message


class UsageError(LabctlError):
    """A flag, an environment variable or a line of lab.yml is wrong."""

    exit_status = 2


class ApiError(LabctlError):
    """An error that becomes a Kubernetes `Status`: `code` is HTTP's, `reason` is for programs, and `details` is meta/v1's StatusDetails.

    `warnings` are what else was said about the request before it was refused; they become Warning headers.
    """

    def __init__(self, code: int, reason: str, message: str, *, details: dict[str, Any] | None = None, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}
        self.retry_after_s = retry_after_s
        self.warnings: Sequence[str] = ()


class StoreError(LabctlError):
    """The store could not do what was asked."""


class Conflict(StoreError):
    """A compare on `key` failed. `actual` is the key's revision now (0: it does not exist).

    `at` is the revision of the write or deletion that caused this; it may not be visible yet.
    """

    def __init__(self, key: str, actual: int, at: int = 0) -> None:
        super().__init__(f"{key} is at revision {actual}")
        self.key = key
        self.actual = actual
        self.at = at or actual


class Compacted(StoreError):
    """The revision asked for is older than `oldest`, the first that is still kept."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} was compacted; the oldest kept is {oldest}")
        self.asked = asked
        self.oldest = oldest


class Damaged(StoreError):
    """A row of the store's file is not what was written. The message names the file, the row and the key."""


class Lagging(StoreError):
    """A watcher was further behind than its bound allows, and was closed."""


class Unavailable(StoreError):
    """The disk refused a commit; nothing of it is visible."""


class RemoteError(LabctlError):
    """A machine could not be reached or did not do what was asked over SSH."""


class Unreachable(RemoteError):
    """No SSH connection to the machine now; try again when it is back."""


class HostKeyMismatch(RemoteError):
    """The machine answered with another host key than the pinned one."""


class Deadline(RemoteError):
    """The call took longer than its deadline; whether it took effect is unknown."""


class CommandFailed(RemoteError):
    """A command on a machine exited with another status than 0."""

    def __init__(self, machine: str, argv: Sequence[str], status: int, stderr: str) -> None:
        words = " ".join("..." if "\n" in word else word for word in argv)  # the text of a script
        super().__init__(f"{machine}: {words[:200]} exited {status}: {' '.join(stderr.split())[-500:]}")
        self.status = status
        self.stderr = stderr


class ProviderError(LabctlError):
    """The provider can't do what was asked; the mend says what would let it."""
