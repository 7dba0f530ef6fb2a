"""Remembers, for keys that are to be planned now or later, which revisions led to it. The journal names them, so that a fail-over can be followed by cause."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

CAUSES_MAX = 8  # revisions that are remembered for one key, the latest ones

Causes = tuple[int, ...]  # the latest last
K = TypeVar("K", bound=Hashable)


class CausesOf(Generic[K]):
    """The revisions of each key, until it is planned."""

    def __init__(self) -> None:
        self._causes: dict[K, Causes] = {}

    def add(self, key: K, revision: int) -> None:
        known = self._causes.get(key, ())
        if not known or known[-1] != revision:
            self._causes[key] = (*known[1 - CAUSES_MAX :], revision)

    def take(self, key: K) -> Causes:
        """Return the key's causes, and forget them: it is planned now."""
        return self._causes.pop(key, ())

    def give_back(self, key: K, causes: Causes) -> None:
        """Keep the causes for the next plan, because the key is planned again although nothing new may have changed."""
        if causes:
            self._causes[key] = (*causes, *self._causes.get(key, ()))[-CAUSES_MAX:]
