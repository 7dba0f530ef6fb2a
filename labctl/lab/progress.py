"""What long work says while it goes on. `Lab` prints nothing; whoever calls it passes a function that shows steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One step of long work. `state` is begun, note (a word in between), done or failed; `took_s` counts from its beginning."""

    name: str
    state: str
    took_s: float = 0.0
    note: str = ""


Progress = Callable[[Step], None]


def silent(_step: Step) -> None:
    """Show nothing."""


@contextmanager
def step(progress: Progress, name: str) -> Iterator[Callable[[str], None]]:
    """Tell the beginning and the end of a step; yields a function for notes in between."""
    begun = time.monotonic()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        progress(Step(name, "note", time.monotonic() - begun, text))

    progress(Step(name, "begun"))
    try:
        yield note
    except BaseException:
        progress(Step(name, "failed", time.monotonic() - begun))
        raise
    progress(Step(name, "done", time.monotonic() - begun, notes[-1] if notes else ""))
