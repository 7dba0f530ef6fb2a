"""Progress of long work. `Lab` prints nothing; its caller passes a function that shows the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One report of a step of long work. `state` is begun, note (a text in between), done or failed;     `took_s` counts from the step's
    beginning.
    """

    name: str
    state: str
    took_s: float = 0.0
    note: str = ""


Progress = Callable[[Step], None]


def silent(_step: Step) -> None:
    """Do nothing, as a progress callback."""


@contextmanager
def step(progress: Progress, name: str) -> Iterator[Callable[[str], None]]:
    """Report the beginning and the end of a step. Yields a function that reports notes in between."""
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
