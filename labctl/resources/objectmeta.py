"""Rules of the fields of metadata that hold for every kind, and for an object inside of a custom object. `path` leads to the field in errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labctl.resources import fields, names
from labctl.resources.kind import FieldError
from labctl.resources.labels import key_errors

STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
"""Finalizers without a domain."""
_OF_AN_OWNER = (
    ("apiVersion", "version must not be empty"),
    ("kind", "must not be empty"),
    ("name", "must not be empty"),
    ("uid", "must not be empty"),
)


def owners(path: str, said: Sequence[dict[str, Any]]) -> Iterator[FieldError]:
    """Yield what is wrong with ownerReferences."""
    controllers: list[str] = []
    for owner in said:
        for name, why in _OF_AN_OWNER:
            if not owner.get(name):
                yield fields.invalid(f"{path}.{name}", owner.get(name, ""), why)
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            yield fields.invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner")
        if owner.get("controller"):
            controllers.append(f"{owner.get('kind', '')}/{owner.get('name', '')}")
    for other in controllers[1:]:
        why = f'Only one reference can have Controller set to true. Found "true" in references for {controllers[0]} and {other}'
        yield fields.invalid(path, said, why)


def finalizers(path: str, said: Sequence[str]) -> Iterator[FieldError]:
    """Yield what is wrong with finalizers, whatever was there before."""
    for finalizer in said:
        yield from names.checked(path, finalizer, key_errors)
    if "orphan" in said and "foregroundDeletion" in said:
        yield fields.invalid(path, said, "finalizer orphan and foregroundDeletion cannot be both set")
