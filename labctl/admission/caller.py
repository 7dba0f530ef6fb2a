"""Calls webhooks over HTTPS: on this machine's loopback, and in the lab, through a minion.

A webhook is named by a Service, whose ready pods are reached from the machine that they run on (SSH's direct-tcpip, as the API's proxy does), or by a URL
whose host is an address: one of the lab's, which exists only inside the lab, or one of this machine's loopback. Nothing else is called, so that an object
in the store can't make the master speak to the outside. The server's certificate is checked against `caBundle`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from labctl.admission import words
from labctl.errors import LabctlError
from labctl.resources import destinations
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.trust import trusting
from labctl.resources.webhooks import WebhookFailed

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from labctl.remote.interface import Remote

MOST_ANSWER_BYTES = 3 << 20
MOST_SESSIONS = 16

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Place(msgspec.Struct, frozen=True):
    """Where a webhook is: dialled at `host`:`port` from `machine` (empty: from here), with a certificate for `name`."""

    url: str
    name: str
    machine: str
    host: str
    port: int


class WebhookCaller:
    """One for each master. `networks` are the lab's."""

    def __init__(self, client: Client, remote: Remote | None = None, networks: Sequence[Network] = ()) -> None:
        self._client = client
        self._remote = remote
        self._networks = networks
        self._sessions: dict[tuple[str, str], aiohttp.ClientSession] = {}

    async def call(self, config: Object, timeout_s: float, review: Any) -> Object:
        url = _url(config, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                place = self._place(config, url)
                said = await self._post(place, config.get("caBundle") or "", msgspec.json.encode(review))
        except TimeoutError:
            raise WebhookFailed(f'Post "{url}": context deadline exceeded') from None
        try:
            answer = msgspec.json.decode(said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WebhookFailed(f"couldn't get the answer as JSON: {error}") from None
        if not isinstance(answer, dict):
            raise WebhookFailed("the answer is no object")
        return answer

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    # -- where ---------------------------------------------------------------------------------------------------------------

    def _place(self, config: Object, url: str) -> Place:
        service = config.get("service")
        if service:
            return self._service(service, url)
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        if host == "localhost":
            return Place(url, host, "", "127.0.0.1", port)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise WebhookFailed(
                f'Post "{url}": labctl calls webhooks by Service, or by an address of loopback or the lab, not "{host}"'
            ) from None
        if address.is_loopback:
            return Place(url, host, "", host, port)
        if not any(address in network for network in self._networks):
            raise WebhookFailed(f'Post "{url}": {host} is no address of the lab or of loopback')
        return Place(url, host, self._any_machine(url), host, port)

    def _service(self, service: Object, url: str) -> Place:
        namespace, name, wanted = service.get("namespace", ""), service.get("name", ""), service.get("port") or 443
        found = self._client.get("services", f"{namespace}/{name}")
        if found is None:
            raise WebhookFailed(f'Post "{url}": service "{name}" not found')
        port = destinations.port_of(found, wanted)
        if port is None:
            raise WebhookFailed(f'Post "{url}": no service port {wanted} found for service "{name}"')
        ready = destinations.ready(self._client.get("endpoints", f"{namespace}/{name}"), port.name)
        if not ready:
            raise WebhookFailed(f'Post "{url}": no endpoints available for service "{name}"')
        chosen = random.choice(ready)
        return Place(url, f"{name}.{namespace}.svc", chosen.machine or self._any_machine(url), chosen.host, chosen.port)

    def _any_machine(self, url: str) -> str:
        machine = destinations.any_machine(self._client, self._remote)
        if not machine:
            raise WebhookFailed(f'Post "{url}": no node is connected from which it could be reached')
        return machine

    # -- how -----------------------------------------------------------------------------------------------------------------

    async def _post(self, place: Place, bundle: str, body: bytes) -> bytes:
        import aiohttp

        try:
            if not place.machine:
                return await _exchange(self._session(place, bundle), place, body)
            async with self._dialled(place, bundle) as session:
                return await _exchange(session, place, body)
        except (aiohttp.ClientError, OSError, LabctlError) as error:
            if isinstance(error, WebhookFailed):
                raise
            why = words.unreachable(error, place.name, f"{place.host}:{place.port}")
            raise WebhookFailed(f'Post "{place.url}": {why}') from None

    def _session(self, place: Place, bundle: str) -> aiohttp.ClientSession:
        """Return a session whose connections are kept, so that not every write pays for TLS anew."""
        import aiohttp

        key = f"{place.host}:{place.port}", bundle
        session = self._sessions.pop(key, None)
        if session is None:
            session = _new(aiohttp.TCPConnector(ssl=_context(bundle), limit=64))
        self._sessions[key] = session
        while len(self._sessions) > MOST_SESSIONS:
            old = self._sessions.pop(next(iter(self._sessions)))
            asyncio.get_running_loop().create_task(old.close())
        return session

    def _dialled(self, place: Place, bundle: str) -> aiohttp.ClientSession:
        from labctl.remote.dialled import DialledConnector

        if self._remote is None:
            raise WebhookFailed(f'Post "{place.url}": this master has no machines')
        connector = DialledConnector(self._remote, place.machine, place.host, place.port, tls=_context(bundle), server_name=place.name)
        return _new(connector)


def _new(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """Return a session that remembers nothing for a server, and unpacks nothing: what was not asked for packed would be unpacked beyond any bound."""
    import aiohttp

    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


async def _exchange(session: aiohttp.ClientSession, place: Place, body: bytes) -> bytes:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
    async with session.post(place.url, data=body, headers=headers, allow_redirects=False) as answer:
        said = bytearray()
        async for chunk in answer.content.iter_chunked(64 << 10):
            said += chunk
            if len(said) > MOST_ANSWER_BYTES:
                raise WebhookFailed(f'Post "{place.url}": the answer has more than {MOST_ANSWER_BYTES} bytes')
        if answer.status == 404:
            raise WebhookFailed("the server could not find the requested resource")
        if not 200 <= answer.status < 300:
            text = bytes(said[:1024]).decode(errors="replace").strip() or "unknown"
            raise WebhookFailed(f"an error on the server ({msgspec.json.encode(text).decode()}) has prevented the request from succeeding")
        return bytes(said)


def _url(config: Object, timeout_s: float) -> str:
    service = config.get("service")
    if service:
        base = f"https://{service.get('name')}.{service.get('namespace')}.svc:{service.get('port') or 443}{service.get('path') or '/'}"
    else:
        base = config.get("url") or ""
    return f"{base}?timeout={timeout_s:g}s"


def _context(bundle: str) -> ssl.SSLContext:
    """Return TLS settings that trust the bundle (base64 of PEM), or what this machine trusts if there is none."""
    try:
        return trusting(bundle)
    except ValueError as error:
        raise WebhookFailed(f"unable to load root certificates: {error}") from None
