"""Decides what a machine needs next: a pure function of its object and of what is known about it now.

    being deleted                    Destroy
    wanted Off, but not off          Halt
    wanted On, off                   Boot, if this boot is wanted; else Rest: a fault is not repaired unasked
    on, this boot not joined         Join
    else                             Rest

A boot is wanted if the machine never had one; if its last end was intended (it was halted, then wanted On again); or if there is a boot
request that was
not answered yet: the annotation that `labctl up` writes. A machine that went off by itself, or failed to boot, stays off until then.
"""

from __future__ import annotations

import enum

import msgspec

from labctl.providers import protocol
from labctl.resources.kinds.labctl_internal_v1.machine import Machine

FINALIZER = "labctl.internal/machine"


class Phase:
    """The values of status.phase. They are plain strings, which go into JSON as they are."""

    BOOTING = "Booting"
    JOINING = "Joining"
    READY = "Ready"
    HALTING = "Halting"
    OFF = "Off"
    FAILED = "Failed"
    DESTROYING = "Destroying"


class Need(enum.Enum):
    """What a machine can need."""

    ADOPT = "put our finalizer on it"
    DESTROY = "destroy"
    HALT = "halt"
    BOOT = "boot"
    JOIN = "join"
    REST = "rest"


class Known(msgspec.Struct):
    """What this process knows about a machine.

    A new process asks the provider instead, and joining the machine again then changes nothing.
    """

    real: protocol.Machine | None = None  # what the provider said last
    joined: str = ""  # the boot id whose agent this process has started or found running
    refused: str = ""  # the boot id that can't be joined; it is tried again after another boot or a new request
    attempts: int = 0  # of joining, in a row


def need(machine: Machine, known: Known) -> Need:
    """Decide what the machine needs next."""
    if machine.metadata.deletion_timestamp:
        return Need.DESTROY
    if FINALIZER not in machine.metadata.finalizers:
        return Need.ADOPT
    real = known.real
    off = real is None or real.power is protocol.Power.OFF
    if machine.spec.power == "Off":
        return Need.REST if off else Need.HALT
    if off or (real and real.power is protocol.Power.PAUSED):
        return Need.BOOT if wants_boot(machine, off=off) else Need.REST
    assert real is not None
    if machine.boot_requested:
        return Need.BOOT  # it runs already, so the provider answers at once, and then the request is answered
    if real.boot_id in (known.joined, known.refused):
        return Need.REST
    return Need.JOIN


def wants_boot(machine: Machine, *, off: bool) -> bool:
    """Tell whether somebody wants this boot; the module's docstring lists the cases."""
    if machine.boot_requested:
        return True
    status = machine.status
    if not off or status.phase == Phase.FAILED:
        return False
    if not status.boot_id:
        return True
    last = status.last_event
    return last is not None and last.power == protocol.Power.OFF and last.intended
