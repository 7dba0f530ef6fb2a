"""Userspace mode: draws the local ports that a Service lacks, and writes them on the Service, so that every minion forwards on the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

import msgspec

from labctl.proxy import userspace
from labctl.proxy.settings import ProxySettings
from labctl.reconcile.plan import NOTHING, Index, Key, Patch, Plan, Seen, View
from labctl.resources.plurals import SERVICES

INDEX = "proxy-local-port"


class LocalPorts:
    """A controller of Services. In the other modes it is not needed."""

    name = "proxy"
    kind = SERVICES

    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {SERVICES: lambda _view, seen: (seen.key,)}
        self.indexes: Mapping[tuple[str, str], Index] = {(SERVICES, INDEX): service_local_ports}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        service = view.get(SERVICES, key)
        if service is None:
            return NOTHING

        def taken(port: int) -> bool:
            return any(other.metadata.key != key for other in view.by(SERVICES, INDEX, str(port)))

        drawn = userspace.draw(service, taken, rng, self._settings)
        if drawn is None:
            return NOTHING
        patch = {"metadata": {"annotations": {userspace.ANNOTATION: msgspec.json.encode(drawn).decode()}}}
        why = "local ports drawn for the userspace proxy"
        return Plan((Patch(SERVICES, key, patch, revision=service.metadata.revision, why=why),), why=why)


def service_local_ports(service: Any) -> Iterable[str]:
    """Return the local ports that were drawn for a Service; it is an index of the view."""
    if userspace.ANNOTATION not in service.metadata.annotations:
        return ()
    return {str(port) for port in userspace.local_ports(service).values() if port}
