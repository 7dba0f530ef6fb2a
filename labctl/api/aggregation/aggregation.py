"""Passes requests for the groups of others on to the Services that serve them.

    client ─► server: authenticated, authorized ─► no kind of ours ─► an APIService? ─► forward.py ─► backends.py ─► its pod
                                                   availability.py asks each of them now and then: condition Available, discovery

Who calls it: the server (requests), paths.py (discovery, OpenAPI), the namespace controller (`left`), autoscalers (`measures`), the master (`tasks`).
What this server serves itself goes before an APIService. A server that is slow, dead or hostile costs only those who ask for its groups, and namespaces that
are being deleted: discovery of all groups is made from what was asked before, and everything that comes from it is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labctl.api.aggregation.availability import Availability
from labctl.api.aggregation.backends import Backends
from labctl.api.aggregation.contents import Contents
from labctl.api.aggregation.forward import Forward
from labctl.api.aggregation.front import FrontProxy
from labctl.api.aggregation.measures import Measures
from labctl.api.settings import ApiSettings
from labctl.clock import Clock
from labctl.remote.interface import Remote
from labctl.resources.client import Client
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService
from labctl.resources.plurals import API_SERVICES
from labctl.resources.resources import Resources
from labctl.resources.schema.foreign import NOTHING, Foreign, joined

_OPENAPI_PARTS_MAX = 64

Document = dict[str, Any]


class Aggregation:
    """The APIServices that a Service serves, and what is known of them."""

    def __init__(self, resources: Resources, clock: Clock, settings: ApiSettings, remote: Remote | None, front: FrontProxy | None) -> None:
        self._resources = resources
        self._client = Client(resources)
        backends = Backends(self._client, remote, front)
        self._forward = Forward(backends, settings)
        self._availability = Availability(self._client, self._forward, clock, self.all)
        contents = Contents(self._client, self._forward, self._availability, self.all)
        self.measures = Measures(self._forward, clock, self.all)
        self.tasks = {
            "aggregation": self._availability.run,
            "aggregated-contents": contents.run,
            "aggregated-metrics": self.measures.run,
        }
        self.left = contents.left
        self.forward = self._forward.call
        self._foreign: tuple[tuple[Foreign, ...], Foreign] = ((), NOTHING)
        self._known: tuple[int, Mapping[tuple[str, str], APIService]] = (-1, {})

    def find(self, group: str, version: str) -> APIService | None:
        """Return the APIService whose Service serves this version of a group. None if nobody does, or this server itself."""
        return None if not group or self._resources.registry.served(group, version) else self._stored().get((group, version))

    def all(self) -> list[APIService]:
        """Return every APIService that `find` may return, in the order of discovery: higher priorities first."""
        served = self._resources.registry.served
        found = [one for (group, version), one in self._stored().items() if not served(group, version)]
        return sorted(found, key=lambda one: (-one.spec.group_priority, one.spec.group, -one.spec.version_priority, one.spec.version))

    def _stored(self) -> Mapping[tuple[str, str], APIService]:
        kind = self._resources.registry[API_SERVICES]
        changed_at = self._resources.store.changed_at(kind.prefix())
        if self._known[0] != changed_at:
            stored = [one for one in self._client.list(API_SERVICES) if one.spec.service is not None]
            self._known = changed_at, {(one.spec.group, one.spec.version): one for one in stored}
        return self._known[1]

    # -- discovery

    def versions(self) -> Mapping[str, list[str]]:
        """Return the versions of each group that others serve."""
        groups: dict[str, list[str]] = {}
        for one in self.all():
            groups.setdefault(one.spec.group, []).append(one.spec.version)
        return groups

    def openapi(self) -> Foreign:
        """Return what all of them say for OpenAPI v2. It is the same object as long as none says anything else."""
        parts = tuple(self._availability.openapi(one) for one in self.all()[:_OPENAPI_PARTS_MAX])
        told = tuple(part for part in parts if part.paths)
        if told != self._foreign[0]:
            self._foreign = told, joined(told) if told else NOTHING
        return self._foreign[1]

    def discovered(self) -> Iterable[tuple[str, Document]]:
        """Yield for each version its group and its part of the aggregated discovery document (apidiscovery.k8s.io/v2)."""
        for one in self.all():
            resources = self._availability.resources(one)
            freshness = "Current" if one.available and resources is not None else "Stale"
            yield one.spec.group, {"version": one.spec.version, "resources": resources or [], "freshness": freshness}
