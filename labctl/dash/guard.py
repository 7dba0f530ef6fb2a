"""What every request for the live page must be, before anything else is looked at.

The page can break machines, so it is not enough that a browser sends the cookie. A request must come over loopback; name this server by an address that only
this host has (another name that a stranger's DNS points here is refused); not come with a node's or pod's identity; and not be sent by another site.
What changes something also carries the session's guard in a header, which no other site can read or send.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from aiohttp import web

from labctl.api.authorize import is_admin
from labctl.api.connection import Connection
from labctl.errors import ApiError

HEADER = "X-Labctl-Guard"
_NAMES = ("127.0.0.1", "localhost", "[::1]")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def check(request: web.BaseRequest) -> None:
    """Raises ApiError for a request that the page or its owner can't have sent."""
    port = _local_port(request)
    host = request.headers.get("Host", "")
    if host not in [f"{name}:{port}" for name in _NAMES]:
        raise ApiError(403, "Forbidden", "the live page has another name")
    connection = request.protocol
    user = connection.user if isinstance(connection, Connection) else None
    if "Authorization" in request.headers or (user is not None and not is_admin(user)):
        raise ApiError(403, "Forbidden", "the live page is for people")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    opening = request.method == "GET" and request.path in ("/dash/open", "/dash/")
    if site not in ("same-origin", "none") and not (opening and request.headers.get("Sec-Fetch-Mode") == "navigate"):
        raise ApiError(403, "Forbidden", "another site may not ask for this")
    if request.headers.get("Origin", f"https://{host}") != f"https://{host}":
        raise ApiError(403, "Forbidden", "another site may not ask for this")


def cookie_name(request: web.BaseRequest) -> str:
    """Returns the cookie's name. Cookies do not know ports, so that of each lab has its own; `__Host-` lets no other host set it."""
    return f"__Host-labctl-dash-{_local_port(request)}"


def cookie_of(request: web.BaseRequest) -> str:
    return request.cookies.get(cookie_name(request), "")


def _local_port(request: web.BaseRequest) -> int:
    """Returns the port at which the request came in. Raises ApiError 404 if it is not on loopback: there is no page for machines."""
    address = request.transport.get_extra_info("sockname") if request.transport else None
    if not address or not ipaddress.ip_address(address[0]).is_loopback:
        raise ApiError(404, "NotFound", "there is nothing at this address")
    return int(address[1])
