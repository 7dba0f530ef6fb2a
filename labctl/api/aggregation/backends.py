"""Finds where the Service of an APIService is served, and opens connections to it.

An endpoint is a pod's, reached from the machine that it runs on (SSH's direct-tcpip, as the API's proxy reaches it). A Service of type ExternalName may
name this machine's loopback, for a server that is being written. Nothing else is connected to, so that an object in the store can't make the master speak to
the outside.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from labctl.api.aggregation.front import FrontProxy
from labctl.remote.interface import Remote
from labctl.resources import destinations
from labctl.resources.client import Client
from labctl.resources.destinations import Backend
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService
from labctl.resources.plurals import SERVICES
from labctl.resources.trust import trusting

_LOOPBACK = ("localhost", "127.0.0.1")
_CONTEXTS_MAX = 64


class Unavailable(Exception):
    """The Service can't be reached. `reason` and the text are those of the condition Available, as Kubernetes words them."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Backends:
    """Connections to the Services of APIServices."""

    def __init__(self, client: Client, remote: Remote | None, front: FrontProxy | None) -> None:
        self._client = client
        self._remote = remote
        self._front = front
        self._contexts: OrderedDict[tuple[str, bool], ssl.SSLContext] = OrderedDict()

    def find(self, one: APIService) -> Backend:
        """Choose an endpoint. Raises Unavailable."""
        reference = one.spec.service
        assert reference is not None, "local APIServices are served here"
        where = f'{reference.name} in "{reference.namespace}"'
        service = self._client.get(SERVICES, reference.key)
        if service is None:
            raise Unavailable("ServiceNotFound", f"service/{where} is not present")
        if service.spec.type == "ExternalName":
            if service.spec.external_name not in _LOOPBACK:
                raise Unavailable("ServiceAccessError", f"service/{where}: of external names only localhost is connected to")
            return Backend("", "127.0.0.1", reference.port, "https")
        port = destinations.port_of(service, reference.port)
        if port is None:
            raise Unavailable("ServicePortError", f"service/{where} is not listening on port {reference.port}")
        endpoints = self._client.get("endpoints", reference.key)
        if endpoints is None:
            raise Unavailable("EndpointsNotFound", f"cannot find endpoints for service/{where}")
        found = destinations.ready(endpoints, port.name)
        if not found:
            name = f' with port name "{port.name}"' if port.name else ""
            raise Unavailable("MissingEndpoints", f"endpoints for service/{where} have no addresses{name}")
        backend = random.choice(found)
        machine = backend.machine or destinations.any_machine(self._client, self._remote)
        if not machine or self._remote is None:
            raise Unavailable("ServiceAccessError", f"service/{where}: no node is connected from which {backend.host} could be reached")
        return Backend(machine, backend.host, backend.port, "https")

    async def connector(self, one: APIService, backend: Backend) -> tuple[aiohttp.BaseConnector, str]:
        """Return a connector for one request, and the name that the server's certificate must have. Raises Unavailable."""
        reference = one.spec.service
        assert reference is not None, "local APIServices are served here"
        name = f"{reference.name}.{reference.namespace}.svc"
        tls = await self._tls(one)
        if not backend.machine:
            return aiohttp.TCPConnector(ssl=tls, force_close=True), name
        from labctl.remote.dialled import DialledConnector

        assert self._remote is not None, "find looked"
        return DialledConnector(self._remote, backend.machine, backend.host, backend.port, tls=tls, server_name=name), name

    @asynccontextmanager
    async def opened(
        self, one: APIService, backend: Backend, limit: int
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Yield a TLS connection for bytes that are no plain requests; its reader holds `limit` bytes. Raises Unavailable, OSError, LabctlError."""
        reference = one.spec.service
        assert reference is not None, "local APIServices are served here"
        name, tls = f"{reference.name}.{reference.namespace}.svc", await self._tls(one)
        if backend.machine:
            from labctl.remote.dialled import opened

            assert self._remote is not None, "find looked"
            where = (self._remote, backend.machine, backend.host, backend.port)
            async with opened(*where, tls=tls, server_name=name, limit=limit) as streams:
                yield streams
            return
        reader, writer = await asyncio.open_connection(backend.host, backend.port, ssl=tls, server_hostname=name, limit=limit)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _tls(self, one: APIService) -> ssl.SSLContext:
        key = one.spec.ca_bundle, one.spec.skip_verify
        context = self._contexts.pop(key, None)
        if context is None:
            context = await asyncio.to_thread(self._context, *key)
        self._contexts[key] = context
        while len(self._contexts) > _CONTEXTS_MAX:
            self._contexts.popitem(last=False)
        return context

    def _context(self, bundle: str, skip_verify: bool) -> ssl.SSLContext:
        try:
            context = trusting("" if skip_verify else bundle)
        except ValueError as error:
            raise Unavailable("FailedDiscoveryCheck", f"unable to load root certificates: {error}") from None
        if skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._front is not None:
            self._front.identify(context)
        return context


def words(error: Any) -> str:
    return str(error) or type(error).__name__
