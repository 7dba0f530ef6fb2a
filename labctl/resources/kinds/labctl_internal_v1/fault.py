"""Fault: something that is broken on purpose. A person creates it, and the master's room `faults` does the deed, writes down what it did, and heals it.

spec says what is broken, where, and for how long; only `duration` and `heal` may change later. status says what was really done, and what healing needs:
`undo` is on disk before anything is touched, so that a master that was killed in the middle heals what it began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from labctl.resources import amounts, fields
from labctl.resources.cells import AGE, NAME, NONE, since
from labctl.resources.faulttypes import PEER_MASTER, TYPES, FaultType, form
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, Viewed
from labctl.resources.kinds import own
from labctl.resources.kinds.own import BOOLEAN, MICRO_TIME, STRING, TIME
from labctl.resources.kinds.shared import Condition

FINALIZER = "labctl.internal/fault"
STUCK = "Stuck"  # the condition of a fault whose next step fails and is tried again
PENDING, REFUSED, INJECTING, ACTIVE, HEALING, HEALED, FAILED = "Pending", "Refused", "Injecting", "Active", "Healing", "Healed", "Failed"
UNFINISHED = frozenset({INJECTING, ACTIVE, HEALING})
ENDED = frozenset({REFUSED, HEALED, FAILED})
PHASES = (PENDING, REFUSED, INJECTING, ACTIVE, HEALING, HEALED, FAILED)
DIRECTIONS = ("both", "in", "out")
DURATION_MAX_S = 7 * 24 * 3600.0
PARAMETERS_MAX = 16
TARGET_FORMS = {
    "machine": "minion-1",
    "pod": "pod/NAMESPACE/NAME[/CONTAINER]",
    "master": "master",
    "client": "client/USER",
}


class FaultSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    target: str = ""
    peer: str = ""  # of a link: the other machine, or `master`
    direction: str = ""  # of a link: both, in (to the target), out (from the target); empty means both
    parameters: dict[str, str] = {}
    duration: str = ""  # empty: until it is healed
    heal: bool = False


class FaultStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    phase: str = ""
    message: str = ""
    reason_to_heal: str = ""  # why it is being healed, or was; `message` may meanwhile say why that fails
    injected_at: str = ""
    healed_at: str = ""
    injected_monotonic: float = 0.0  # seconds of the master's host's CLOCK_MONOTONIC when the deed began, as in the journal
    healed_monotonic: float = 0.0
    took_seconds: float = 0.0  # the deed's own time: the fault began at some moment of it
    done: tuple[str, ...] = ()
    undo: dict[str, Any] = {}
    conditions: tuple[Condition, ...] = ()  # STUCK


class Fault(Viewed, frozen=True, rename="camel", gc=False):
    spec: FaultSpec = FaultSpec()
    status: FaultStatus = FaultStatus()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def phase(self) -> str:
        return self.status.phase or PENDING

    @property
    def type(self) -> FaultType:
        return TYPES[self.spec.type]

    @property
    def form(self) -> str:
        """Return the target's form: machine, pod, master or client."""
        return form(self.spec.target)

    @property
    def machine(self) -> str:
        """Return the name of the machine that is the target, or "" if the target is no machine."""
        return self.spec.target if self.form == "machine" else ""

    @property
    def pod(self) -> tuple[str, str, str]:
        """Return (namespace, name, container) of the pod that is the target. The container may be empty."""
        namespace, name, container = (*self.spec.target.split("/")[1:], "")[:3]
        return namespace, name, container

    @property
    def client(self) -> str:
        """Return the name of the user that is the target, or "" if the target is none."""
        return self.spec.target.partition("/")[2] if self.form == "client" else ""

    @property
    def stuck(self) -> str:
        """Why its next step fails; empty if it does not."""
        return next((each.message for each in self.status.conditions if each.type == STUCK and each.status == "True"), "")

    @property
    def direction(self) -> str:
        return self.spec.direction or "both"

    @property
    def duration_s(self) -> float:
        """Return how many seconds it lasts; 0 if it lasts until it is healed."""
        return amounts.duration(self.spec.duration) if self.spec.duration else 0.0

    def parameter(self, name: str, default: Any = None) -> Any:
        """Return the parsed value of a parameter (seconds, a share between 0 and 1, bytes, ...), or `default` if it is not given."""
        text = self.spec.parameters.get(name)
        return default if text is None else self.type.parameters[name].parse(text)


def prepare(new: Object, old: Object | None) -> None:
    """Gives a new fault an empty status, and the finalizer: it may go only when what it broke is whole again."""
    if old is not None:
        return
    new["status"] = {}
    finalizers = new["metadata"].setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if old is not None:
        yield from _changes(spec, old.get("spec") or {})
    type_ = TYPES.get(spec.get("type", ""))
    if not spec.get("type"):
        yield fields.required("spec.type")
    elif type_ is None:
        yield fields.not_supported("spec.type", spec["type"], TYPES)
    else:
        yield from _target(spec, type_)
        yield from _link(spec, type_)
        yield from _parameters(spec.get("parameters") or {}, type_)
        if type_.once and spec.get("duration"):
            yield fields.forbidden("spec.duration", f"may not be set when `type` is {spec['type']!r}, which is over as soon as it happened")
    yield from _duration(spec.get("duration", ""))


def _changes(spec: Object, before: Object) -> Iterator[FieldError]:
    for name in ("type", "target", "peer", "direction", "parameters"):
        if (spec.get(name) or None) != (before.get(name) or None):
            yield fields.invalid(f"spec.{name}", spec.get(name), "field is immutable")
    if before.get("heal") and not spec.get("heal"):
        yield fields.forbidden("spec.heal", "may not be taken back once it was set")


def _target(spec: Object, type_: FaultType) -> Iterator[FieldError]:
    target = spec.get("target", "")
    if not target:
        yield fields.required("spec.target")
    elif form(target) not in type_.targets:
        forms = " or ".join(TARGET_FORMS[each] for each in type_.targets)
        yield fields.invalid("spec.target", target, f"a fault of type {spec['type']} hits {forms}")


def _link(spec: Object, type_: FaultType) -> Iterator[FieldError]:
    for name in ("peer", "direction"):
        if spec.get(name) and not type_.link:
            yield fields.forbidden(f"spec.{name}", f"may not be set when `type` is {spec['type']!r}")
            return
    peer, direction = spec.get("peer", ""), spec.get("direction", "")
    if direction not in ("", *DIRECTIONS):
        yield fields.not_supported("spec.direction", direction, DIRECTIONS)
    if peer and peer == spec.get("target"):
        yield fields.invalid("spec.peer", peer, "must be another machine than the target, or `master`")
    elif peer and peer != PEER_MASTER and form(peer) != "machine":
        yield fields.invalid("spec.peer", peer, "must be the name of a machine, or `master`")


def _parameters(parameters: Mapping[str, str], type_: FaultType) -> Iterator[FieldError]:
    if len(parameters) > PARAMETERS_MAX:
        yield fields.too_many("spec.parameters", len(parameters), PARAMETERS_MAX)
        return
    for name, text in sorted(parameters.items()):
        known = type_.parameters.get(name)
        if known is None:
            yield fields.not_supported("spec.parameters", name, type_.parameters)
            continue
        try:
            known.parse(text)
        except ValueError as error:
            yield fields.invalid(f"spec.parameters[{name}]", text[:100], str(error))
    for name, known in type_.parameters.items():
        if known.required and name not in parameters:
            yield fields.required(f"spec.parameters[{name}]")


def _duration(text: str) -> Iterator[FieldError]:
    if not text:
        return
    try:
        seconds = amounts.duration(text)
    except ValueError as error:
        yield fields.invalid("spec.duration", text[:100], str(error))
        return
    if not 0 < seconds <= DURATION_MAX_S:
        yield fields.invalid("spec.duration", text, "must be greater than 0 and at most 168h")


def selectable(fault: Fault) -> Mapping[str, str]:
    return {"spec.type": fault.spec.type, "spec.target": fault.spec.target, "status.phase": fault.phase}


def _since(fault: Fault, now_s: float) -> str:
    return since(fault.status.injected_at, now_s) if fault.status.injected_at else NONE


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Type", lambda fault, _now: fault.spec.type, description="What is broken."),
    Column("Target", lambda fault, _now: fault.spec.target, description="What it hits."),
    Column("Phase", lambda fault, _now: fault.phase, description="Where it is between being asked for and being healed."),
    Column("Since", _since, description="Time since the deed was done."),
    Column("Duration", lambda fault, _now: fault.spec.duration or NONE, description="How long it lasts; <none>: until it is healed."),
    AGE,
    Column("Peer", lambda fault, _now: fault.spec.peer or NONE, priority=1, description="The other end of the link."),
    Column("Direction", lambda fault, _now: fault.spec.direction or NONE, priority=1, description="The direction of the link."),
    Column("Message", lambda fault, _now: fault.status.message or NONE, priority=1, description="Why it is as it is."),
)

_NAME = "internal.labctl.v1.Fault"
_NUMBER = {"type": "number", "format": "double"}
DEFINITIONS: Mapping[str, Object] = {
    **own.top_level(_NAME, "labctl.internal", "v1", spec=own.reference(_NAME + "Spec"), status=own.reference(_NAME + "Status")),
    _NAME + "Spec": own.struct(
        direction=STRING,
        duration=STRING,
        heal=BOOLEAN,
        parameters={"type": "object", "additionalProperties": STRING},
        peer=STRING,
        target=STRING,
        type=STRING,
    ),
    _NAME + "Status": own.struct(
        conditions=own.list_by("type", _NAME + "Condition"),
        done={"type": "array", "items": STRING, "x-kubernetes-list-type": "atomic"},
        healedAt=MICRO_TIME,
        healedMonotonic=_NUMBER,
        injectedAt=MICRO_TIME,
        injectedMonotonic=_NUMBER,
        message=STRING,
        phase={**STRING, "enum": [*PHASES, ""]},
        reasonToHeal=STRING,
        tookSeconds=_NUMBER,
        undo=own.reference("io.k8s.apimachinery.pkg.runtime.RawExtension"),
    ),
    _NAME + "Condition": own.struct("type", "status", lastTransitionTime=TIME, message=STRING, reason=STRING, status=STRING, type=STRING),
}

KIND = Kind(
    group="labctl.internal",
    version="v1",
    kind="Fault",
    plural="faults",
    singular="fault",
    namespaced=False,
    view=Fault,
    columns=COLUMNS,
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    fields=selectable,
    definitions=DEFINITIONS,
)
