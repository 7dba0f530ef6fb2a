"""Asks aggregated servers for the metrics that autoscalers want: custom.metrics.k8s.io and external.metrics.k8s.io.

    the autoscaler reads ─► nothing recent ─► the query is due ─► this task asks the server ─► the autoscaler reads again

An answer counts for a few seconds, so each look of an autoscaler (every 15 s) finds a new one. What nobody reads is asked no more. A server that is slow or
hostile costs the autoscalers that need it, and nothing else: queries, their time and their answers are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import quote, urlencode

import msgspec

from labctl.api.aggregation.backends import Unavailable
from labctl.api.aggregation.forward import Answer, Forward
from labctl.clock import Clock
from labctl.decoding import from_json
from labctl.remote.wire import printable
from labctl.resources import quantities
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService
from labctl.resources.measures import CUSTOM, EXTERNAL, Measured, Query, unregistered
from labctl.resources.service import controller

FRESH_S = 5.0  # an answer's age until the next question, less than an autoscaler's period
KEPT_S = 60.0
DEADLINE_S = 10.0
AT_ONCE = 16
QUERIES_MAX = 2000
_BYTES_MAX, _ITEMS_MAX = 4 << 20, 20_000
_VERSIONS: Mapping[str, Sequence[str]] = {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}
_CONTROLLER = controller("horizontal-pod-autoscaler")


class _Object(msgspec.Struct, rename="camel"):
    name: str = ""


class _Item(msgspec.Struct, rename="camel"):
    value: str | int
    described_object: _Object = msgspec.field(default_factory=_Object)


class _List(msgspec.Struct):
    items: list[_Item] | None = None


class _Status(msgspec.Struct):
    message: str = ""


class _Known:
    """What is known of one query: the last answer and when it came, and when somebody wanted it last (monotonic seconds)."""

    def __init__(self, now: float) -> None:
        self.wanted_s = now
        self.answered_s = float("-inf")
        self.said: Measured | str | None = None


class Measures:
    """`services` returns the APIServices that Services serve, the preferred versions first."""

    def __init__(self, forward: Forward, clock: Clock, services: Callable[[], Sequence[APIService]]) -> None:
        self._forward = forward
        self._clock = clock
        self._services = services
        self._known: dict[Query, _Known] = {}
        self._due: asyncio.Queue[Query] = asyncio.Queue()

    def read(self, query: Query) -> Measured | str | None:
        now = self._clock.now()
        known = self._known.get(query)
        if known is None:
            if self._service(query) is None:
                return unregistered(query)
            self._forget(now)
            if len(self._known) >= QUERIES_MAX:
                return f"more than {QUERIES_MAX} metrics are asked for"
            known = self._known[query] = _Known(now)
            self._due.put_nowait(query)
        elif known.said is not None and now - known.answered_s > FRESH_S:
            known.said = None
            self._due.put_nowait(query)
        known.wanted_s = now
        return known.said

    def _forget(self, now: float) -> None:
        for query in [query for query, known in self._known.items() if now - known.wanted_s > KEPT_S and known.said is not None]:
            del self._known[query]

    async def run(self) -> None:
        """Run until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            query = await self._due.get()
            try:
                said: Measured | str = await self._ask(query)
            except Exception as error:  # noqa: BLE001 - whatever a server says, the others are asked, too
                said = printable(str(error))
            if known := self._known.get(query):
                known.said, known.answered_s = said, self._clock.now()

    def _service(self, query: Query) -> APIService | None:
        served = (one for one in self._services() if one.spec.group == query.group)
        return next((one for one in served if one.spec.version in _VERSIONS[query.group]), None)

    async def _ask(self, query: Query) -> Measured | str:
        one = self._service(query)
        if one is None:
            return unregistered(query)
        try:
            answered = await self._forward.ask(one, "GET", _path(one.spec.version, query), DEADLINE_S, _BYTES_MAX, _CONTROLLER)
        except Unavailable as error:
            return f"the server is currently unable to handle the request (get {query.metric}.{query.group}): {error}"
        return _read(answered, query)


def _read(answered: Answer, query: Query) -> Measured | str:
    try:
        if answered.status != 200:
            said = from_json(answered.body, _Status).message if answered.body.startswith(b"{") else ""
            return printable(said) or f"the server answered with status {answered.status} (get {query.metric}.{query.group})"
        items = from_json(answered.body, _List).items or []
        if len(items) > _ITEMS_MAX:
            return f"the answer has more than {_ITEMS_MAX} values"
        return Measured(tuple((each.described_object.name, quantities.to_milli(each.value)) for each in items))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        return f"the answer is no list of values: {error}"


def _path(version: str, query: Query) -> str:
    parts = ["apis", query.group, version, "namespaces", query.namespace]
    if query.resource == "namespaces":
        parts.append("metrics")
    elif query.resource:
        parts += [query.resource, query.name]
    path = "/" + "/".join(quote(part, safe="*") for part in (*parts, query.metric))
    said = list(_parameters(query))
    return f"{path}?{urlencode(said)}" if said else path


def _parameters(query: Query) -> Iterator[tuple[str, str]]:
    if query.selector:
        yield "labelSelector", query.selector
    if query.metric_selector:
        yield ("labelSelector" if query.group == EXTERNAL else "metricLabelSelector"), query.metric_selector
