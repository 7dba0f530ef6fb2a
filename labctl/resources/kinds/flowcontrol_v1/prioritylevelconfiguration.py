"""PriorityLevelConfiguration: how many requests of a level may run and wait. labctl keeps it for programs; its API has no levels."""

from __future__ import annotations

import math
from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import KEEPS_METADATA, Column, FieldError, Kind, Object, Subresource, TypeDefaults
from labctl.resources.kinds.flowcontrol_v1.flowschema import NO_LEVELS, prepare
from labctl.resources.kinds.inert import at, stored_only

_QUEUES_MAX = 10_000_000
_HASH_BITS = 60  # of the hash that deals a flow its queues
_TYPES, _ANSWERS = ("Exempt", "Limited"), ("Queue", "Reject")


def spec_defaults(spec: Object) -> None:
    if spec.get("type") == "Exempt":
        spec.setdefault("exempt", {})


def answer_defaults(response: Object) -> None:
    if response.get("type") == "Queue":
        response.setdefault("queuing", {})


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    type_, limited, exempt = spec.get("type"), spec.get("limited"), spec.get("exempt")
    if (new["metadata"].get("name") == "exempt") != (type_ == "Exempt"):
        yield fields.invalid("spec.type", type_ or "", "must be 'Exempt' if and only if `name` is 'exempt'")
    if type_ not in _TYPES:
        yield fields.not_supported("spec.type", type_, _TYPES)
    elif type_ == "Exempt":
        if limited is not None:
            yield fields.forbidden("spec.limited", "must be nil if the type is not Limited")
        yield from _shares("spec.exempt", exempt or {}, least=0)
    else:
        if exempt is not None:
            yield fields.forbidden("spec.exempt", "must be nil if the type is Limited")
        if limited is None:
            yield fields.required("spec.limited", "must not be empty when type is Limited")
        else:
            yield from _limited("spec.limited", limited)


def _shares(path: str, said: Object, *, least: int) -> Iterator[FieldError]:
    shares, lendable = said.get("nominalConcurrencyShares"), said.get("lendablePercent")
    if shares is not None and shares < least:
        yield fields.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")
    if lendable is not None and not 0 <= lendable <= 100:
        yield fields.invalid(f"{path}.lendablePercent", lendable, "must be between 0 and 100, inclusive")


def _limited(path: str, limited: Object) -> Iterator[FieldError]:
    yield from _shares(path, limited, least=0)
    if limited.get("borrowingLimitPercent", 0) is not None and limited.get("borrowingLimitPercent", 0) < 0:
        yield fields.invalid(
            f"{path}.borrowingLimitPercent", limited["borrowingLimitPercent"], "if specified, must be a non-negative integer"
        )
    response = limited.get("limitResponse") or {}
    type_, queuing = response.get("type"), response.get("queuing")
    if type_ not in _ANSWERS:
        yield fields.not_supported(f"{path}.limitResponse.type", type_, _ANSWERS)
    elif type_ == "Reject" and queuing is not None:
        yield fields.forbidden(f"{path}.limitResponse.queuing", "must be nil if limited.limitResponse.type is not Limited")
    elif queuing is not None:
        yield from _queuing(f"{path}.limitResponse.queuing", queuing)


def _queuing(path: str, queuing: Object) -> Iterator[FieldError]:
    for name in ("queueLengthLimit", "queues", "handSize"):
        if queuing.get(name, 1) <= 0:
            yield fields.invalid(f"{path}.{name}", queuing[name], "must be positive")
    if queuing.get("queues", 1) > _QUEUES_MAX:
        yield fields.invalid(f"{path}.queues", queuing["queues"], f"must not be greater than {_QUEUES_MAX}")
    if queuing.get("handSize", 1) > queuing.get("queues", 1):
        why = f"should not be greater than queues ({queuing['queues']})"
        yield fields.invalid(f"{path}.handSize", queuing["handSize"], why)
    yield from _shuffled(f"{path}.handSize", queuing.get("queues", 0), queuing.get("handSize", 0))


def _shuffled(path: str, queues: int, hand: int) -> Iterator[FieldError]:
    """Check that a hash has enough bits to deal a hand of so many queues."""
    if 0 < hand <= queues <= _QUEUES_MAX and math.ceil(math.log2(queues) * hand) > _HASH_BITS:
        why = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_HASH_BITS}"
        yield fields.invalid(path, hand, why)


def _number(name: str, description: str, path: str) -> Column:
    return Column(name, at(path, "<none>"), description=description)


_DEFINITION = "io.k8s.api.flowcontrol.v1."

KIND = Kind(
    group="flowcontrol.apiserver.k8s.io",
    version="v1",
    kind="PriorityLevelConfiguration",
    plural="prioritylevelconfigurations",
    singular="prioritylevelconfiguration",
    namespaced=False,
    view=GenericObject,
    columns=(
        NAME,
        Column("Type", at("spec.type"), description="Whether the level has a limit."),
        _number("NominalConcurrencyShares", "Its share of the requests that run at once.", "spec.limited.nominalConcurrencyShares"),
        _number("Queues", "How many queues it has.", "spec.limited.limitResponse.queuing.queues"),
        _number("HandSize", "Among how many queues a flow's requests are spread.", "spec.limited.limitResponse.queuing.handSize"),
        _number("QueueLengthLimit", "How many requests wait in a queue.", "spec.limited.limitResponse.queuing.queueLengthLimit"),
        AGE,
    ),
    subresources=(Subresource("status", ("get", "patch", "update"), keeps=KEEPS_METADATA),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=stored_only(NO_LEVELS),
    type_defaults={
        _DEFINITION + "PriorityLevelConfigurationSpec": TypeDefaults(function=spec_defaults),
        _DEFINITION + "ExemptPriorityLevelConfiguration": TypeDefaults(absent={"nominalConcurrencyShares": 0, "lendablePercent": 0}),
        _DEFINITION + "LimitedPriorityLevelConfiguration": TypeDefaults(absent={"nominalConcurrencyShares": 30, "lendablePercent": 0}),
        _DEFINITION + "LimitResponse": TypeDefaults(function=answer_defaults),
        _DEFINITION + "QueuingConfiguration": TypeDefaults(zero={"queues": 64, "handSize": 8, "queueLengthLimit": 50}),
    },
)
