"""Small views that several kinds use: conditions and references."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Quantity = str | int | float
"""A quantity as it is in JSON: `"1Gi"`, `"100m"`, `2`, `0.5`. resources/quantities.py parses it."""


class Condition(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A condition in the status of an object, such as a Pod, a Node, a Deployment or a Machine."""

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
    """A reference by name to an object; the field that holds it determines the kind."""

    name: str = ""
    key: str = ""
    optional: bool = False


def condition(conditions: Iterable[Any], type_: str) -> Any:
    """Returns the condition of that type, or None."""
    for found in conditions:
        if found.type == type_:
            return found
    return None


def condition_status(conditions: Iterable[Any], type_: str) -> str:
    """Returns the status of the condition of that type: `True`, `False`, `Unknown`, or empty if there is no such condition."""
    found = condition(conditions, type_)
    return found.status if found else ""
