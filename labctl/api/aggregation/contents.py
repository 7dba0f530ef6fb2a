"""Empties namespaces that are being deleted of what aggregated servers keep in them, and tells the namespace controller what is left.

Once its pods are gone (as KEP-5080 has it), each server is asked to delete what it has there, kind by kind, and then what is left. A server that does not
answer keeps the namespace: the controller's conditions say so, and it is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from labctl.api.aggregation.availability import Availability
from labctl.api.aggregation.backends import Unavailable
from labctl.api.aggregation.forward import Forward
from labctl.decoding import from_json
from labctl.resources.client import Client
from labctl.resources.elsewhere import EMPTY, PENDING, Left
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService
from labctl.resources.kinds.core_v1.namespace import Namespace
from labctl.resources.plurals import NAMESPACES, PODS
from labctl.resources.service import controller

LOOK_S = 0.5
DEADLINE_S = 15.0  # for one answer
AT_ONCE = 8  # namespaces that are emptied side by side
DELETED_MAX = 500  # objects of one kind that are deleted one by one before the next look
_LIST_BYTES_MAX = 8 << 20
_CONTROLLER = controller("namespace-controller")
_GONE = (404, 405)  # of a kind that the server does not have any more, or that has no such verb

log = logging.getLogger(__name__)


class _Metadata(msgspec.Struct):
    name: str = ""
    finalizers: list[str] = []


class _Item(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _List(msgspec.Struct):
    items: list[_Item] | None = None


class _Refused(Exception):
    """A server refused to delete or list a kind; the text says why."""


class Contents:
    """`services` returns the APIServices that Services serve."""

    def __init__(self, client: Client, forward: Forward, availability: Availability, services: Callable[[], Sequence[APIService]]) -> None:
        self._client = client
        self._forward = forward
        self._availability = availability
        self._services = services
        self._found: dict[str, Left] = {}

    def left(self, namespace_uid: str) -> Left:
        return self._found.get(namespace_uid, PENDING) if self._services() else EMPTY

    async def run(self) -> None:
        """Run until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask the servers about every namespace that is being deleted, and return when they have answered."""
        leaving = [one for one in self._client.list(NAMESPACES) if one.metadata.deletion_timestamp] if self._services() else []
        there = {one.metadata.uid for one in leaving}
        self._found = {uid: left for uid, left in self._found.items() if uid in there}
        due = [one for one in leaving if not self._client.list(PODS, one.metadata.name)]
        for start in range(0, len(due), AT_ONCE):
            await asyncio.gather(*(self._empty(one) for one in due[start : start + AT_ONCE]))

    async def _empty(self, namespace: Namespace) -> None:
        counts: Counter[str] = Counter()
        finalizers: Counter[str] = Counter()
        unknown: list[str] = []
        failed: list[str] = []
        done: set[str] = set()  # a kind that is served in several versions is emptied once
        for one in self._services():
            resources = self._availability.resources(one)
            if resources is None or not self._availability.answers(one):
                unknown.append(f"{one.spec.group}/{one.spec.version}: stale GroupVersion discovery: {one.spec.group}/{one.spec.version}")
                continue
            for resource in _deletable(resources):
                name = f"{resource['resource']}.{one.spec.group}"
                if name in done:
                    continue
                done.add(name)
                try:
                    remaining = await self._delete(one, namespace.metadata.name, resource)
                except (Unavailable, _Refused) as error:
                    failed.append(f"{one.spec.group}/{one.spec.version}, Resource={resource['resource']}: {error}")
                    continue
                if remaining:
                    counts[name] = len(remaining)
                    finalizers.update(each for item in remaining for each in item.metadata.finalizers)
        self._found[namespace.metadata.uid] = Left(True, counts, finalizers, tuple(unknown), tuple(failed))

    async def _delete(self, one: APIService, namespace: str, resource: dict[str, Any]) -> list[_Item]:
        """Delete the objects of one kind, and return those that are left. Raises Unavailable and _Refused."""
        path = f"/apis/{one.spec.group}/{one.spec.version}/namespaces/{quote(namespace, safe='')}/{quote(resource['resource'], safe='')}"
        there = await self._listed(one, path)
        if not there:
            return []
        if "deletecollection" in resource["verbs"]:
            await self._send(one, "DELETE", path)
        else:
            for item in there[:DELETED_MAX]:
                await self._send(one, "DELETE", f"{path}/{quote(item.metadata.name, safe='')}")
        return await self._listed(one, path)

    async def _listed(self, one: APIService, path: str) -> list[_Item]:
        said = await self._send(one, "GET", path)
        try:
            return from_json(said, _List).items or [] if said else []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused(f"the answer is no list: {error}") from None

    async def _send(self, one: APIService, method: str, path: str) -> bytes:
        """Return the answer, or nothing where there is no such kind or object."""
        answered = await self._forward.ask(one, method, path, DEADLINE_S, _LIST_BYTES_MAX, _CONTROLLER)
        if answered.status in _GONE:
            return b""
        if not 200 <= answered.status < 300:
            raise _Refused(f"{method} {answered.url}: {answered.status}")
        return answered.body


def _deletable(resources: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the resources that have objects in namespaces which can be listed and deleted."""
    for resource in resources:
        if resource["scope"] == "Namespaced" and {"list", "delete"} <= {*resource["verbs"]}:
            yield resource
