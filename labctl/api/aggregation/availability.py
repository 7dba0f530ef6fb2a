"""Asks each aggregated server now and then for its discovery document: the condition Available says whether it answered, and why not.

A new or changed APIService is asked at once, one that is not available every 2 s, one that is every 30 s. Servers are asked side by side, with a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from labctl.api.aggregation.backends import Unavailable
from labctl.api.aggregation.forward import Forward
from labctl.api.aggregation.openapi import NO_PART, OpenApiPart, part_of
from labctl.clock import Clock, rfc3339
from labctl.decoding import from_json
from labctl.errors import ApiError, LabctlError
from labctl.resources.client import Client
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService, APIServiceSpec
from labctl.resources.kinds.shared import condition
from labctl.resources.plurals import API_SERVICES
from labctl.resources.schema.foreign import NOTHING, Foreign

LOOK_S, AGAIN_S, KEEP_S = 0.5, 2.0, 30.0
DEADLINE_S = 5.0
AT_ONCE = 16  # servers that are asked side by side
_DOCUMENT_BYTES_MAX = 4 << 20
_RESOURCES_MAX = 2000
_TRIES = 5  # to write a condition while others write the same object

Document = dict[str, Any]
log = logging.getLogger(__name__)


class _Asked(msgspec.Struct):
    """What was found out about one APIService, for this spec."""

    spec: APIServiceSpec
    at_s: float
    available: bool
    openapi: OpenApiPart
    resources: list[Document] | None = None  # as last discovered; a server that does not answer may have them still


class _Entry(msgspec.Struct, rename="camel"):
    name: str
    kind: str
    verbs: list[str]
    namespaced: bool = False
    singular_name: str = ""
    group: str = ""
    version: str = ""
    short_names: list[str] = []
    categories: list[str] = []


class _List(msgspec.Struct):
    resources: list[_Entry] = []


class Availability:
    """`services` returns the APIServices that Services serve."""

    def __init__(self, client: Client, forward: Forward, clock: Clock, services: Callable[[], Sequence[APIService]]) -> None:
        self._client = client
        self._forward = forward
        self._clock = clock
        self._services = services
        self._asked: dict[str, _Asked] = {}

    def resources(self, one: APIService) -> list[Document] | None:
        """Return the resources that the server had when it last told them, as the aggregated discovery document has them; None before that."""
        asked = self._asked.get(one.metadata.uid)
        return asked.resources if asked else None

    def answers(self, one: APIService) -> bool:
        """Return whether the server answered when it was asked last."""
        asked = self._asked.get(one.metadata.uid)
        return asked is not None and asked.available

    def openapi(self, one: APIService) -> Foreign:
        """Return the server's part of OpenAPI v2, as it was when it last told it."""
        asked = self._asked.get(one.metadata.uid)
        return asked.openapi.foreign if asked else NOTHING

    async def run(self) -> None:
        """Run until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask the servers whose time has come, and return when their conditions are written."""
        services = self._services()
        there = {one.metadata.uid for one in services}
        self._asked = {uid: asked for uid, asked in self._asked.items() if uid in there}
        due = [one for one in services if self._is_due(one)]
        for start in range(0, len(due), AT_ONCE):
            await asyncio.gather(*(self._ask(one) for one in due[start : start + AT_ONCE]))

    def _is_due(self, one: APIService) -> bool:
        asked = self._asked.get(one.metadata.uid)
        if asked is None or asked.spec != one.spec:
            return True
        return self._clock.now() - asked.at_s >= (KEEP_S if asked.available else AGAIN_S)

    async def _ask(self, one: APIService) -> None:
        before = self._asked.get(one.metadata.uid)
        resources = before.resources if before else None
        openapi = before.openapi if before else NO_PART
        reason, message = "Passed", "all checks passed"
        try:
            path = f"/apis/{one.spec.group}/{one.spec.version}"
            resources = described(one, await self._forward.document(one, path, DEADLINE_S, _DOCUMENT_BYTES_MAX))
            openapi = await part_of(one, openapi, self._forward)
        except Unavailable as error:
            reason, message = error.reason, str(error)
        except Exception as error:  # our mistake, with one server: the others are asked all the same
            log.exception("asking the APIService %s", one.metadata.name)
            reason, message = "FailedDiscoveryCheck", f"{type(error).__name__}: {error}"
        self._asked[one.metadata.uid] = _Asked(one.spec, self._clock.now(), reason == "Passed", openapi, resources)
        await self._tell(one, reason, message)

    async def _tell(self, one: APIService, reason: str, message: str) -> None:
        try:
            for _ in range(_TRIES):
                try:
                    await self._write(one, "True" if reason == "Passed" else "False", reason, message)
                    return
                except ApiError as error:
                    if error.code != 409:  # somebody else changed it in this moment: once more, with what they wrote
                        raise
        except LabctlError as error:  # it was deleted meanwhile, or the disk is full: the next look writes it
            log.warning("the condition of the APIService %s: %s", one.metadata.name, error)

    async def _write(self, one: APIService, now: str, reason: str, message: str) -> None:
        """Set the condition beside those that others have set. Raises ApiError."""
        found: APIService | None = self._client.get(API_SERVICES, one.metadata.name)
        if found is None or found.metadata.uid != one.metadata.uid:
            return
        was = condition(found.status.conditions, "Available")
        if was is not None and (was.status, was.reason, was.message) == (now, reason, message):
            return
        since = was.last_transition_time if was is not None and was.status == now else rfc3339(self._clock.wall())
        told = {"type": "Available", "status": now, "reason": reason, "message": message, "lastTransitionTime": since}
        raw = self._client.raw(API_SERVICES, one.metadata.name) or {}
        others = [each for each in (raw.get("status") or {}).get("conditions") or () if each.get("type") != "Available"]
        patch = {"status": {"conditions": [told, *others]}}
        await self._client.patch(API_SERVICES, one.metadata.name, patch, "status", found.metadata.revision)


def described(one: APIService, document: bytes) -> list[Document]:
    """Return the resources of an APIResourceList in the form of aggregated discovery. Raises Unavailable if it is none."""
    try:
        listed = from_json(document, _List).resources
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable("FailedDiscoveryCheck", f"the answer is no APIResourceList: {error}") from None
    made: dict[str, Document] = {}
    for entry in listed[:_RESOURCES_MAX]:
        kind = {"group": entry.group or one.spec.group, "version": entry.version or one.spec.version, "kind": entry.kind}
        plural, _, subresource = entry.name.partition("/")
        if subresource:
            if plural in made:
                below = made[plural].setdefault("subresources", [])
                below.append({"subresource": subresource, "responseKind": kind, "verbs": entry.verbs})
            continue
        made[plural] = {
            "resource": plural,
            "responseKind": kind,
            "scope": "Namespaced" if entry.namespaced else "Cluster",
            "singularResource": entry.singular_name,
            "verbs": entry.verbs,
            **({"shortNames": entry.short_names} if entry.short_names else {}),
            **({"categories": entry.categories} if entry.categories else {}),
        }
    return list(made.values())
