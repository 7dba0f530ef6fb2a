"""Machines for `Lab`: the objects that it writes, and the wait until the master has carried them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from labctl.errors import ApiError, LabctlError

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

PATH = "/apis/labctl.internal/v1/machines"
_POLL_S = 0.03
_LOOK_S = 2.0
_REFUSALS = 3
"""A store that refused its last write at so many looks in a row, each so long after the one before, won't take another soon."""


def quantity(size_bytes: int) -> str:
    """Return a size as `1Gi`, `512Mi`, or plain bytes."""
    for unit, factor in (("Gi", 1 << 30), ("Mi", 1 << 20)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def wanted(lab: LabFolder, number: int, provider: str) -> dict[str, Any]:
    """Return the Machine object of minion-N as the settings want it."""
    settings = lab.settings
    return {
        "apiVersion": "labctl.internal/v1",
        "kind": "Machine",
        "metadata": {"name": f"minion-{number}"},
        "spec": {
            "provider": provider,
            "number": number,
            "memory": quantity(settings["memory"]),
            "cpus": f"{settings['cpus']:g}",
            "power": "On",
            **({"box": settings["box"]} if settings["box"] else {}),
        },
    }


def list_machines(lab: LabFolder) -> list[dict[str, Any]]:
    return sorted(lab.api.get(PATH)["items"], key=lambda machine: machine["spec"].get("number", 0))


def wait(
    lab: LabFolder,
    names: Iterable[str],
    done: Callable[[dict[str, Any] | None], str | None],
    *,
    timeout_s: float,
    mend: Callable[[str], str] = lambda _name: "labctl doctor, or see .labctl/log/master.log",
) -> None:
    """Wait until `done(machine)` returns "" for each name. Any other text says what the machine is doing. It is called with None for a
    deleted machine.

    Raises LabctlError at once if a machine has failed, and soon if the store takes no more, as on a full disk. At the timeout it raises LabctlError with
    the last text; `mend` says what helps a machine that is late.
    """
    from labctl.lab.progress import Step

    begun, said = time.monotonic(), dict.fromkeys(names, "")
    since = dict.fromkeys(said, begun)
    left, store = set(said), _Store(lab)
    for name in said:
        lab.progress(Step(name, "begun"))
    while left:
        machines = {machine["metadata"]["name"]: machine for machine in list_machines(lab)}
        for name in sorted(left):
            word = done(machines.get(name))
            now = time.monotonic()
            if not word:
                left.discard(name)
                lab.progress(Step(name, "done", now - begun))
            elif word != said[name]:
                said[name], since[name] = word, now
                lab.progress(Step(name, "note", now - begun, word))
        now = time.monotonic()
        if left and now - begun > timeout_s:
            name = min(left)
            raise LabctlError(
                f"{name}: not done after {timeout_s:.0f} s; last seen {said[name]}, for {now - since[name]:.0f} s",
                mend=mend(name),
            )
        if left:
            store.look(now)
            time.sleep(_POLL_S)


class _Store:
    """Looks now and then whether the master can write: who waits for it would wait in vain."""

    def __init__(self, lab: LabFolder) -> None:
        self._lab, self._next_s, self._refused = lab, time.monotonic() + _LOOK_S, 0

    def look(self, now: float) -> None:
        """Raises LabctlError if the store refused its last write each time, for a while."""
        if now < self._next_s:
            return
        self._next_s = now + _LOOK_S
        try:
            self._lab.api.get("/readyz/store")
            self._refused = 0
        except ApiError:
            self._refused += 1
        if self._refused == _REFUSALS:
            state = self._lab.paths.state
            raise LabctlError(
                f"the master can't write to its store in {state}", mend="labctl doctor; free space there, then run this again"
            )
