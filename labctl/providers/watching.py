"""What ends a watch, the same for every provider."""

from __future__ import annotations

from typing import Protocol, TypeVar

from labctl.providers.protocol import Stop


class Stoppable(Protocol):
    def stop(self) -> None: ...


W = TypeVar("W", bound=Stoppable)


def stopper(watchers: list[W], watcher: W) -> Stop:
    """Keep `watcher` among the others until the answered function is called; calling that again is no error."""
    watchers.append(watcher)

    def stop() -> None:
        if watcher in watchers:
            watchers.remove(watcher)
            watcher.stop()

    return stop
