"""A lab without machines for the live page: the real store, runner, controllers, scheduler, faults and API, hollow nodes, in real time on the test's loop.

async with LivePage.running(tmp_path, nodes=3) as live:
    address = live.address()      # opens the page once
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labctl.api import identity
from labctl.api.extensions import Extensions
from labctl.api.server import Server
from labctl.certificates import Authority
from labctl.dash.dash import Dash, add_route
from labctl.dash.feed import Feed
from labctl.faults.deed import Site
from labctl.faults.reconciler import Faults
from labctl.reconcile.plan import Follower
from labctl.resources.events import Recorder
from labctl.resources.kinds.labctl_internal_v1.fault import Fault
from labctl.sim.world import World
from tests.inprocess import client_tls


class PullThePlug:
    """The deed of power-off on a hollow node."""

    types = ("power-off",)

    def __init__(self, live: LivePage) -> None:
        self._live = live

    def refuse(self, fault: Fault, site: Site) -> str:
        return site.why_not_on(fault.machine)

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        return {}

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        await self._live.world.power_off(fault.machine)
        return [f"{fault.machine} has no power"]

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        await self._live.world.power_on(fault.machine)
        return [f"{fault.machine} boots"]


class RoomsWorld(World):
    """A world in which faults are carried out and the page is shown every change."""

    def __init__(self, live: LivePage) -> None:
        self._live = live
        super().__init__(1)

    def more_followers(self) -> Sequence[Follower]:
        return self._live.followers(self)


class LivePage:
    """A hollow lab with its page."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.feed = Feed()
        self.faults: Faults | None = None
        self.world = RoomsWorld(self)
        self.client = self.world.client
        self.dash = Dash(self.feed, self.client, self.world.clock, "hollow")
        self.authority = Authority.create(directory / "pki")
        self.port = 0

    def followers(self, world: World) -> Sequence[Follower]:
        recorder = Recorder(world.client, "faults", world.clock)
        self.faults = Faults(
            lambda view: Site(view, world.client, world.journal, world.clock, asyncio.to_thread),
            recorder,
            lambda: dict.fromkeys(PullThePlug.types, PullThePlug(self)),
        )
        return [self.faults, self.feed]

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path, *, nodes: int = 3) -> AsyncIterator[LivePage]:
        live = cls(directory)
        pki = directory / "pki"
        live.authority.server(["localhost"], ["127.0.0.1"])
        routes = Extensions()
        add_route(routes, live.dash)
        tls = identity.server_context(pki / "ca.crt", pki / "server.crt", pki / "server.key")
        server = Server(live.world.resources, tls, live.world.clock, extensions=routes, dash=live.dash.serve)
        listener = socket.create_server(("127.0.0.1", 0))
        live.port = listener.getsockname()[1]
        await live.world.start(nodes)
        assert live.faults
        live.faults.start()
        await server.start([listener])
        try:
            yield live
        finally:
            await server.stop()
            await live.faults.stop()
            await live.world.stop()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def address(self) -> str:
        return self.url + self.dash.invite()["path"]

    def tls(self, who: Any = None):
        return client_tls(self.authority, who, self.directory)

    async def deploy(self, name: str, replicas: int, service: bool = True) -> None:
        """Makes a ReplicationController and its Service."""
        labels = {"app": name}
        container = {"name": "main", "image": "web", "readinessProbe": {"tcpSocket": {"port": 80}}}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        metadata = {"name": name, "namespace": "default"}
        await self.client.create(
            "replicationcontrollers", {"metadata": metadata, "spec": {"replicas": replicas, "selector": labels, "template": template}}
        )
        if service:
            await self.client.create("services", {"metadata": metadata, "spec": {"selector": labels, "ports": [{"port": 80}]}})

    async def until(self, what, within_s: float = 30.0) -> None:
        """Waits until `what()` is true."""
        async with asyncio.timeout(within_s):
            while not what():
                await asyncio.sleep(0.02)

    def ready(self) -> int:
        return sum(pod.ready and not pod.metadata.deletion_timestamp for pod in self.client.list("pods"))


class InThread:
    """A LivePage on a loop in a thread of its own, for tests that drive a browser and may not share its loop."""

    def __init__(self, live: LivePage, loop: asyncio.AbstractEventLoop) -> None:
        self.live, self._loop = live, loop

    def do(self, coroutine, within_s: float = 60.0):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(within_s)

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory: Path, *, nodes: int = 3) -> Iterator[InThread]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        started = asyncio.run_coroutine_threadsafe(_enter(directory, nodes), loop).result(60)
        live, leave = started
        try:
            yield cls(live, loop)
        finally:
            asyncio.run_coroutine_threadsafe(leave(), loop).result(60)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


async def _enter(directory: Path, nodes: int):
    context = LivePage.running(directory, nodes=nodes)
    live = await context.__aenter__()

    async def leave() -> None:
        await context.__aexit__(None, None, None)

    return live, leave
