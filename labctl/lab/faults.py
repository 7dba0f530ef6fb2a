"""Faults for `Lab`: it writes Fault objects, and waits until the master has carried them out, refused or healed them.

    LabFaults(lab).inject("power-off", "minion-1", duration="30s")

Everybody who may write Faults can do the same with kubectl. The faults of power and of whole links also work without a master: see `Lab.fault`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.errors import ApiError, LabctlError

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

Object = dict[str, Any]
PATH = "/apis/labctl.internal/v1/faults"
INJECT_S, HEAL_S = 120.0, 120.0
_POLL_S = 0.02
_BEFORE = ("", "Pending", "Injecting")
ENDED = ("Refused", "Healed", "Failed")


class LabFaults:
    """The faults of one lab."""

    def __init__(self, lab: LabFolder) -> None:
        self._lab = lab

    def create(
        self,
        type_: str,
        target: str,
        *,
        duration: str = "",
        peer: str = "",
        direction: str = "",
        parameters: Mapping[str, str] | None = None,
        name: str = "",
    ) -> Object:
        """Writes the Fault and returns it as it was written, at once. Raises ApiError if it is no valid Fault."""
        given = {"peer": peer, "direction": direction, "duration": duration, "parameters": dict(parameters or {})}
        spec = {"type": type_, "target": target, **{key: value for key, value in given.items() if value}}
        metadata = {"name": name} if name else {"generateName": f"{type_}-{_last_word(target)}-"}
        made: Object = self._lab.api.post(PATH, {"apiVersion": "labctl.internal/v1", "kind": "Fault", "metadata": metadata, "spec": spec})
        return made

    def inject(self, type_: str, target: str, **how: Any) -> Object:
        """Writes the Fault and returns it when it is at work, or over. Raises LabctlError if it was refused or failed. See `create`."""
        fault = self.wait(self.create(type_, target, **how)["metadata"]["name"], lambda phase: phase not in _BEFORE, INJECT_S)
        status = fault["status"]
        if status["phase"] in ("Refused", "Failed"):
            raise LabctlError(f"{status['phase'].lower()}: {status.get('message', '')}")
        return fault

    def all(self) -> Sequence[Object]:
        found: list[Object] = self._lab.api.get(PATH)["items"]
        return found

    def unfinished(self, type_: str = "", target: str = "") -> list[str]:
        """Returns the names of the faults that are not over, of this type and target if they are given."""
        return [
            fault["metadata"]["name"]
            for fault in self.all()
            if _phase(fault) not in ENDED and type_ in ("", fault["spec"]["type"]) and target in ("", fault["spec"]["target"])
        ]

    def heal(self, names: Iterable[str]) -> list[Object]:
        """Has these faults healed, and returns them when they are. One that is over already stays as it is."""
        asked = list(dict.fromkeys(names))
        for name in asked:
            fault = self._lab.api.get(f"{PATH}/{name}")
            if _phase(fault) not in ENDED and not fault["spec"].get("heal"):
                self._lab.api.patch(f"{PATH}/{name}", {"spec": {"heal": True}})
        return [self.wait(name, lambda phase: phase in ENDED, HEAL_S) for name in asked]

    def wait(self, name: str, done: Any, timeout_s: float) -> Object:
        """Returns the fault as soon as `done(phase)`. Raises LabctlError after `timeout_s`; 0 waits without an end."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                fault: Object = self._lab.api.get(f"{PATH}/{name}")
            except ApiError as error:
                if error.code == 404:
                    raise LabctlError(f"fault {name} was deleted") from None
                raise
            if done(_phase(fault)):
                return fault
            if timeout_s and time.monotonic() > end:
                message = fault.get("status", {}).get("message", "")
                raise LabctlError(
                    f"fault {name} is still {_phase(fault)} after {timeout_s:.0f} s{': ' + message if message else ''}",
                    mend="labctl status, or see .labctl/log/master.log",
                )
            time.sleep(_POLL_S)


def _phase(fault: Object) -> str:
    return str(fault.get("status", {}).get("phase") or "Pending")


def _last_word(target: str) -> str:
    """Returns the last part of a target, as far as it may stand in an object's name."""
    return re.sub(r"[^a-z0-9-]+", "-", target.rpartition("/")[2].lower()).strip("-")[:40] or "target"
