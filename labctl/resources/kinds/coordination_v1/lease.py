"""Lease: a node renews it every few seconds to show that it lives, so its writes are lazy: they wait for the next commit group."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed

HEARD = "labctl.internal/heard"
"""An annotation of a node's Lease: `minion-2=0.2 minion-3=4.0`, how many seconds ago the node heard each of its peers."""

HEARD_MAX = 1024  # characters of the annotation


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0


class Lease(Viewed, frozen=True, rename="camel", gc=False):
    spec: LeaseSpec = LeaseSpec()


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    if spec.get("leaseDurationSeconds", 1) <= 0:
        yield fields.invalid("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0")
    if spec.get("leaseTransitions", 0) < 0:
        yield fields.invalid("spec.leaseTransitions", spec["leaseTransitions"], "must be greater than or equal to 0")


COLUMNS: tuple[Column, ...] = (NAME, Column("Holder", lambda lease, _now: lease.spec.holder_identity, description="Who holds it."), AGE)

KIND = Kind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    plural="leases",
    singular="lease",
    namespaced=True,
    view=Lease,
    validate=validate,
    columns=COLUMNS,
    create_on_update=True,
    lazy=True,
    tracks_fields=False,
)
