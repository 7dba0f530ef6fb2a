"""PriorityClass: how important pods are that name it. The admission step Priority writes its value into each new pod."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed

HIGHEST_OF_USERS = 1_000_000_000
SYSTEM_PREFIX = "system-"
SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_POLICIES = ("Never", "PreemptLowerPriority")


class PriorityClass(Viewed, frozen=True, rename="camel", gc=False):
    value: int = 0
    global_default: bool = False
    preemption_policy: str = "PreemptLowerPriority"


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    name, value = new["metadata"].get("name", ""), new.get("value", 0)
    if name.startswith(SYSTEM_PREFIX):
        if SYSTEM.get(name) != value:
            why = f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {_why_not_known(name)}"
            yield fields.forbidden("metadata.name", why)
    elif value > HIGHEST_OF_USERS:
        yield fields.forbidden("value", f"maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}")
    policy = new.get("preemptionPolicy", "PreemptLowerPriority")
    if policy not in _POLICIES:
        yield fields.not_supported("preemptionPolicy", policy, _POLICIES)
    if old is not None:
        for field in ("value", "preemptionPolicy"):
            if new.get(field) != old.get(field):
                yield fields.forbidden(field, "may not be changed in an update.")


def _why_not_known(name: str) -> str:
    return f"value of {name} PriorityClass must be {SYSTEM[name]}" if name in SYSTEM else f"{name} is not a known system priority class"


KIND = Kind(
    group="scheduling.k8s.io",
    version="v1",
    kind="PriorityClass",
    plural="priorityclasses",
    singular="priorityclass",
    namespaced=False,
    view=PriorityClass,
    short_names=("pc",),
    columns=(
        NAME,
        Column("Value", lambda it, _now: it.value, type="integer", description="The priority of its pods; more is more important."),
        Column(
            "Global-Default",
            lambda it, _now: "true" if it.global_default else "false",
            type="boolean",
            description="Pods that name none get it.",
        ),
        AGE,
        Column("PreemptionPolicy", lambda it, _now: it.preemption_policy, description="Whether its pods may push others out."),
    ),
    validate=validate,
    has_generation=True,
    type_defaults={"io.k8s.api.scheduling.v1.PriorityClass": TypeDefaults(absent={"preemptionPolicy": "PreemptLowerPriority"})},
)
