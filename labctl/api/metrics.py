"""/metrics: the master in Prometheus' text format, under the names that a Kubernetes API server and its controllers use.

Requests are counted where they are answered (one dict entry each). Everything else is read only when somebody asks, so a lab that nobody scrapes pays nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from labctl.api import answer
from labctl.api.inflight import InFlight
from labctl.api.route import Target
from labctl.resources.registry import Registry
from labctl.store.interface import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX = 10_000  # different combinations that are counted: more can't come from the kinds there are, but custom kinds come and go

Request = tuple[str, str, str, str, str, str]
"""verb, group, version, resource, subresource, code"""


class Metrics:
    """Counts requests, and tells what it and the store know."""

    def __init__(self, registry: Registry, store: Store, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._registry = registry
        self._store = store
        self._requests: Counter[Request] = Counter()

    def count(self, target: Target, verb: str, code: int) -> None:
        """Count one request about objects that was answered with this HTTP status."""
        key = (verb, target.group, target.version, target.resource, target.subresource, str(code))
        if key in self._requests or len(self._requests) < _MAX:
            self._requests[key] += 1

    def serve(self) -> web.StreamResponse:
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # 20 ms, for those who ask

        collectors = CollectorRegistry(auto_describe=False)
        collectors.register(self)  # type: ignore[arg-type]  # its base class would be imported at the master's start
        ProcessCollector(registry=collectors)
        return answer.CompleteResponse(generate_latest(collectors), 200, CONTENT_TYPE)

    def collect(self) -> Iterator[object]:
        """Yield the metrics; prometheus_client calls this."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ("verb", "group", "version", "resource", "subresource", "code")
        requests = CounterMetricFamily("apiserver_request", "Requests about objects, by verb, resource and HTTP status.", labels=labels)
        for key, count in sorted(self._requests.items()):
            requests.add_metric(key, count)
        yield requests
        under_way = GaugeMetricFamily("labctl_requests_under_way", "Requests that are not answered yet, but for admins'.", labels=("kind",))
        under_way.add_metric(("short",), self._in_flight.short)
        under_way.add_metric(("lasting",), self._in_flight.lasting)
        yield under_way
        refused = CounterMetricFamily(
            "apiserver_request_terminations", "Requests refused because too many are under way.", labels=("code",)
        )
        refused.add_metric(("429",), self._in_flight.refused)
        yield refused
        objects = GaugeMetricFamily("apiserver_storage_objects", "Stored objects, by resource.", labels=("resource",))
        for kind in self._registry:
            if kind.persisted:
                objects.add_metric((kind.resource,), len(self._store.range(kind.prefix()).entries))
        yield objects
        yield GaugeMetricFamily("labctl_store_revision", "The newest revision of the store.", value=self._store.revision)
