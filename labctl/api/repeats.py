"""Reads that are asked again with the same bytes are answered from what those bytes meant the first time.

A client that reads an object again and again sends the same request head each time, byte for byte. Parsing it, and the task, the futures and the
request object that aiohttp makes for each request, took half of the time of a GET. So the server remembers what a head meant: the target, the kind and the
form of the answer. Nothing else is remembered: each time the user's rights are checked and the object is read from the store.

Only GETs of one object in plain JSON are remembered, sent on a connection with a client's certificate. What can't be answered like the first time (the
object is gone, the user may not read it, the answer is large) goes the ordinary way, which has the words for it; and all do while clients are disturbed on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from labctl.api import answer
from labctl.api.authorize import Authorizer
from labctl.api.interference import Interference
from labctl.api.metrics import Metrics
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.errors import ApiError
from labctl.resources.encoding import client_bytes
from labctl.resources.kind import Kind
from labctl.resources.resources import Resources
from labctl.resources.service import User

if TYPE_CHECKING:
    from labctl.api.call import Call

HEAD_BYTES_MAX = 2048  # a longer head is not remembered
_HEADS_MAX = 1024
_CHANGES_MEANING = frozenset({"Authorization", "Expect", "Upgrade", "Transfer-Encoding", "Content-Length"})


class Repeat(msgspec.Struct, frozen=True):
    """What a request head means: a GET of this target. `head` is the answer's head up to its Content-Length."""

    target: Target
    kind: Kind
    query: Query
    indented: bool
    head: bytes


class Repeats:
    """The heads that are known. When there are too many, all are forgotten: those that are still in use are known again with their next request."""

    def __init__(
        self, resources: Resources, authorizer: Authorizer, metrics: Metrics, large_bytes: int, interference: Interference | None
    ) -> None:
        self._resources = resources
        self._authorizer = authorizer
        self._metrics = metrics
        self._large_bytes = large_bytes
        self._interference = interference
        self._known: dict[bytes, Repeat] = {}

    def learn(self, call: Call) -> None:
        """Remembers the head of a GET that is being answered with the plain object."""
        sent = call.connection.request_bytes
        request = call.request
        if call.deprecated or call.kind.conversion is not None or not 0 < len(sent) <= HEAD_BYTES_MAX or not request.keep_alive:
            return
        if call.method != "GET" or any(
            name in _CHANGES_MEANING or name.startswith("Impersonate-") for name in map(str.title, request.headers)
        ):
            return
        if len(self._known) >= _HEADS_MAX:
            self._known.clear()
        pretty = call.query.first("pretty") if "pretty" in call.query else None
        indented = answer.wants_indented(pretty, request.headers.get("User-Agent", ""))
        head = answer.head_of(request, keep_alive=True)
        self._known[sent] = Repeat(call.target, call.kind, call.query, indented, head)

    def answer(self, sent: bytes, user: User) -> bytes | None:
        """Returns the whole answer to a request head; None if the ordinary way has to answer."""
        repeat = self._known.get(sent)
        if repeat is None or self._interference:
            return None
        target, kind = repeat.target, repeat.kind
        if self._resources.registry.in_group(target.group, target.version, target.resource) is not kind:
            del self._known[sent]
            return None
        try:
            self._authorizer.objects(user, "get", target, repeat.query)
            entry = self._resources.get(kind, target.namespace, target.name, resource_version=repeat.query.first("resourceVersion"))
        except ApiError:
            return None
        value = client_bytes(entry)
        body = answer.indented(value) if repeat.indented else value + b"\n"
        if len(body) > self._large_bytes:
            return None
        self._metrics.count(target, "get", 200)
        return b"%bContent-Length: %d\r\n\r\n%b" % (repeat.head, len(body), body)
