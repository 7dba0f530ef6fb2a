"""Serves the live page and what it asks for, below /dash, beside the API on the master's loopback address.

    GET  /dash/open?token=...   exchanges a one-time token for a session (a cookie), and leads to the page
    GET  /dash/                 the page; its style and its modules (/dash/dash.css, /dash/dash.js and what that imports) belong to it
    GET  /dash/stream           what there is, and then every change (feed.py)
    POST /dash/faults           creates a Fault, as `labctl fault` does
    POST /dash/heal             heals a fault, or all

`api` hands over a request below /dash before it asks who calls: the page has its own guard (guard.py), and a node's certificate opens nothing here.
Whoever opened the page acts as the lab's admin, who asked for its token.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from labctl import assets
from labctl.api.authorize import is_admin
from labctl.api.connection import Connection
from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.clock import Clock
from labctl.dash import guard
from labctl.dash.feed import Feed
from labctl.dash.sessions import Session, Sessions, same
from labctl.decoding import from_json
from labctl.errors import ApiError, LabctlError
from labctl.resources.client import Client
from labctl.resources.faulttypes import TYPES
from labctl.resources.kinds.labctl_internal_v1.fault import UNFINISHED
from labctl.resources.plurals import FAULTS

ROOT = "/dash"
BODY_MAX_BYTES = 16 << 10
STALL_S = 20.0  # a page that reads nothing for this long is let go; it asks again when it wakes
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PAGE = "page.html"
_FORBIDDEN = "This address was used already, or is too old. Run “labctl dash” for a new one."


class NewFault(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends to break something."""

    type: str
    target: str
    peer: str = ""
    duration: str = ""
    parameters: dict[str, str] = {}


class Heal(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends to heal: the name of a fault, or nothing for all."""

    name: str = ""


class Dash:
    """The live page of one master."""

    def __init__(self, feed: Feed, client: Client, clock: Clock, lab: str) -> None:
        self._feed = feed
        self._client = client
        self._clock = clock
        self._lab = lab
        self._sessions = Sessions(clock)

    def invite(self) -> Mapping[str, str]:
        """Returns the path, with a one-time token, that opens the page once."""
        return {"path": f"{ROOT}/open?token={self._sessions.token()}"}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request below ROOT. What is refused is refused in one line, without a word about what there is."""
        try:
            guard.check(request)
            return await self._route(request)
        except ApiError as error:
            return _answer({"message": str(error)}, status=error.code)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        method, name = request.method, request.path.removeprefix(ROOT).removeprefix("/")
        if (method, name) == ("GET", "open"):
            return self._open(request)
        session = self._sessions.find(guard.cookie_of(request))
        if method == "GET" and (name or _PAGE) in _files():
            if session is None and name == "":
                return _plain(_FORBIDDEN, status=403)
            return _file(name or _PAGE) if session else _answer({"message": "no session"}, status=403)
        if session is None:
            raise ApiError(403, "Forbidden", "no session: run labctl dash again")
        if (method, name) == ("GET", "stream"):
            return await self._stream(request, session)
        if method == "POST" and name in ("faults", "heal", "close"):
            return await self._change(request, session, name)
        raise ApiError(404, "NotFound", "there is nothing at this address")

    def _open(self, request: web.BaseRequest) -> web.StreamResponse:
        cookie = self._sessions.redeem(request.query.get("token", ""))
        if not cookie:
            return _plain(_FORBIDDEN, status=403)
        response = web.Response(status=303, headers={**guard.HEADERS, "Location": f"{ROOT}/"})
        response.set_cookie(guard.cookie_name(request), cookie, path="/", secure=True, httponly=True, samesite="Strict")
        return response

    async def _stream(self, request: web.BaseRequest, session: Session) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        with self._feed.page() as page:
            response = web.StreamResponse(headers={**guard.HEADERS, "Content-Type": "text/event-stream"})
            await response.prepare(request)
            try:
                with connection.streaming():
                    async for chunk in page.chunks(lambda: self._picture(session)):
                        if self._sessions.find(guard.cookie_of(request)) is None:
                            break  # the session is over
                        async with asyncio.timeout(STALL_S):
                            await response.write(chunk)
            except (TimeoutError, ConnectionError):
                connection.force_close()
            except asyncio.CancelledError:
                if not connection.stopping:
                    raise
        return response

    def _picture(self, session: Session) -> Mapping[str, Any]:
        return {
            "lab": self._lab,
            "now": self._clock.wall(),
            "guard": session.guard,
            "types": fault_types(),
            "objects": self._feed.objects(),
        }

    async def _change(self, request: web.BaseRequest, session: Session, name: str) -> web.StreamResponse:
        if not same(request.headers.get(guard.HEADER, ""), session.guard):
            raise ApiError(403, "Forbidden", "this request does not come from the page")
        body = await _body(request)
        try:
            if name == "close":
                self._sessions.close(session)
                return _answer({})
            if name == "heal":
                return _answer({"healed": await self._heal(_decode(body, Heal).name)})
            return _answer({"name": await self._create(_decode(body, NewFault))})
        except LabctlError as error:
            raise ApiError(getattr(error, "code", 400), "Invalid", str(error)) from None

    async def _create(self, asked: NewFault) -> str:
        given = {"peer": asked.peer, "duration": asked.duration, "parameters": asked.parameters}
        spec = {"type": asked.type, "target": asked.target, **{key: value for key, value in given.items() if value}}
        metadata = {"generateName": f"{asked.type if asked.type in TYPES else 'fault'}-"}
        made = await self._client.create(FAULTS, {"metadata": metadata, "spec": spec})
        return str(made.metadata.name)

    async def _heal(self, name: str) -> list[str]:
        names = [name] if name else [one.name for one in self._client.list(FAULTS) if one.phase in UNFINISHED]
        for one in names:
            await self._client.patch(FAULTS, one, {"spec": {"heal": True}})
        return names


def add_route(routes: Extensions, dash: Dash) -> None:
    """Adds the route at which the lab's admin asks for an address of the page."""

    async def invite(request: ExtensionRequest) -> Mapping[str, str]:
        if not is_admin(request.user):
            raise ApiError(403, "Forbidden", "only the lab's admin may open the live page")
        return dash.invite()

    routes.add("POST", "/labctl/v1/dash", invite)


def fault_types() -> list[Mapping[str, Any]]:
    """Returns the table of fault types as the page's form needs it."""
    return [
        {
            "name": name,
            "summary": one.summary,
            "targets": one.targets,
            "parameters": {parameter: known.required for parameter, known in one.parameters.items()},
            "once": one.once,
            "link": one.link,
        }
        for name, one in TYPES.items()
    ]


async def _body(request: web.BaseRequest) -> bytes:
    if request.content_type != "application/json":
        raise ApiError(415, "UnsupportedMediaType", "the page sends JSON")
    if (request.content_length or 0) > BODY_MAX_BYTES:
        raise ApiError(413, "RequestEntityTooLarge", f"more than {BODY_MAX_BYTES} bytes")
    body = await request.content.read(BODY_MAX_BYTES + 1)
    while not request.content.at_eof() and len(body) <= BODY_MAX_BYTES:
        body += await request.content.read(BODY_MAX_BYTES + 1 - len(body))
    if len(body) > BODY_MAX_BYTES:
        raise ApiError(413, "RequestEntityTooLarge", f"more than {BODY_MAX_BYTES} bytes")
    return body


def _decode(body: bytes, type_: type) -> Any:
    try:
        return from_json(body, type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "BadRequest", str(error)[:200]) from None


@functools.cache
def _files() -> Mapping[str, bytes]:
    """Returns everything that belongs to the page, by name. It is read once: a request names a file of this table, never a path."""
    return {path.name: path.read_bytes() for path in assets.template("dash").iterdir() if path.suffix in _TYPES}


def _file(name: str) -> web.Response:
    type_ = _TYPES[name[name.rindex(".") :]]
    return web.Response(body=_files()[name], content_type=type_, charset="utf-8", headers=guard.HEADERS)


def _plain(text: str, *, status: int) -> web.Response:
    return web.Response(text=text, status=status, headers=guard.HEADERS)


def _answer(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json", headers=guard.HEADERS)
