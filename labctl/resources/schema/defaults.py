"""This module fills in Kubernetes' defaults for fields that a user left out. The official definitions have no defaults, so each kind's file has a table.

apply_defaults() is called once per create, update and patch, between decoding and a kind's own `defaults` and `validate`. The tables are keyed by
definition (Kind.type_defaults), so a pod template gets what a pod gets. Only what the type itself says belongs there; what the server owns (uid, VIP,
phase) is the business of a kind's `prepare`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from labctl.resources.kind import Kind, Object, TypeDefaults
from labctl.resources.schema.definitions import Schema, Type

_NONE = TypeDefaults()


def apply_defaults(schema: Schema, kind: Kind, obj: Object) -> None:
    """Fills `obj` in place. Doing it twice changes nothing."""
    plan = _plan_of(kind, schema.type_of(kind.group, kind.version, kind.kind))
    if plan is not None:
        _fill(plan, obj)


# ---- the walk: a plan for each type leads only to the fields that can have a default


@dataclass(slots=True, eq=False)
class _Plan:
    own: TypeDefaults
    below: dict[str, tuple[str, _Plan]] = field(default_factory=dict)  # field -> (shape, plan)


class _Planned(NamedTuple):
    type: Type
    plan: _Plan | None


_planned: WeakKeyDictionary[Kind, _Planned] = WeakKeyDictionary()


def _plan_of(kind: Kind, type_: Type) -> _Plan | None:
    """Returns the plan of a kind's type, which is made once; None if nothing in it has a default."""
    if not kind.type_defaults:
        return None
    planned = _planned.get(kind)
    if planned is None or planned.type is not type_:
        planned = _planned[kind] = _Planned(type_, _compiled(kind.type_defaults, type_, {}))
    return planned.plan


def _compiled(table: Mapping[str, TypeDefaults], type_: Type, plans: dict[Type, _Plan | None]) -> _Plan | None:
    """Returns the plan of a struct; None if nothing in it or below it has a default."""
    if type_ not in plans:
        plan = _Plan(table.get(type_.name, _NONE))
        plans[type_] = plan  # before the fields are looked at, because a type may contain itself
        for name, shape, target in type_.structs():
            if below := _compiled(table, target, plans):
                plan.below[name] = (shape, below)
        if plan.own is _NONE and not plan.below:
            plans[type_] = None
    return plans[type_]


def _fill(plan: _Plan, obj: Object) -> None:
    own = plan.own
    for key, value in own.zero.items():
        if not obj.get(key):
            obj[key] = value
    for key, value in own.absent.items():
        if key not in obj:
            obj[key] = deepcopy(value) if isinstance(value, dict) else value
    if own.function is not None:
        own.function(obj)
    for key, (shape, below) in plan.below.items():
        value = obj.get(key)
        if value is None:
            continue
        if shape == "struct":
            _fill(below, value)
        else:
            for item in value if shape == "list" else value.values():
                _fill(below, item)
