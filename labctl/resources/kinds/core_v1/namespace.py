"""Namespace: a scope for names. The namespace controller carries out its deletion, and then removes `kubernetes` from spec.finalizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from labctl.resources import fields as errors
from labctl.resources import names
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.shared import Condition
from labctl.resources.labels import key_errors
from labctl.resources.objectmeta import STANDARD_FINALIZERS


class NamespaceSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    finalizers: tuple[str, ...] = ()


class NamespaceStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Namespace(Viewed, frozen=True, rename="camel", gc=False):
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


def fields(namespace: Namespace) -> Mapping[str, str]:
    return {"status.phase": namespace.status.phase}


def defaults(namespace: Object) -> None:
    """Adds the label with the namespace's name, so that it can be selected by name."""
    metadata = namespace.setdefault("metadata", {})
    if metadata.get("name"):
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]


def prepare(new: Object, old: Object | None) -> None:
    """Makes a new namespace Active, with the finalizer `kubernetes`, which the namespace controller removes when the namespace is empty."""
    spec = new.setdefault("spec", {})
    if old is None:
        new["status"] = {"phase": "Active"}
        spec["finalizers"] = ["kubernetes", *(f for f in spec.get("finalizers", ()) if f != "kubernetes")]
    else:
        spec["finalizers"] = old.get("spec", {}).get("finalizers", [])


def _default_phase(namespace: Object) -> None:
    status = namespace.setdefault("status", {})
    status["phase"] = status.get("phase") or "Active"


def _phase(new: Object, _old: Object) -> Iterator[FieldError]:
    """Checks that the phase says whether the namespace is being deleted."""
    going = "deletionTimestamp" in new["metadata"]
    wanted, phase = ("Terminating", "not empty") if going else ("Active", "empty"), status_rules.status_of(new).get("phase", "")
    if phase != wanted[0]:
        yield errors.invalid("status.Phase", phase, f"may only be '{wanted[0]}' if `deletionTimestamp` is {wanted[1]}")


def _finalizers(new: Object, _old: Object) -> Iterator[FieldError]:
    for index, name in enumerate((new.get("spec") or {}).get("finalizers") or ()):
        wrong = list(names.checked(f"spec.finalizers[{index}]", name, key_errors))
        yield from wrong
        if not wrong and "/" not in name and name not in STANDARD_FINALIZERS:
            yield errors.invalid(f"spec.finalizers[{index}]", name, "name is neither a standard finalizer name nor is it fully qualified")


COLUMNS: tuple[Column, ...] = (NAME, Column("Status", lambda ns, _now: ns.status.phase, description="Active or Terminating."), AGE)

KIND = Kind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    namespaced=False,
    view=Namespace,
    short_names=("ns",),
    columns=COLUMNS,
    subresources=(Subresource("finalize", ("update",), validate=_finalizers), status_rules.subresource(_phase, defaults=_default_phase)),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    has_status=True,
    prepare=prepare,
    fields=fields,
    name_rule="label",
    type_defaults={
        "io.k8s.api.core.v1.Namespace": TypeDefaults(absent={"status": {}}, function=defaults),
        "io.k8s.api.core.v1.NamespaceStatus": TypeDefaults(zero={"phase": "Active"}),
    },
)
