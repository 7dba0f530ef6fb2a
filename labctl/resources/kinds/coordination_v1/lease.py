"""Lease: a node's sign of life. Renewed every few seconds, so its writes ride the next commit group."""

from __future__ import annotations

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Viewed


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0


class Lease(Viewed, frozen=True, rename="camel", gc=False):
    spec: LeaseSpec = LeaseSpec()


COLUMNS: tuple[Column, ...] = (NAME, Column("Holder", lambda lease, _now: lease.spec.holder_identity, description="Who holds it."), AGE)

KIND = Kind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    plural="leases",
    singular="lease",
    namespaced=True,
    view=Lease,
    columns=COLUMNS,
    events_lazy=True,
)
