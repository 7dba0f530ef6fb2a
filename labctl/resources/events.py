"""The recorder: tells people, in Events, what a component did and why. Repeats are counted on the Event that is there already.

    record ─► waiting (bounded; repeats of what waits are counted there) ─► one writer task ─► create, or patch the count

`record` never waits and never fails its caller: Events are written behind, in the lazy commits of their kind. What can't be written is dropped, because
an Event is a courtesy; the truth is in the objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any

import msgspec

from labctl.clock import Clock, rfc3339
from labctl.errors import ApiError, LabctlError
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.shared import ObjectReference

log = logging.getLogger(__name__)

_REMEMBERED = 4_096  # Events whose repeats are counted; older ones begin anew
_IN_FLIGHT = 500
_MESSAGE_MAX = 1_024
_REPEAT_S = 600.0  # a repeat later than this is told as a new Event
_CLUSTER_NAMESPACE = "default"  # where Events about cluster-wide objects live

Identity = tuple[str, str, str, str, str, str]


class Occurrence(msgspec.Struct):
    """One thing that happened, and how often."""

    about: ObjectReference
    type: str
    reason: str
    message: str
    first_s: float
    last_s: float
    count: int = 1
    name: str = ""  # of its Event; empty: not written yet
    written: int = 0  # the count that its Event says
    writing: bool = False


class Recorder:
    """One per component (`scheduler`, `replication-controller`, ...)."""

    def __init__(self, client: Client, component: str, clock: Clock, host: str = "") -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._host = host
        self._known: OrderedDict[Identity, Occurrence] = OrderedDict()
        self._waiting: OrderedDict[Identity, Occurrence] = OrderedDict()
        self._writer: asyncio.Task[None] | None = None
        self.dropped = 0

    def record(self, about: Any, type_: str, reason: str, message: str) -> None:
        """`about` is a typed view or an ObjectReference; `type_` Normal or Warning."""
        try:
            self._record(about, type_, reason, message)
        except Exception:  # our mistake, about one Event: whoever tells of what it did has done it
            self.dropped += 1
            log.exception("%s could not record %s", self._component, reason)

    def _record(self, about: Any, type_: str, reason: str, message: str) -> None:
        ref = about if isinstance(about, ObjectReference) else self._client.resources.registry.reference(about)
        identity = (ref.kind, ref.key, ref.uid, type_, reason, message)
        now_s = self._clock.wall()
        known = self._known.get(identity)
        if known is not None and now_s - known.last_s < _REPEAT_S:
            known.count += 1
            known.last_s = now_s
        else:
            known = Occurrence(ref, type_, reason, message[:_MESSAGE_MAX], now_s, now_s)
            self._known[identity] = known
        self._known.move_to_end(identity)
        self._waiting[identity] = known
        self._bound()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def flush(self) -> None:
        """Wait until everything recorded so far is written."""
        while self._writer is not None and not self._writer.done():
            await asyncio.shield(self._writer)

    async def close(self) -> None:
        """Write what is waiting, then stop."""
        await self.flush()

    def _bound(self) -> None:
        while len(self._waiting) > self._client.resources.settings.events_pending:
            self._waiting.popitem(last=False)
            self.dropped += 1
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    async def _write(self) -> None:
        """One Event a turn of the loop, so that what it tells of (a thousand Bindings) goes first; many in flight, because lazy commits take their time."""
        flying: set[asyncio.Task[None]] = set()
        while self._waiting or flying:
            if self._waiting and len(flying) < _IN_FLIGHT:
                _, occurrence = self._waiting.popitem(last=False)
                flying.add(asyncio.create_task(self._write_one(occurrence)))
                await asyncio.sleep(0)
            else:
                await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
            flying = {task for task in flying if not task.done()}

    async def _write_one(self, occurrence: Occurrence) -> None:
        """Until its Event says how often it happened; what happens again meanwhile is told by whoever is at it already."""
        if occurrence.writing:
            return
        occurrence.writing = True
        try:
            while occurrence.written != occurrence.count:
                count = occurrence.count
                if not (occurrence.name and await self._count(occurrence)):
                    view = await self._client.create("events", self._event(occurrence))
                    occurrence.name = view.metadata.name
                occurrence.written = count
        except Exception as error:  # whatever it was, about one Event: the others are written
            self.dropped += 1
            if not isinstance(error, LabctlError):
                log.exception("%s could not write the Event %s about %s", self._component, occurrence.reason, occurrence.about.key)
        finally:
            occurrence.writing = False

    async def _count(self, occurrence: Occurrence) -> bool:
        """False: the Event expired, tell it anew."""
        namespace = occurrence.about.namespace or _CLUSTER_NAMESPACE
        patch = {"count": occurrence.count, "lastTimestamp": rfc3339(occurrence.last_s)}
        try:
            await self._client.patch("events", f"{namespace}/{occurrence.name}", patch)
        except ApiError as error:
            if error.code != 404:
                raise
            return False
        return True

    def _event(self, occurrence: Occurrence) -> Object:
        about = occurrence.about
        namespace = about.namespace or _CLUSTER_NAMESPACE
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": f"{about.name}.{int(occurrence.first_s * 1e6):x}{self._salt():04x}", "namespace": namespace},
            "involvedObject": {name: value for name, value in _encode_reference(about).items() if value},
            "type": occurrence.type,
            "reason": occurrence.reason,
            "message": occurrence.message,
            "count": occurrence.count,
            "firstTimestamp": rfc3339(occurrence.first_s),
            "lastTimestamp": rfc3339(occurrence.last_s),
            "source": source,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    def _salt(self) -> int:
        """Two Events of one object in the same microsecond need two names."""
        return self._client.resources.rng.getrandbits(16)


def _encode_reference(ref: ObjectReference) -> Object:
    encoded: Object = msgspec.to_builtins(ref)
    return encoded
