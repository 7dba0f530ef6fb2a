"""Conditions of an object, given as JSON: a list in which each type stands once."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.resources.kind import Object


def with_condition(conditions: Iterable[Object], told: Object) -> list[Object]:
    """Return the conditions with this one in the place of the one of its type."""
    return [*(each for each in conditions if each.get("type") != told["type"]), told]
