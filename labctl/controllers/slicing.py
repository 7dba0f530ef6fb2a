"""Divides a Service's endpoints into slices of a bounded size, and rewrites as few slices as possible.

Two controllers share it: the one for EndpointSlices, and the one that mirrors Endpoints which people write.
An endpoint stays in its slice, so one pod's change rewrites one slice. New endpoints go into slices that change anyway, then into others
with
free places, then into new slices. A Service without endpoints has one empty slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labctl.controllers.indexes import SLICES
from labctl.decoding import from_values
from labctl.journal import came_and_went
from labctl.reconcile.plan import Action, Create, Delete, Index, Key, Replace, Seen, View
from labctl.resources.kinds.discovery_v1.endpointslice import MANAGED_BY_LABEL, SERVICE_LABEL, Endpoint, EndpointSlice, SlicePort

Ports = tuple[tuple[tuple[str, Any], ...], ...]
Wanted = Mapping[Ports, Mapping[str, dict[str, Any]]]
"""For each set of ports, its endpoints as JSON, by their identity (see `identity`)."""


def _service(view: EndpointSlice) -> Iterable[str]:
    """Index slices by their Service and the manager that keeps them."""
    labels = view.metadata.labels
    return (f"{labels.get(MANAGED_BY_LABEL, '')}/{view.metadata.namespace}/{view.service}",) if view.service else ()


SLICES_BY_SERVICE: dict[tuple[str, str], Index] = {(SLICES, "service"): _service}


def managed(view: View, manager: str, key: Key) -> list[EndpointSlice]:
    """Return the slices of a Service that a manager keeps."""
    return [piece for piece in view.by(SLICES, "service", f"{manager}/{key}") if not piece.metadata.deletion_timestamp]


def of_service(_view: View, seen: Seen) -> Iterable[Key]:
    """Return the Service of a slice."""
    piece = seen.new or seen.old
    return (f"{piece.metadata.namespace}/{piece.service}",) if piece.service else ()


def identity(ip: str, uid: str) -> str:
    return f"{ip}/{uid}"


def removals(there: Iterable[EndpointSlice], why: str = "") -> list[Action]:
    return [Delete(SLICES, piece.metadata.key, piece.metadata.uid, why=why) for piece in there]


class Slicer:
    """Plans the slices of one Service. All of them have `labels` and belong to `owner`; none holds more than `full` endpoints."""

    def __init__(self, namespace: str, service: str, manager: str, labels: Mapping[str, str], owner: dict[str, Any], full: int) -> None:
        self._namespace = namespace
        self._service = service
        self._labels = {**labels, SERVICE_LABEL: service, MANAGED_BY_LABEL: manager}
        self._owner = {**owner, "controller": True, "blockOwnerDeletion": True}
        self._full = full

    def plan(self, wanted: Wanted, there: Sequence[EndpointSlice]) -> list[Action]:
        """Return the actions that make the existing slices hold what is wanted."""
        actions: list[Action] = []
        for ports, endpoints in (wanted or {(): {}}).items():
            same = [piece for piece in there if piece.ports == from_values(_plain(ports), tuple[SlicePort, ...])]
            actions += self._fit(ports, endpoints, same)
            there = [piece for piece in there if piece not in same]
        return [*actions, *removals(there)]

    def _fit(self, ports: Ports, wanted: Mapping[str, dict[str, Any]], there: Sequence[EndpointSlice]) -> list[Action]:
        """Plan the slices of one set of ports."""
        left = dict(wanted)
        kept = [(piece, [left.pop(known) for endpoint in piece.endpoints if (known := _identity(endpoint)) in left]) for piece in there]
        kept.sort(key=lambda item: (_holds(item[0], item[1]), -len(item[1])))
        new = list(left.values())
        for _, stay in kept:
            room = self._full - len(stay)
            stay += new[:room]
            new = new[room:]
        actions: list[Action] = []
        nobody = not wanted
        for piece, stay in kept:
            if not stay and not nobody:
                actions += removals([piece], _difference(piece, ()))
            elif not _holds(piece, stay) or piece.metadata.labels != self._labels:
                actions.append(Replace(SLICES, self._object(ports, stay, piece), why=_difference(piece, stay)))
            nobody = False  # one empty slice is enough; the others are deleted
        pieces = [new[at : at + self._full] for at in range(0, len(new), self._full)] or ([[]] if nobody else [])
        return actions + [Create(SLICES, self._object(ports, some), why=_difference(None, some)) for some in pieces]

    def _object(self, ports: Ports, endpoints: list[dict[str, Any]], piece: EndpointSlice | None = None) -> dict[str, Any]:
        metadata: dict[str, Any] = {"namespace": self._namespace, "labels": self._labels, "ownerReferences": [self._owner]}
        metadata["generateName"] = f"{self._service}-"
        if piece is not None:
            metadata |= {"name": piece.metadata.name, "resourceVersion": piece.metadata.resource_version}
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": _plain(ports),
        }


def _identity(endpoint: Endpoint) -> str:
    return identity(endpoint.addresses[0], endpoint.target_ref.uid if endpoint.target_ref else "")


def _holds(piece: EndpointSlice, endpoints: list[dict[str, Any]]) -> bool:
    return piece.endpoints == from_values(endpoints, tuple[Endpoint, ...])


def _plain(ports: Ports) -> list[dict[str, Any]]:
    return [dict(port) for port in ports]


def _difference(there: EndpointSlice | None, wanted: Iterable[Mapping[str, Any]]) -> str:
    """Return a sentence about the endpoints of a slice that became ready or are so no longer. It is empty if only others changed."""
    before = (
        {_named(each.addresses[0], each.target_ref.name if each.target_ref else "") for each in there.endpoints if each.conditions.ready}
        if there
        else set()
    )
    after = {_named(each["addresses"][0], each.get("targetRef", {}).get("name", "")) for each in wanted if each["conditions"]["ready"]}
    return came_and_went(after - before, before - after)


def _named(address: str, pod: str) -> str:
    return f"{address} {pod}" if pod else address
