"""Ending a watch, which is the same for every provider."""

from __future__ import annotations

from typing import Protocol, TypeVar

from labctl.providers.protocol import Stop


class Stoppable(Protocol):
    """A watch."""

    def stop(self) -> None: ...


W = TypeVar("W", bound=Stoppable)


def stopper(watchers: list[W], watcher: W) -> Stop:
    """Add `watcher` to `watchers` and return the function that stops and removes it. Calling that again is no error."""
    watchers.append(watcher)

    def stop() -> None:
        if watcher in watchers:
            watchers.remove(watcher)
            watcher.stop()

    return stop
