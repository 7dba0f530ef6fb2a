"""Small views that several kinds hold: conditions, references, container resources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Quantity = str | int | float
"""As JSON has it: `"1Gi"`, `"100m"`, `2`, `0.5`; resources/quantities.py reads it."""


class Condition(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A condition of an object's status: a Pod, a Node, a Deployment, a Machine."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    last_heartbeat_time: str = ""
    last_update_time: str = ""


class ObjectReference(msgspec.Struct, frozen=True, rename="camel", gc=False):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class NameReference(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A reference by name, of whatever kind the field says."""

    name: str = ""
    key: str = ""
    optional: bool = False


def condition(conditions: Iterable[Any], type_: str) -> Any:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == type_), None)


def condition_status(conditions: Iterable[Any], type_: str) -> str:
    """Its status: `True`, `False`, `Unknown`, or empty when nobody said anything yet."""
    found = condition(conditions, type_)
    return found.status if found else ""
