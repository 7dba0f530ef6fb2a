"""Says what of a request and of its answer passes through this server, for the proxy to pods and Services and for aggregated API servers. Pure.

Whoever answers is a stranger: what it says is either passed on as one whole HTTP answer, or replaced by an error. It speaks in the origin of this API, so it
gets no say about which pages of other origins may read here (CORS), and the words behind its status code are HTTP's own, as in Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import aiohttp
from aiohttp import web

from labctl.api import identity
from labctl.api.call import Call
from labctl.errors import ApiError

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)
AS_ASKED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add: who is asked would take them for the client's words, as a body's type or the wish for a compressed answer."""
CORS = frozenset(f"access-control-allow-{what}" for what in ("credentials", "headers", "methods", "origin"))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def asked(call: Call) -> Iterator[tuple[str, str]]:
    """Yield the headers of a request that are for whoever answers it: none of the connection's own, and no token among a WebSocket's subprotocols."""
    for key, value in call.request.headers.items():
        told = identity.without_token(key, value)
        if key.lower() not in HOP_BY_HOP and (told or not value):
            yield key, told


def head_of(answered: aiohttp.ClientResponse) -> web.StreamResponse:
    """Return an answer without headers. Raises 503 for a status that no answer has, and for a change of the protocol that nobody asked for."""
    if answered.status < 200:
        raise malformed(f"malformed HTTP status code {answered.status}")
    return web.StreamResponse(status=answered.status)


def headers_of(answered: aiohttp.ClientResponse) -> Iterator[tuple[str, str]]:
    """Yield the headers that the client gets. Raises 503 for one that no header may look like."""
    for key, value in answered.headers.items():
        if _CONTROL.search(key) or _CONTROL.search(value):
            raise malformed(f"malformed MIME header: control character in {_CONTROL.sub('?', key)[:100]}")
        if key.lower() not in HOP_BY_HOP and key.lower() not in CORS:
            yield key, value


def malformed(what: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", f"error trying to reach service: malformed HTTP response: {what}")
