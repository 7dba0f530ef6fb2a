"""Makes the status of a Machine as JSON. All of it is here, so that fields that belong together are always written together."""

from __future__ import annotations

from typing import Any

from labctl.clock import rfc3339, rfc3339_micro
from labctl.machines.decide import Phase
from labctl.providers.protocol import Machine, MachineEvent, Power

Status = dict[str, Any]


def booting() -> Status:
    return {"phase": Phase.BOOTING, "message": ""}


def booted(real: Machine, request: str, phase: str, wall_s: float) -> Status:
    event = MachineEvent(real.name, real.power, real.boot_id, "booted", intended=True)
    return {**seen_on(real, phase), **accepted_boot_request(request), "lastEvent": last_event(event, wall_s)}


def seen_on(real: Machine, phase: str) -> Status:
    return {
        "power": real.power.value,
        "bootID": real.boot_id,
        "address": address(real),
        "arch": real.arch,
        "phase": phase,
        "message": "",
    }


def address(real: Machine) -> str:
    """Return the address by which other machines reach it. Its Node and its pods report this address."""
    return real.node_address or real.address


def ended(event: MachineEvent, wall_s: float) -> Status:
    """Return the status after a boot has ended. The field bootID stays, because it says which boot."""
    why = event.reason if event.intended else f"{event.reason}; it stays off until `labctl up`"
    return {
        "power": event.power.value,
        "phase": Phase.OFF,
        "message": why,
        "lastEvent": last_event(event, wall_s),
        "conditions": joined("False", "Off", event.reason, wall_s),
    }


def power(event: MachineEvent, wall_s: float) -> Status:
    """Return the status of a machine that was paused or runs again."""
    return {
        "power": event.power.value,
        "message": event.reason if event.power is Power.PAUSED else "",
        "lastEvent": last_event(event, wall_s),
    }


def failed(message: str, request: str = "") -> Status:
    return {"phase": Phase.FAILED, "message": message, **accepted_boot_request(request)}


def ready(boot_id: str, wall_s: float) -> Status:
    message = "its agent runs and has registered the node"
    return {"phase": Phase.READY, "bootID": boot_id, "message": "", "conditions": joined("True", "AgentRegistered", message, wall_s)}


def accepted_boot_request(request: str) -> Status:
    """Says which boot request this status answers."""
    return {"observedBootRequest": request} if request else {}


def joined(status: str, reason: str, message: str, wall_s: float) -> list[dict[str, str]]:
    return [{"type": "Joined", "status": status, "reason": reason, "message": message, "lastTransitionTime": rfc3339(wall_s)}]


def last_event(event: MachineEvent, wall_s: float) -> dict[str, Any]:
    return {
        "power": event.power.value,
        "bootID": event.boot_id,
        "reason": event.reason,
        "intended": event.intended,
        "time": rfc3339_micro(wall_s),
    }
