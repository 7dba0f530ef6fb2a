"""Finds in the journal a fault that nobody injected through labctl: the end of a machine, a pod that ended or was asked to leave.

`labctl timeline machine/minion-2` asks it. When such a fault really began is known to nobody, so its time counts from the line with which it was noticed.
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.errors import UsageError
from labctl.journal import Line
from labctl.measure.marks import FaultFacts

NOTICED = "noticed"  # the type of such a fault
_MACHINE_LINES = ("off", "repaired", "ssh-lost")  # what is looked for, the surest first
_POD_LINES = frozenset(("ended", "unready", "leaving", "delete"))
_MACHINE_WORDS, _POD_WORDS = ("machine", "machines", "node", "nodes", "no"), ("pod", "pods", "po")


def noticed(what: str, namespace: str, lines: Sequence[Line]) -> FaultFacts | None:
    """Return the latest fault of `machine/NAME`, `pod/NAME` or `pod/NAMESPACE/NAME`; None if the journal has none. Raises UsageError for other words."""
    kind, _, name = what.partition("/")
    if kind in _MACHINE_WORDS and name and "/" not in name:
        begun = _machine(name, lines)
        return FaultFacts(name=what, type=NOTICED, target=name, injected_s=begun.t) if begun else None
    if kind in _POD_WORDS and name.strip("/").count("/") < 2 and name:
        key = name if "/" in name else f"{namespace}/{name}"
        begun = _pod(f"pods/{key}", lines)
        return FaultFacts(name=what, type=NOTICED, target=f"pod/{key}", injected_s=begun.t) if begun else None
    raise UsageError(f"{what!r} names no fault", mend="write a fault's name, machine/NAME or pod/NAME")


def _machine(name: str, lines: Sequence[Line]) -> Line | None:
    of_it = [line for line in lines if line.where == name and line.did in _MACHINE_LINES]
    for did in _MACHINE_LINES:
        for line in reversed(of_it):
            if line.did == did:
                return line
    return None


def _pod(about: str, lines: Sequence[Line]) -> Line | None:
    """Return the first line that says that the pod is lost, since it was last ready; of several such times the last."""
    begun: Line | None = None
    well = True
    for line in lines:
        if line.about != about:
            continue
        if line.did in _POD_LINES and well:
            begun, well = line, False
        elif line.did == "ready":
            well = True
    return begun
