"""Machine: one minion's hardware. `labctl up` declares it, and the master's `machines` room creates it through a provider.

spec is the desired state (power On or Off), status the observed one, so that an intended halt is not taken for a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.resources import fields, quantities
from labctl.resources.cells import AGE, NAME, NONE, UNKNOWN
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import own
from labctl.resources.kinds.own import BOOLEAN, INT32, MICRO_TIME, QUANTITY, STRING, TIME
from labctl.resources.kinds.shared import Condition, Quantity, condition_status

BOOT_REQUEST = "labctl.internal/boot-request"  # an annotation: a new value asks for a boot, once
MAX_NUMBER = 200  # the lab's network has addresses for as many


class MachineSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    provider: str = ""
    number: int = 0  # minion-N's N: its address and its pods' range follow from it
    memory: Quantity = ""
    cpus: Quantity = ""
    address: str = ""
    box: str = ""
    power: str = "On"  # On, Off


class PowerEvent(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The last event that the provider reported about a boot of the machine."""

    power: str = ""
    boot_id: str = msgspec.field(default="", name="bootID")
    reason: str = ""
    intended: bool = False
    time: str = ""


class MachineStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    power: str = ""  # On, Off, Paused, or empty: not seen yet
    boot_id: str = msgspec.field(default="", name="bootID")
    address: str = ""
    arch: str = ""
    phase: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    last_event: PowerEvent | None = None
    observed_boot_request: str = ""


class Machine(Viewed, frozen=True, rename="camel", gc=False):
    spec: MachineSpec = MachineSpec()
    status: MachineStatus = MachineStatus()

    @property
    def joined(self) -> bool:
        """True if its agent runs and has connected to the master since the last boot."""
        return condition_status(self.status.conditions, "Joined") == "True"

    def end_of(self, boot_id: str) -> PowerEvent | None:
        """Returns the provider's event that ended this boot; None if no such event is known."""
        event = self.status.last_event
        if not boot_id:
            return None
        if event is not None and event.power == "Off" and event.boot_id == boot_id:
            return event
        if self.status.power == "Off" and self.status.boot_id == boot_id:
            return PowerEvent("Off", boot_id, self.status.message)
        return None

    @property
    def boot_requested(self) -> bool:
        """True if somebody requested a boot and the machines room has not accepted the request yet."""
        return self.metadata.annotations.get(BOOT_REQUEST, "") not in ("", self.status.observed_boot_request)


def prepare(new: Object, old: Object | None) -> None:
    """Gives a new machine an empty status: nobody has observed it yet."""
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec, before = new.get("spec", {}), (old or {}).get("spec", {})
    if spec.get("power") not in ("On", "Off"):
        yield fields.not_supported("spec.power", spec.get("power", ""), ("Off", "On"))
    number = spec.get("number", 0)
    if not 1 <= number <= MAX_NUMBER:
        yield fields.invalid("spec.number", number, f"must be between 1 and {MAX_NUMBER}, inclusive")
    for name in ("memory", "cpus"):
        if spec.get(name) and quantities.parse(spec[name]) <= 0:
            yield fields.invalid(f"spec.{name}", spec[name], "must be greater than 0")
    for name in ("number", "provider"):
        if before.get(name) and spec.get(name) != before[name]:
            yield fields.invalid(f"spec.{name}", spec.get(name), "field is immutable")


def selectable(machine: Machine) -> Mapping[str, str]:
    return {"spec.power": machine.spec.power, "status.power": machine.status.power, "status.phase": machine.status.phase}


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Provider", lambda machine, _now: machine.spec.provider, description="What makes it."),
    Column("Power", lambda machine, _now: machine.status.power or UNKNOWN, description="Its power, as last seen."),
    Column("Phase", lambda machine, _now: machine.status.phase or NONE, description="Where it is on its way to being a node."),
    Column("Address", lambda machine, _now: machine.status.address or machine.spec.address or NONE, description="Its address in the lab."),
    AGE,
    Column("Memory", lambda machine, _now: str(machine.spec.memory), priority=1, description="How much memory it has."),
    Column("CPUs", lambda machine, _now: str(machine.spec.cpus), priority=1, description="How many CPUs it has."),
    Column("Wanted", lambda machine, _now: machine.spec.power, priority=1, description="The power it shall have."),
    Column(
        "Message",
        lambda machine, _now: machine.status.message or NONE,
        priority=1,
        description="What it is waiting for, or what went wrong.",
    ),
)

_NAME = "internal.labctl.v1.Machine"
DEFINITIONS: Mapping[str, Object] = {
    **own.top_level(_NAME, "labctl.internal", "v1", spec=own.reference(_NAME + "Spec"), status=own.reference(_NAME + "Status")),
    _NAME + "Spec": own.struct(
        address=STRING,
        box=STRING,
        cpus=QUANTITY,
        memory=QUANTITY,
        number=INT32,
        power={**STRING, "enum": ["On", "Off"]},
        provider=STRING,
    ),
    _NAME + "Status": own.struct(
        address=STRING,
        arch=STRING,
        bootID=STRING,
        conditions=own.list_by("type", _NAME + "Condition"),
        lastEvent=own.reference(_NAME + "PowerEvent"),
        message=STRING,
        observedBootRequest=STRING,
        phase=STRING,
        power={**STRING, "enum": ["On", "Off", "Paused", ""]},
    ),
    _NAME + "Condition": own.struct(
        "type",
        "status",
        lastHeartbeatTime=TIME,
        lastTransitionTime=TIME,
        message=STRING,
        reason=STRING,
        status=STRING,
        type=STRING,
    ),
    _NAME + "PowerEvent": own.struct(bootID=STRING, intended=BOOLEAN, power=STRING, reason=STRING, time=MICRO_TIME),
}

KIND = Kind(
    group="labctl.internal",
    version="v1",
    kind="Machine",
    plural="machines",
    singular="machine",
    namespaced=False,
    view=Machine,
    columns=COLUMNS,
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    fields=selectable,
    name_rule="label",
    type_defaults={_NAME + "Spec": TypeDefaults(zero={"power": "On"})},
    definitions=DEFINITIONS,
)
