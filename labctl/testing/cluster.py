"""A whole control plane in a thread of this process: API, controllers, scheduler, and hollow nodes, which report pods as running that do not run.

    with Cluster(folder, nodes=2) as cluster:
        print(cluster.url)

It is the master of every lab (`labctl.master`), with a store in memory and no machines. Its clients are in other threads or processes, as a test is:
the thread has an event loop of its own. Several clusters in one process share nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any, Self, TypeVar

from labctl.api.identity import server_context
from labctl.certificates import Authority, kubeconfig, write_file
from labctl.clock import SystemClock
from labctl.errors import LabctlError
from labctl.journal import MemoryJournal
from labctl.master.master import Master
from labctl.master.settings import MasterSettings, Values
from labctl.paths import Paths
from labctl.sim.fleet import Fleet
from labctl.sim.hollow import HollowNode
from labctl.sim.power import make_machines, tell
from labctl.sim.settings import HollowSettings
from labctl.store.memory import memory_store
from labctl.tokens import TokenKeys

START_S, CALL_S = 30.0, 30.0
_QUICK = HollowSettings(start_s=(0.0, 0.02), stop_s=(0.0, 0.02), told_s=(0.0, 0.02), retry_s=0.2, container_statuses=True)

T = TypeVar("T")


class Cluster:
    """One control plane. `folder` gets its certificates and kubeconfig. The methods block, and may be called from any thread but its own."""

    def __init__(self, folder: Path, *, nodes: int = 1, settings: HollowSettings = _QUICK, seed: int = 0) -> None:
        self._paths = Paths(folder / ".labctl", folder / "state", folder / "cache")
        self._node_names = [f"minion-{number}" for number in range(1, nodes + 1)]
        self._hollow = settings
        self._seed = seed
        self._thread = threading.Thread(target=self._run, name="labctl-cluster", daemon=True)
        self._started: Future[None] = Future()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self.url = ""
        self.authority: Authority
        self.master: Master
        self.fleet: Fleet

    def start(self) -> None:
        """Returns when the API answers and every node is Ready. Raises what the start raised."""
        self._thread.start()
        self._started.result(START_S)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(START_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def ca(self) -> bytes:
        """Return the certificate authority's certificate, in PEM."""
        return self.authority.certificate_pem

    def kubeconfig(self, namespace: str = "default", user: str = "", groups: Sequence[str] = ()) -> str:
        """Returns a kubeconfig for an admin, or for a user who may do what RBAC says."""
        client = self.authority.issue(user, list(groups), rsa=True) if user else self.authority.admin()
        return kubeconfig(self.url, self.ca, client, namespace=namespace)

    # -- nodes ---------------------------------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Sequence[str]:
        return tuple(self._node_names)

    def power_off(self, node: str) -> None:
        """Cuts a node's power: its pods are gone, the node is fenced, and controllers replace the pods on other nodes."""
        self.call(self._power(node, on=False))

    def power_on(self, node: str) -> None:
        self.call(self._power(node, on=True))

    def fall_silent(self, node: str) -> None:
        """Lets a node report nothing any more, while its pods go on: as when its network fails. It is thought lost after the grace period."""
        self.call(self._quiet(node, silent=True))

    def speak_again(self, node: str) -> None:
        self.call(self._quiet(node, silent=False))

    def end_pod(self, namespace: str, name: str, exit_code: int = 0) -> None:
        """Lets the containers of a running pod end with this exit code, as a Job's do when they are done."""
        self.call(self._end_pod(f"{namespace}/{name}", exit_code))

    def heal(self) -> None:
        """Powers every node on again and lets it speak."""
        for name, node in self.fleet.nodes.items():
            if not node.powered:
                self.power_on(name)
            elif not node.heard:
                self.speak_again(name)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the cluster's loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    def _node(self, name: str) -> HollowNode:
        if name not in self.fleet.nodes:
            raise LabctlError(f"there is no node {name}", mend=f"there are {', '.join(self._node_names) or 'none'}")
        return self.fleet.nodes[name]

    async def _power(self, name: str, *, on: bool) -> None:
        node = self._node(name)
        if node.powered == on:
            return
        node.power_on() if on else node.power_off()
        await tell(self.master.client, node, "On" if on else "Off", "" if on else "the plug was pulled")

    async def _quiet(self, name: str, *, silent: bool) -> None:
        node = self._node(name)
        node.fall_silent() if silent else node.speak_again()

    async def _end_pod(self, key: str, exit_code: int) -> None:
        pod = self.master.client.get("pods", key)
        node = self.fleet.nodes.get(pod.spec.node_name) if pod is not None else None
        if node is None or pod.metadata.uid not in node.running:
            raise LabctlError(f"pod {key} does not run")
        await node.end_pod(pod, exit_code)

    # -- the thread ----------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                raise

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        clock = SystemClock()
        self.authority = Authority.create(self._paths.certificates, "labctl", clock)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        self.master = Master(
            MasterSettings("labctl", self._paths, Values()),
            memory_store(),
            clock,
            MemoryJournal(clock, keep=5000),
            rng=Random(self._seed),
            tls=self._tls(),
            tokens=TokenKeys(self._paths.token_keys),
            authority=self.authority,
        )
        self.fleet = Fleet(self.master.client, clock, Random(self._seed), self._hollow)
        write_file(self._paths.kubeconfig, self.kubeconfig())
        try:
            await self.master.start([listener])
            await self._start_nodes()
            self._started.set_result(None)
            await self._stop.wait()
        finally:
            await self.fleet.stop()
            await self.master.stop()

    def _tls(self) -> ssl.SSLContext:
        self.authority.server(["localhost"], ["127.0.0.1"])
        pki = self._paths.certificates
        return server_context(pki / "ca.crt", pki / "server.crt", pki / "server.key")

    async def _start_nodes(self) -> None:
        client = self.master.client
        await make_machines(client, self._node_names)
        self.fleet.start(self._node_names)
        for node in self.fleet.nodes.values():
            await tell(client, node, "On", "")
        async with asyncio.timeout(START_S):
            while any((node := client.get("nodes", name)) is None or not node.ready or node.spec.taints for name in self._node_names):
                await asyncio.sleep(0.005)
