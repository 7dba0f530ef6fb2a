"""The recorder writes Events, which tell people what a component did and why. A repeat is counted on the Event that exists already.

    record ─► waiting (bounded; repeats of what waits are counted there) ─► one writer task ─► create, or patch the count

`record` never waits and never raises: Events are written later, in lazy commits. An Event that can't be written is dropped, because nothing depends
on Events; the state is in the objects.
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

_REMEMBERED = 4_096  # the number of Events whose repeats are counted; a repeat of an older one becomes a new Event
_IN_FLIGHT = 500
_MESSAGE_MAX = 1_024
_REPEAT_S = 600.0  # a repeat later than this becomes a new Event
_SIMILAR = 10  # Events that differ only in their message: those beyond become one, as in Kubernetes' own recorder
_COMBINED = "(combined from similar events): "
_CLUSTER_NAMESPACE = "default"  # the namespace of Events about cluster-wide objects

Identity = tuple[str, str, str, str, str, str]


class _Similar(msgspec.Struct):
    """Events about one object and with one reason, in the time in which they count as similar."""

    last_s: float
    messages: set[str]  # at most _SIMILAR


class Occurrence(msgspec.Struct):
    """Something that happened to an object, and how often."""

    about: ObjectReference
    type: str
    reason: str
    message: str
    first_s: float
    last_s: float
    count: int = 1
    name: str = ""  # the name of its Event; empty if that is not written yet
    written: int = 0  # the count in its Event
    writing: bool = False


class Recorder:
    """Records the Events of one component (`scheduler`, `replication-controller`, ...)."""

    def __init__(self, client: Client, component: str, clock: Clock, host: str = "") -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._host = host
        self._known: OrderedDict[Identity, Occurrence] = OrderedDict()
        self._waiting: OrderedDict[Identity, Occurrence] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._writer: asyncio.Task[None] | None = None
        self.dropped = 0

    def record(self, about: Any, type_: str, reason: str, message: str) -> None:
        """Queues an Event. `about` is a typed view or an ObjectReference; `type_` is Normal or Warning."""
        try:
            self._record(about, type_, reason, message)
        except Exception:  # our mistake, about one Event: whoever tells of what it did has done it
            self.dropped += 1
            log.exception("%s could not record %s", self._component, reason)

    def _record(self, about: Any, type_: str, reason: str, message: str) -> None:
        ref = about if isinstance(about, ObjectReference) else self._client.resources.registry.reference(about)
        now_s = self._clock.wall()
        combined = self._is_one_of_many(ref, type_, reason, message, now_s)
        identity = (ref.kind, ref.key, ref.uid, type_, reason, _COMBINED if combined else message)
        message = _COMBINED + message if combined else message
        known = self._known.get(identity)
        if known is not None and now_s - known.last_s < _REPEAT_S:
            known.count += 1
            known.last_s = now_s
            known.message = message[:_MESSAGE_MAX]
        else:
            known = Occurrence(ref, type_, reason, message[:_MESSAGE_MAX], now_s, now_s)
            self._known[identity] = known
        self._known.move_to_end(identity)
        self._waiting[identity] = known
        self._bound()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def _is_one_of_many(self, ref: ObjectReference, type_: str, reason: str, message: str, now_s: float) -> bool:
        """Tell whether so many similar Events came lately that this one is combined with them: a ReplicaSet that makes 100 pods tells of ten of them."""
        about = (ref.kind, ref.key, ref.uid, type_, reason)
        similar = self._similar.get(about)
        if similar is None or now_s - similar.last_s > _REPEAT_S:
            similar = self._similar[about] = _Similar(now_s, set())
        similar.last_s = now_s
        self._similar.move_to_end(about)
        if len(self._similar) > _REMEMBERED:
            self._similar.popitem(last=False)
        if message in similar.messages:
            return False
        if len(similar.messages) >= _SIMILAR:
            return True
        similar.messages.add(message)
        return False

    async def flush(self) -> None:
        """Waits until all Events that were recorded so far are written."""
        while self._writer is not None and not self._writer.done():
            await asyncio.shield(self._writer)

    async def close(self) -> None:
        """Writes the waiting Events, then stops."""
        await self.flush()

    def _bound(self) -> None:
        while len(self._waiting) > self._client.resources.settings.events_pending:
            self._waiting.popitem(last=False)
            self.dropped += 1
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    async def _write(self) -> None:
        """Starts to write one Event in each turn of the loop, so that the writes that the Events report (a thousand Bindings) go first.

        Many writes run at the same time, because lazy commits wait for others.
        """
        flying: set[asyncio.Task[None]] = set()
        free = asyncio.Event()

        def landed(task: asyncio.Task[None]) -> None:
            flying.discard(task)
            free.set()

        while self._waiting or flying:
            if self._waiting and len(flying) < _IN_FLIGHT:
                _, occurrence = self._waiting.popitem(last=False)
                task = asyncio.create_task(self._write_one(occurrence))
                flying.add(task)
                task.add_done_callback(landed)
                await asyncio.sleep(0)
            else:
                free.clear()
                await free.wait()

    async def _write_one(self, occurrence: Occurrence) -> None:
        """Writes until the Event has the current count. A repeat that comes meanwhile is written by the call that is already running."""
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
        except Exception as error:  # this concerns one Event only: the others are still written
            self.dropped += 1
            if not isinstance(error, LabctlError):
                log.exception("%s could not write the Event %s about %s", self._component, occurrence.reason, occurrence.about.key)
        finally:
            occurrence.writing = False

    async def _count(self, occurrence: Occurrence) -> bool:
        """Writes the count into the Event. Returns False if the Event has expired: then a new one must be created."""
        namespace = occurrence.about.namespace or _CLUSTER_NAMESPACE
        patch = {"count": occurrence.count, "lastTimestamp": rfc3339(occurrence.last_s), "message": occurrence.message}
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
        """Returns a number for an Event's name: two Events of one object in the same microsecond need different names."""
        return self._client.resources.rng.getrandbits(16)


def _encode_reference(ref: ObjectReference) -> Object:
    encoded: Object = msgspec.to_builtins(ref)
    return encoded
