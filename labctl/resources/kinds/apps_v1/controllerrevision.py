"""ControllerRevision: one template that a DaemonSet or StatefulSet had, so that `kubectl rollout undo` can bring it back. Its data never changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed


class ControllerRevision(Viewed, frozen=True, rename="camel", gc=False):
    revision: int = 0
    data: msgspec.Raw = msgspec.Raw(b"null")


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    if new.get("revision", 0) < 0:
        yield fields.invalid("revision", new["revision"], "must be greater than or equal to 0")
    if new.get("data") is None:
        yield fields.required("data", "data is mandatory")
    if old is not None and new.get("data") != old.get("data"):
        yield fields.invalid("data", new.get("data"), "field is immutable")


def _owner(view: Any, _now_s: float) -> str:
    owner = view.metadata.controller
    if owner is None:
        return "<none>"
    group = owner.api_version.partition("/")[0] if "/" in owner.api_version else ""
    return f"{owner.kind.lower()}.{group}/{owner.name}" if group else f"{owner.kind.lower()}/{owner.name}"


KIND = Kind(
    group="apps",
    version="v1",
    kind="ControllerRevision",
    plural="controllerrevisions",
    singular="controllerrevision",
    namespaced=True,
    view=ControllerRevision,
    columns=(
        NAME,
        Column("Controller", _owner, description="Whose template it is."),
        Column("Revision", lambda view, _now: view.revision, type="integer", description="Its number in the history."),
        AGE,
    ),
    validate=validate,
    acts_on=frozenset({"data", "revision"}),
)
