"""A Call is one request as the handlers see it: who asks, for what, and which form of answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge

from labctl.api import answer, negotiate, query, status, websockets
from labctl.api.answer import CompleteResponse
from labctl.api.negotiate import Format
from labctl.api.pieces import PIECE_BYTES, Pieces
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.api.settings import ApiSettings
from labctl.resources.cached import cached_if_short
from labctl.resources.kind import Kind
from labctl.resources.service import User, WriteOptions

if TYPE_CHECKING:
    from labctl.api.connection import Connection


class Call:
    """The server makes a Call for each request. `kind` is set if `target` names a kind that is served."""

    __slots__ = ("_body", "deprecated", "kind", "method", "path", "query", "request", "settings", "target", "user", "warnings")

    def __init__(self, request: web.BaseRequest, user: User, path: str, text: str, settings: ApiSettings) -> None:
        self.request = request
        self.method = request.method
        self.user = user
        self.path = path
        self.query: Query = query.parse(text)
        self.settings = settings
        self.target: Target
        self.kind: Kind
        self._body = self.connection.known_body
        self.deprecated = ""  # a warning that every answer carries
        self.warnings: Sequence[str] = ()  # what admission said about a connection, for those answers that have headers of ours

    @property
    def connection(self) -> Connection:
        return self.request.protocol  # type: ignore[return-value]

    @property
    def format(self) -> Format:
        return negotiate.accepted(self.request.headers.get("Accept", ""))

    @property
    def is_watch(self) -> bool:
        return bool(self.query) and self.query.flag("watch")

    @property
    def is_websocket(self) -> bool:
        """True if the client asks for a WebSocket. Raises 400 if its handshake is wrong."""
        return websockets.wanted(self.request)

    @property
    def is_spdy(self) -> bool:
        return self.request.headers.get("Upgrade", "").lower() == "spdy/3.1"

    async def body(self) -> bytes:
        """Returns the whole body, also to the second who asks. Raises 413 if it is too large, 408 if it takes too long."""
        if self._body is None:
            self._body = await self._read()
        return self._body

    async def _read(self) -> bytes:
        if (self.request.content_length or 0) > self.settings.body_limit_bytes:
            raise status.too_large(self.settings.body_limit_bytes)
        if "Expect" in self.request.headers and self.request.transport is not None:
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # curl waits a second for this line before it sends a large body
        if self.request.content_length is not None and self.request.content.is_eof():
            return self.request.content.read_nowait()  # all of it is there, as a small one is that came with its head
        try:
            async with asyncio.timeout(self.settings.body_s):
                return await self.request.read()
        except HTTPRequestEntityTooLarge:
            raise status.too_large(self.settings.body_limit_bytes) from None
        except TimeoutError:
            raise status.too_slow(self.settings.body_s) from None

    def write_options(self, *, apply: bool = False) -> WriteOptions:
        return query.write_options(self.query, self.user, self.method, _program(self._agent), apply=apply)

    @property
    def _agent(self) -> str:
        return self.request.headers.get("User-Agent", "")

    async def answer(self, body: bytes, code: int = 200, *, form: Format = negotiate.PLAIN, extra: bytes = b"") -> CompleteResponse:
        """Sends JSON in the form that the client asked for: as YAML, indented or compressed."""
        if self.deprecated:
            extra += answer.warning_lines((self.deprecated,))
        if form.yaml:
            body = await answer.as_yaml(body)
        else:
            body = answer.as_json(body, self.query.first("pretty") if "pretty" in self.query else None, self._agent)
        return await self.send(body, form.content_type, code, extra)

    async def answer_list(self, pieces: Pieces, *, form: Format) -> web.StreamResponse:
        """Sends the JSON that these pieces are together, in the form that the client asked for."""
        size = pieces.size
        gzipped = size >= self.settings.gzip_above_bytes and "gzip" in self.request.headers.get("Accept-Encoding", "")
        pretty = self.query.first("pretty") if "pretty" in self.query else None
        if size <= PIECE_BYTES or form.content_type != negotiate.JSON or answer.wants_indented(pretty, self._agent):
            with self.connection.holding(size):  # YAML may have to wait for its thread
                return await self.answer(b"".join(pieces), form=form)
        extra = answer.warning_lines((self.deprecated,)) if self.deprecated else b""
        whole = pieces.within(b"", b"\n")
        if gzipped:
            return CompleteResponse(await answer.gzipped(whole), 200, form.content_type, extra + answer.GZIP_LINES)
        return answer.PiecewiseResponse(whole, whole.size, extra)

    async def send(self, body: bytes, content_type: str, code: int = 200, extra: bytes = b"") -> CompleteResponse:
        """Sends bytes unchanged; if they are many, and the client accepts it, they are compressed."""
        if len(body) > self.settings.gzip_above_bytes and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            body = await answer.gzipped((body,))
            extra += answer.GZIP_LINES
        return CompleteResponse(body, code, content_type, extra)


@cached_if_short(256)
def _program(agent: str) -> str:
    """Return the client's name: `kubectl` if the User-Agent is `kubectl/v1.37.1 (linux/amd64) kubernetes/abc`."""
    name = agent.partition("/")[0]
    return "".join(filter(str.isprintable, name))[: query.FIELD_MANAGER_MAX]
