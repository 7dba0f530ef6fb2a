"""`Resources`: what can be done to objects, with no HTTP in it. The api room, the in-process client and tests call it.

Created once per master from (store, registry, clock, journal). Every write: decode, default, validate, admit, allocate claims, commit with a compare, answer the Entry.
It raises ApiError with the code, reason, details and words a real API server uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from labctl.store.interface import Entry

NODES = "system:nodes"
NODE_PREFIX = "system:node:"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
ISSUER = "https://kubernetes.default.svc.cluster.local"  # of ServiceAccounts' tokens, and the audience that is this API


class User(msgspec.Struct, frozen=True):
    """Who asks: what the certificate or the token says. `system:masters` may do everything."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()  # what else is known: which pod a token was made for

    @property
    def info(self) -> dict[str, Any]:
        """The user as authentication.k8s.io/v1 UserInfo."""
        said: dict[str, Any] = {"username": self.name, "uid": self.uid, "groups": list(self.groups)}
        said["extra"] = {key: list(values) for key, values in self.extra}
        return {key: value for key, value in said.items() if value}

    @property
    def node(self) -> str:
        """The name of the node whose agent this user is; empty for everybody else."""
        return self.name.removeprefix(NODE_PREFIX) if self.name.startswith(NODE_PREFIX) and NODES in self.groups else ""


SYSTEM = User("system:labctl", (MASTERS,))


class WriteOptions(msgspec.Struct, frozen=True):
    """Query parameters of a write, as the API has them."""

    user: User = SYSTEM
    dry_run: bool = False
    field_manager: str = ""
    program: str = ""  # what the client calls itself: the manager of who names none
    field_validation: str = "Warn"  # Strict, Warn, Ignore
    force: bool = False  # server-side apply only
    applied: bool = False  # set by the verbs: this write is an apply, which says itself who owns what


class DeleteOptions(msgspec.Struct, frozen=True, rename="camel"):
    """metav1.DeleteOptions."""

    grace_period_seconds: int | None = None
    propagation_policy: str | None = None  # Background, Foreground, Orphan
    precondition_uid: str = ""
    precondition_resource_version: str = ""
    dry_run: bool = False


class ListOptions(msgspec.Struct, frozen=True):
    """A list's or watch's query parameters, parsed."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""


class WriteResult(msgspec.Struct, frozen=True):
    """What a write came to. `created` False for an update; `warnings` go into Warning headers; `encoding.client_bytes(entry)` is the object's JSON.
    `gone`: a deletion removed it (else it was only marked as leaving); the API answers a Status then."""

    entry: Entry
    created: bool = False
    warnings: Sequence[str] = ()
    gone: bool = False


class WatchEvent(msgspec.Struct, gc=False, eq=False):
    """One event as every watcher of the same kind of change is handed it: `type` is ADDED, MODIFIED, DELETED or BOOKMARK.

    The same value goes to all of them, so whoever encodes it first may keep the bytes in `line` for the others."""

    type: str
    entry: Entry
    line: bytes = b""


class ListResult(msgspec.Struct, frozen=True):
    entries: Sequence[Entry]
    revision: int
    continue_token: str = ""
    remaining: int | None = None
