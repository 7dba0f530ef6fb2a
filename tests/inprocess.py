"""A real API server in the test's own loop: store, resources, TLS and sockets, no other process. kubectl and other clients talk to it on loopback.

async with ApiServer.running(tmp_path) as api:
    code, out, err = await api.kubectl("get", "pods")
    async with api.session() as http: ...
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import yaml

from labctl.admission.builtin import builtin_admission
from labctl.admission.caller import WebhookCaller
from labctl.api import identity
from labctl.api.audit import AuditLog
from labctl.api.authorize import Authorizer
from labctl.api.extensions import Extensions
from labctl.api.health import Checks
from labctl.api.interference import Interference
from labctl.api.server import Server
from labctl.api.settings import ApiSettings
from labctl.certificates import Authority, Issued, kubeconfig, write_file
from labctl.clock import SystemClock
from labctl.controllers.builtin import builtin_controllers
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.signing import Signing
from labctl.controllers.tokensecrets import TokenSecrets
from labctl.journal import MemoryJournal
from labctl.reconcile.runner import Runner
from labctl.remote.interface import Remote
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.rbac.defaults import ensure_roles
from labctl.resources.rbac.holders import Rbac
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.usage import NoUsage, UsageReader
from labctl.store.interface import Store
from labctl.store.memory import memory_store
from labctl.tokens import TokenKeys

NAMESPACES = ("default", "kube-system", "kube-node-lease")


def client_tls(authority: Authority, who: Issued | None, directory: Path) -> ssl.SSLContext:
    """A client's side of TLS, as `who`; None is nobody."""
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    context.check_hostname = False
    if who is not None:
        path = directory / "client.pem"
        write_file(path, who.certificate + who.key)
        context.load_cert_chain(path)
    return context


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@dataclass
class ApiServer:
    """What a test needs of a running server. `directory` holds its certificates and kubeconfig."""

    server: Server
    resources: Resources
    authority: Authority
    directory: Path
    port: int

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        directory: Path,
        *,
        store: Store | None = None,
        settings: ApiSettings = ApiSettings(),
        remote: Remote | None = None,
        extensions: Extensions | None = None,
        checks: Checks = tuple,
        controllers: bool = False,
        audit: AuditLog | None = None,
        usage: UsageReader = NoUsage(),
        interference: Interference | None = None,
    ) -> AsyncIterator[ApiServer]:
        """With `controllers`, all of the master's controllers run as well; pods are bound to no node and stay Pending."""
        clock = SystemClock()
        store = store or memory_store()
        resources = Resources(store, builtin_registry(), clock, MemoryJournal(clock), Random(1))
        webhooks = WebhookCaller(Client(resources), remote)
        rbac = Rbac(resources)
        permissions = Authorizer(resources, rbac)
        resources.use_admission(builtin_admission(Client(resources), clock, rbac, permissions=permissions, webhooks=webhooks))
        authority = Authority.create(directory / "pki")
        authority.server(["localhost"], ["127.0.0.1"])
        pki = directory / "pki"
        tokens = TokenKeys(pki / "tokens")
        tls = identity.server_context(pki / "ca.crt", pki / "server.crt", pki / "server.key")
        server = Server(
            resources,
            tls,
            clock,
            settings=settings,
            remote=remote,
            extensions=extensions,
            checks=checks,
            tokens=tokens,
            audit=audit,
            usage=usage,
            interference=interference,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        await server.start([listener])
        api = cls(server, resources, authority, directory, listener.getsockname()[1])
        write_file(api.kubeconfig, kubeconfig(api.url, authority.certificate_pem, authority.admin()))
        runner = _runner(resources, clock, authority, webhooks, tokens) if controllers else None
        try:
            for name in NAMESPACES if store.revision == 0 else ():
                await resources.create(resources.registry["namespaces"], "", {"metadata": {"name": name}})
            await ensure_roles(Client(resources))
            if runner is not None:
                await runner.start()
            yield api
        finally:
            if runner is not None:
                await runner.stop()
            await server.stop()
            await webhooks.close()
            await store.close()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def tls(self, who: Issued | None) -> ssl.SSLContext:
        """A client's side of TLS, as `who`; None is nobody."""
        return client_tls(self.authority, who, self.directory)

    def session(self, who: Issued | None | str = "admin") -> aiohttp.ClientSession:
        """An HTTP client with the server's address: as the admin, as nobody (None), as a node (`node:NAME`), or with a certificate."""
        if who == "admin":
            who = self.authority.admin()
        elif isinstance(who, str):
            who = self.authority.node(who.removeprefix("node:"))
        connector = aiohttp.TCPConnector(ssl=self.tls(who), limit=0)
        return aiohttp.ClientSession(self.url, connector=connector, auto_decompress=True, read_bufsize=1 << 22)

    async def kubectl(self, *arguments: str, stdin: str | dict[str, Any] = "", deadline_s: float = 30.0) -> Ran:
        """The real one, with a cache of its own. A dict on standard input is written as YAML."""
        text = yaml.safe_dump(stdin) if isinstance(stdin, dict) else stdin
        process = await self.start_kubectl(*arguments)
        try:
            out, err = await asyncio.wait_for(process.communicate(text.encode()), deadline_s)
        finally:
            await ended(process)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    async def start_kubectl(self, *arguments: str) -> asyncio.subprocess.Process:
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.directory / "cache"),
            "NO_PROXY": "127.0.0.1",
        }
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(kubectl_path(), *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def _runner(resources: Resources, clock: SystemClock, authority: Authority, webhooks: WebhookCaller, tokens: TokenKeys) -> Runner:
    client = Client(resources)
    recorders: dict[str, Recorder] = {}

    def recorder(component: str) -> Recorder:
        return recorders.setdefault(component, Recorder(client, component, clock))

    settings = ControllerSettings(root_certificate=authority.certificate_pem.decode())
    builtin = builtin_controllers(resources.registry, settings, webhooks, schema=resources.schema)
    controllers = [*builtin, Signing(authority), TokenSecrets(tokens.sign, settings)]
    return Runner(resources, client, recorder, controllers, clock, resources.journal, Random(1))


async def ended(process: asyncio.subprocess.Process) -> None:
    """Of a kubectl that runs until it is stopped; some stop by themselves when the server's word is bad."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def kubectl_path() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else shutil.which("kubectl") or "kubectl"
