"""The proxy sends HTTP requests to a pod, from the machine it runs on, for `.../pods/NAME/proxy/...` and `.../services/NAME/proxy/...`.

NAME is `name`, `name:port`, `http:name:port` or `https:name:port`; the port is a number or a name. A Service's request goes to one of its ready
endpoints that are pods of its namespace, at random. The certificate of an https pod is not checked, as in Kubernetes. Bodies are streamed in both
directions; in pages of HTML, links to the pod are moved below the proxy's path.
"""

from __future__ import annotations

import random
import re
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from labctl.api import answer, status
from labctl.api.call import Call
from labctl.api.settings import ApiSettings
from labctl.api.streams import links, passing, pods
from labctl.api.streams.passing import AS_ASKED
from labctl.api.streams.upgrades import HEAD_BYTES_MAX, upgraded, wants_upgrade
from labctl.errors import ApiError, LabctlError
from labctl.remote.dialled import DialledConnector, any_certificate, opened
from labctl.remote.interface import Remote
from labctl.resources import destinations, names
from labctl.resources.client import Client
from labctl.resources.destinations import Backend
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.plurals import PODS
from labctl.resources.resources import Resources

OUR_OWN = ("authorization", "impersonate-", "x-remote-")
"""The beginnings of headers that tell this server who asks; a pod that got them could ask in the same name."""
_CHUNK = 64 << 10


class Proxy:
    """Handles the subresource `proxy` of pods and services."""

    def __init__(self, resources: Resources, remote: Remote, settings: ApiSettings) -> None:
        self._resources = resources
        self._remote = remote
        self._settings = settings

    async def pod(self, call: Call) -> web.StreamResponse:
        scheme, name, port = split_name(call.target.name)
        pod = self._view("pods", call.target.namespace, name)
        if not _may_be_a_pods(pod.status.pod_ip):
            raise status.bad_request("address not allowed")
        number = _number(port) if port else next((p.container_port for c in pod.spec.containers for p in c.ports), 80)
        return await self._forward(call, Backend(pods.machine_of(pod), pod.status.pod_ip, number, scheme))

    async def service(self, call: Call) -> web.StreamResponse:
        scheme, name, port = split_name(call.target.name)
        service = self._view("services", call.target.namespace, name)
        endpoints = self._endpoints(call.target.namespace, name)
        for backend in choices(service, endpoints, port):
            pod = self._pod_at(call.target.namespace, backend)
            if pod is not None:
                return await self._forward(call, Backend(pods.machine_of(pod), backend.host, backend.port, scheme))
        raise _no_endpoints(name)

    def _pod_at(self, namespace: str, backend: Backend) -> Pod | None:
        """Return the pod of this namespace that an endpoint names and whose address it is: whoever may write Endpoints may not send this server anywhere."""
        pod: Pod | None = Client(self._resources).get(PODS, backend.target) if backend.target.startswith(f"{namespace}/") else None
        if pod is None or not pod.spec.node_name or not _may_be_a_pods(backend.host):
            return None
        return pod if backend.host in (pod.status.pod_ip, *(each.ip for each in pod.status.pod_ips)) else None

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
        target = f"{call.target.rest or '/'}{'?' + query if query else ''}"
        try:
            if wants_upgrade(call.request.headers):
                return await self._upgraded(call, backend, target)
            connector = DialledConnector(self._remote, backend.machine, backend.host, backend.port)
            async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_timeout(self._settings)) as session:
                with call.connection.streaming():
                    return await self._exchange(call, session, backend, target)
        except (aiohttp.ClientError, LabctlError, OSError) as error:
            if isinstance(error, ApiError):
                raise
            raise _unavailable(f"error trying to reach service: {error or type(error).__name__}") from error

    async def _upgraded(self, call: Call, backend: Backend, target: str) -> web.StreamResponse:
        """Let the pod change the protocol: a WebSocket of a notebook or a dashboard."""
        https = backend.scheme == "https"
        connection = opened(
            self._remote,
            *(backend.machine, backend.host, backend.port),
            tls=any_certificate() if https else None,
            server_name=backend.host if https else None,
            limit=HEAD_BYTES_MAX,
        )
        host = f"{backend.host}:{backend.port}"
        return await upgraded(call, host, target, _sent_on(call), connection, self._settings.dial_s)

    async def _exchange(self, call: Call, session: aiohttp.ClientSession, backend: Backend, target: str) -> web.StreamResponse:
        request = call.request
        url = URL(f"{backend.scheme}://{backend.host}:{backend.port}{target}", encoded=True)
        headers = _sent_on(call)
        body = request.content if request.can_read_body else None
        async with session.request(
            call.method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=AS_ASKED
        ) as answered:
            response = passing.head_of(answered)
            page = await _page(call, backend, answered)
            for key, value in passing.headers_of(answered):
                if page is None or key.lower() != "content-length":
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


def _sent_on(call: Call) -> list[tuple[str, str]]:
    """Return the headers of a request as the pod gets them."""
    told = [(k, v) for k, v in passing.asked(call) if not k.lower().startswith(OUR_OWN)]
    return [*told, ("X-Forwarded-Uri", call.path)]


def choices(service: Any, endpoints: Any, asked: str) -> list[Backend]:
    """Return the ready addresses of the requested port, in random order. The port is a name or a number; "" means the port without a name."""
    wanted = asked
    if pods.is_port(asked):
        port = destinations.port_of(service, int(asked))
        if port is None:
            raise _unavailable(f'no service port {asked} found for service "{service.metadata.name}"')
        wanted = port.name
    found = destinations.ready(endpoints, wanted)
    return random.sample(found, len(found))


def _may_be_a_pods(address: str) -> bool:
    """Tell whether a pod can be behind it: it is neither loopback nor link-local, where the machine itself would answer, and no group's."""
    return not names.outside_address(address) and not ip_address(address).is_multicast


def split_name(name: str) -> tuple[str, str, str]:
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
    """Rewrites a redirect to the pod itself, so that the client stays below the proxy's path. This server's own address is the pod's, too: who
    sees it in the `Host` of a request could otherwise send its client to any object of the API.
    """
    prefix = call.path[: len(call.path) - len(call.target.rest)]
    authority, path = _parted(location)
    if authority in (backend.host, f"{backend.host}:{backend.port}", call.request.host):
        location = path or "/"
    elif authority:
        return location
    if not location.startswith("/") or location.startswith(f"{prefix}/"):
        return location
    return prefix + location


def _parted(location: str) -> tuple[str, str]:
    """Split an address into its host with the port, and what comes behind that. The host of a mere path is empty."""
    scheme, slashes, rest = location.partition("//")
    if not slashes or scheme.lower() not in ("", "http:", "https:"):
        return "", location
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return authority, rest[len(authority) :]


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
