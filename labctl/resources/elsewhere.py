"""The seam between the namespace controller and what other API servers keep in a namespace: the controller waits until they say that it is empty.

`api/aggregation/contents.py` empties namespaces there, and tells what is left. A master without an API has no such servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class Left(msgspec.Struct, frozen=True):
    """What is left of a namespace at other servers, as they said last."""

    asked: bool = True  # False: nobody has been asked since it is being deleted
    counts: Mapping[str, int] = {}  # objects, by resource (`flunders.wardle.example.com`)
    finalizers: Mapping[str, int] = {}  # how many objects wait for each
    unknown: tuple[str, ...] = ()  # groups and versions whose servers do not say what they have, with why
    failed: tuple[str, ...] = ()  # what could not be deleted or listed, with why

    @property
    def empty(self) -> bool:
        return self.asked and not (self.counts or self.unknown or self.failed)


EMPTY, PENDING = Left(), Left(asked=False)


class Elsewhere(Protocol):
    def left(self, namespace_uid: str) -> Left:
        """Return what is left of a namespace that is being deleted."""


class Nowhere:
    """Where there are no other servers."""

    def left(self, _namespace_uid: str) -> Left:
        return EMPTY
