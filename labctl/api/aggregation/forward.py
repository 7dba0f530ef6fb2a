"""Passes one request on to the server of an APIService, and its answer back. Answers are streamed, so that a watch is one, too.

The server is told who asks by the X-Remote-* headers. What the client said in such headers itself, and its own credentials, are left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from labctl.api.aggregation.backends import Backends, Unavailable, words
from labctl.api.call import Call
from labctl.api.settings import ApiSettings
from labctl.api.streams import passing
from labctl.api.streams.passing import AS_ASKED
from labctl.api.streams.upgrades import HEAD_BYTES_MAX, upgraded, wants_upgrade
from labctl.errors import ApiError, LabctlError
from labctl.resources import requestheader
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService
from labctl.resources.service import MASTERS, User

REQUESTS_MAX = 200  # under way for one APIService
TIMEOUT_S = 60.0  # of a request that is no watch
_AGGREGATOR = User("system:kube-aggregator", (MASTERS,))
_CHUNK = 64 << 10
_ETAG_MAX = 512  # characters
_LEFT_OUT = ("x-remote-", "impersonate-", "x-forwarded-")


class Answer(msgspec.Struct, frozen=True):
    """A whole answer of an aggregated server."""

    url: str
    status: int
    body: bytes
    etag: str = ""


class Forward:
    """Requests to aggregated servers, on connections of their own."""

    def __init__(self, backends: Backends, settings: ApiSettings) -> None:
        self._backends = backends
        self._settings = settings
        self._under_way: Counter[str] = Counter()

    async def call(self, call: Call, one: APIService) -> web.StreamResponse:
        """Answer a request. Raises 503 if the server can't be reached, 429 if too many requests wait for it."""
        name = one.metadata.name
        if self._under_way[name] >= REQUESTS_MAX:
            raise ApiError(429, "TooManyRequests", f"too many requests wait for the APIService {name}", retry_after_s=1)
        self._under_way[name] += 1
        try:
            if wants_upgrade(call.request.headers):
                backend = self._backends.find(one)
                connection = self._backends.opened(one, backend, HEAD_BYTES_MAX)
                host = f"{backend.host}:{backend.port}"
                return await upgraded(call, host, call.request.raw_path, sent_on(call), connection, self._settings.dial_s)
            body = await call.body() if call.request.can_read_body else None
            return await self._exchange(call, one, body)
        except Unavailable as error:
            raise ApiError(503, "ServiceUnavailable", f"service unavailable: {error}") from None
        except (aiohttp.ClientError, LabctlError, TimeoutError, OSError) as error:
            if isinstance(error, ApiError):
                raise
            raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: {words(error)}") from error
        finally:
            self._under_way[name] -= 1

    async def _exchange(self, call: Call, one: APIService, body: bytes | None) -> web.StreamResponse:
        backend = self._backends.find(one)
        connector, server_name = await self._backends.connector(one, backend)
        url = URL(f"https://{backend.host}:{backend.port}{call.request.raw_path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=None if call.is_watch else TIMEOUT_S, connect=self._settings.dial_s)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session:
            with call.connection.streaming():
                asked = session.request(
                    call.method,
                    url,
                    headers=sent_on(call),
                    data=body,
                    allow_redirects=False,
                    server_hostname=server_name,
                    skip_auto_headers=AS_ASKED,
                )
                async with asked as answered:
                    if 300 <= answered.status < 400 and answered.headers.get("Location"):
                        raise ApiError(502, "", "the backend attempted to redirect this request, which is not permitted")
                    response = passing.head_of(answered)
                    for key, value in passing.headers_of(answered):
                        response.headers.add(key, value)
                    await response.prepare(call.request)
                    async for chunk in answered.content.iter_chunked(_CHUNK):
                        await response.write(chunk)
                    return response

    async def document(self, one: APIService, path: str, timeout_s: float, most_bytes: int) -> bytes:
        """Return a JSON document of the server. Raises Unavailable, with the reason FailedDiscoveryCheck where it does not answer as it should."""
        answered = await self.ask(one, "GET", path, timeout_s, most_bytes)
        if answered.status != 200:
            failing = f"failing or missing response from {answered.url}"
            raise Unavailable("FailedDiscoveryCheck", f"{failing}: bad status from {answered.url}: {answered.status}")
        return answered.body

    async def ask(
        self, one: APIService, method: str, path: str, timeout_s: float, most_bytes: int, user: User = _AGGREGATOR, etag: str = ""
    ) -> Answer:
        """Send a request of the master's own, as `user`, and return the answer. Raises Unavailable."""
        backend = self._backends.find(one)
        connector, server_name = await self._backends.connector(one, backend)
        url = f"https://{backend.host}:{backend.port}{path}"
        headers = [
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            *identity(user),
            *([("If-None-Match", etag)] if etag else []),
        ]
        failing = f"failing or missing response from {url}"
        try:
            async with (
                asyncio.timeout(timeout_s),
                aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
                session.request(method, url, headers=headers, allow_redirects=False, server_hostname=server_name) as answered,
            ):
                said = bytearray()
                async for chunk in answered.content.iter_chunked(_CHUNK):
                    said += chunk
                    if len(said) > most_bytes:
                        raise Unavailable("FailedDiscoveryCheck", f"{failing}: more than {most_bytes} bytes")
                return Answer(url, answered.status, bytes(said), answered.headers.get("ETag", "")[:_ETAG_MAX])
        except (aiohttp.ClientError, LabctlError, TimeoutError, OSError) as error:
            raise Unavailable("FailedDiscoveryCheck", f"{failing}: {words(error)}") from None


def identity(user: User) -> list[tuple[str, str]]:
    """Return the headers that say who asks. Keys of extra fields are percent-encoded, as in Kubernetes."""
    told = [(requestheader.USER, user.name), *((requestheader.GROUP, group) for group in user.groups)]
    if user.uid:
        told.append((requestheader.UID, user.uid))
    return told + [(requestheader.EXTRA + quote(key, safe=""), value) for key, values in user.extra for value in values]


def sent_on(call: Call) -> list[tuple[str, str]]:
    """Return the headers of a request as the server behind this API gets them."""
    return [(key, value) for key, value in passing.asked(call) if _passes(key)] + identity(call.user)


def _passes(header: str) -> bool:
    name = header.lower()
    return name not in ("authorization", "content-length", "expect") and not name.startswith(_LEFT_OUT)
