"""The proxy sends HTTP requests to a pod, from the machine it runs on, for `.../pods/NAME/proxy/...` and `.../services/NAME/proxy/...`.

NAME is `name`, `name:port`, `http:name:port` or `https:name:port`; the port is a number or a name. A Service's request goes to one of its ready
endpoints, at random. The certificate of an https pod is not checked, as in Kubernetes. Bodies are streamed in both directions; in pages of HTML, links to the
pod are moved below the proxy's path.
"""

from __future__ import annotations

import random
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from labctl.api import answer, status
from labctl.api.call import Call
from labctl.api.settings import ApiSettings
from labctl.api.streams import links, pods
from labctl.errors import ApiError, LabctlError
from labctl.remote.dialled import DialledConnector
from labctl.remote.interface import Remote
from labctl.resources import destinations
from labctl.resources.client import Client
from labctl.resources.destinations import Backend
from labctl.resources.resources import Resources

OUR_OWN = ("authorization", "impersonate-")
"""The beginnings of headers that tell this server who asks; a pod that got them could ask in the same name."""
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)
AS_ASKED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add: who is asked would take them for the client's words, as a body's type or the wish for a compressed answer."""
_CHUNK = 64 << 10


class Proxy:
    """Handles the subresource `proxy` of pods and services."""

    def __init__(self, resources: Resources, remote: Remote, settings: ApiSettings) -> None:
        self._resources = resources
        self._remote = remote
        self._settings = settings

    async def pod(self, call: Call) -> web.StreamResponse:
        scheme, name, port = _split(call.target.name)
        pod = self._view("pods", call.target.namespace, name)
        if not pod.status.pod_ip:
            raise status.bad_request("address not allowed")
        number = _number(port) if port else next((p.container_port for c in pod.spec.containers for p in c.ports), 80)
        return await self._forward(call, Backend(pods.machine_of(pod), pod.status.pod_ip, number, scheme))

    async def service(self, call: Call) -> web.StreamResponse:
        scheme, name, port = _split(call.target.name)
        service = self._view("services", call.target.namespace, name)
        endpoints = self._endpoints(call.target.namespace, name)
        backend = choose(service, endpoints, port)
        machine = backend.machine or destinations.any_machine(Client(self._resources), self._remote)
        if not machine:
            raise _unavailable(f"no node is connected from which {backend.host} could be reached")
        return await self._forward(call, Backend(machine, backend.host, backend.port, scheme))

    def _view(self, resource: str, namespace: str, name: str) -> Any:
        kind = self._resources.registry[resource]
        return self._resources.view(self._resources.get(kind, namespace, name))

    def _endpoints(self, namespace: str, name: str) -> Any:
        try:
            return self._view("endpoints", namespace, name)
        except ApiError:
            raise _no_endpoints(name) from None

    async def _forward(self, call: Call, backend: Backend) -> web.StreamResponse:
        path, _, query = call.request.raw_path.partition("?")
        if not call.target.rest and call.method in ("GET", "HEAD"):
            moved = path + "/" + ("?" + query if query else "")
            return web.Response(status=301, headers={"Location": moved})
        connector = DialledConnector(self._remote, backend.machine, backend.host, backend.port)
        try:
            async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_timeout(self._settings)) as session:
                with call.connection.streaming():
                    return await self._exchange(call, session, backend, query)
        except (aiohttp.ClientError, LabctlError, TimeoutError) as error:
            if isinstance(error, ApiError):
                raise
            raise _unavailable(f"error trying to reach service: {error or type(error).__name__}") from error

    async def _exchange(self, call: Call, session: aiohttp.ClientSession, backend: Backend, query: str) -> web.StreamResponse:
        request = call.request
        url = URL(f"{backend.scheme}://{backend.host}:{backend.port}{call.target.rest or '/'}{'?' + query if query else ''}", encoded=True)
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP and not k.lower().startswith(OUR_OWN)]
        headers.append(("X-Forwarded-Uri", call.path))
        body = request.content if request.can_read_body else None
        async with session.request(
            call.method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=AS_ASKED
        ) as answered:
            response = web.StreamResponse(status=answered.status, reason=answered.reason)
            page = await _page(call, backend, answered)
            for key, value in answered.headers.items():
                if key.lower() not in HOP_BY_HOP and not (page is not None and key.lower() == "content-length"):
                    response.headers.add(key, _relocated(call, backend, value) if key.lower() == "location" else value)
            for warning in call.warnings:
                response.headers.add("Warning", answer.warning(warning))
            if page is not None:
                response.content_length = len(page)
            await response.prepare(request)
            if page is not None:
                await response.write(page)
            async for chunk in answered.content.iter_chunked(_CHUNK):
                await response.write(chunk)
            return response


def choose(service: Any, endpoints: Any, asked: str) -> Backend:
    """Chooses one ready address of the requested port, which is a name or a number; "" means the port without a name."""
    wanted = asked
    if pods.is_port(asked):
        port = destinations.port_of(service, int(asked))
        if port is None:
            raise _unavailable(f'no service port {asked} found for service "{service.metadata.name}"')
        wanted = port.name
    found = destinations.ready(endpoints, wanted)
    if not found:
        raise _no_endpoints(service.metadata.name)
    return random.choice(found)


def _split(name: str) -> tuple[str, str, str]:
    """Splits `name`, `name:port` or `scheme:name:port` into (scheme, name, port)."""
    parts = name.split(":")
    if len(parts) < 3:
        parts = ["", *parts, ""][:3]
    scheme, name_, port = parts[:3]
    if len(parts) > 3 or scheme not in ("", "http", "https") or not name_:
        raise status.bad_request(f'invalid name "{name}"')
    return scheme or "http", name_, port


def _number(port: str) -> int:
    if pods.is_port(port):
        return int(port)
    raise status.bad_request(f'invalid port "{port}": a pod\'s is a number')


def _relocated(call: Call, backend: Backend, location: str) -> str:
    """Rewrites a redirect to the pod itself, so that the client stays below the proxy's path."""
    prefix = call.path[: len(call.path) - len(call.target.rest)]
    for own in (f"{backend.scheme}://{backend.host}:{backend.port}", f"{backend.scheme}://{backend.host}"):
        if location == own or location.startswith(own + "/"):
            location = location[len(own) :] or "/"
            break
    if not location.startswith("/") or location.startswith(("//", f"{prefix}/")):
        return location
    return prefix + location


async def _page(call: Call, backend: Backend, answered: aiohttp.ClientResponse) -> bytes | None:
    """Return a page of HTML with its links moved, or None for any other answer, and for one that is compressed, or of unknown or great length."""
    size = answered.content_length or 0
    plain = answered.content_type == links.HTML and "Content-Encoding" not in answered.headers
    if call.method == "HEAD" or not plain or not 0 < size <= links.PAGE_MAX_BYTES:
        return None
    return links.moved(await answered.read(), lambda link: _relocated(call, backend, link))


def _timeout(settings: ApiSettings) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=settings.dial_s)


def _unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)


def _no_endpoints(name: str) -> ApiError:
    return _unavailable(f'no endpoints available for service "{name}"')
