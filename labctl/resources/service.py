"""This module has the types of options and results of `Resources`, which reads and writes objects without HTTP.

The api room, the in-process client and tests call `Resources`.
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
    """The user who sends a request, as its certificate or token says. The group `system:masters` may do everything."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()  # what else is known: which pod a token was made for

    @property
    def info(self) -> dict[str, Any]:
        """Return the user as authentication.k8s.io/v1 UserInfo."""
        said: dict[str, Any] = {"username": self.name, "uid": self.uid, "groups": list(self.groups)}
        said["extra"] = {key: list(values) for key, values in self.extra}
        return {key: value for key, value in said.items() if value}

    @property
    def node(self) -> str:
        """Return the name of the node whose agent this user is, or "" for other users."""
        return self.name.removeprefix(NODE_PREFIX) if self.name.startswith(NODE_PREFIX) and NODES in self.groups else ""


SYSTEM = User("system:labctl", (MASTERS,))


def account_groups(namespace: str) -> tuple[str, ...]:
    """Return the groups that a ServiceAccount of this namespace is in, beside that of all known users."""
    return "system:serviceaccounts", f"system:serviceaccounts:{namespace}"


def controller(name: str) -> User:
    """Return the user by whose name one of the controllers asks other servers, as Kubernetes' own does: a ServiceAccount of kube-system."""
    return User(f"{SERVICE_ACCOUNT_PREFIX}kube-system:{name}", (*account_groups("kube-system"), AUTHENTICATED))


class WriteOptions(msgspec.Struct, frozen=True):
    """The query parameters of a write, as in Kubernetes' API."""

    user: User = SYSTEM
    dry_run: bool = False
    field_manager: str = ""
    program: str = ""  # the client's name for itself, which is the manager if the request names none
    field_validation: str = "Warn"  # Strict, Warn, Ignore
    force: bool = False  # server-side apply only
    applied: bool = False  # set by the verbs if the write is an apply, which records the owners of fields itself


class DeleteOptions(msgspec.Struct, frozen=True, rename="camel"):
    """metav1.DeleteOptions."""

    grace_period_seconds: int | None = None
    propagation_policy: str | None = None  # Background, Foreground, Orphan
    precondition_uid: str = ""
    precondition_resource_version: str = ""
    dry_run: bool = False


class ListOptions(msgspec.Struct, frozen=True):
    """The query parameters of a list or watch."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    initial_events: bool = False  # the request says `sendInitialEvents`, whatever it says of them: only a watch may


class WriteResult(msgspec.Struct, frozen=True):
    """The result of a write. `created` is False for an update; `warnings` go into Warning headers; `encoding.client_bytes(entry)` is the object's JSON.

    `gone` is True if a deletion removed the object (otherwise it was only marked as terminating); the API then answers with a Status.
    Where the answer is a Status by its nature (a binding, an eviction), `entry` is that Status, and `changed` is the object as this write left it.
    """

    entry: Entry
    created: bool = False
    warnings: Sequence[str] = ()
    gone: bool = False
    changed: Entry | None = None


class WatchEvent(msgspec.Struct, gc=False, eq=False):
    """One event of a watch. `type` is ADDED, MODIFIED, DELETED or BOOKMARK.

    All watchers that see the same kind of change share one value, so the first one that encodes it keeps the bytes in `line` for the others."""

    type: str
    entry: Entry
    line: bytes = b""


class ListResult(msgspec.Struct, frozen=True):
    entries: Sequence[Entry]
    revision: int
    continue_token: str = ""
    remaining: int | None = None
