"""The machine_rooms: the rooms that reach machines, wired. Machines, pod network, proxy and names are fed by the runner as controllers are, and act over SSH.

provider.uplink ─► the lab's own network ─► API listens there ─► SSH process enters it ─► machines boot and join ─► routes, rules, names
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from labctl.certificates import Authority
from labctl.clock import Clock
from labctl.dns.dns import Dns
from labctl.journal import Journal
from labctl.machines import zipapp
from labctl.machines.machines import MachineAccess, Machines, MasterServices
from labctl.machines.settings import LabFacts
from labctl.machines.usage import Usage
from labctl.master.settings import API_PORT, MasterSettings
from labctl.network.announce import Announcer
from labctl.network.network import Network
from labctl.providers.protocol import Provider, Uplink
from labctl.proxy.proxy import Proxy
from labctl.reconcile.plan import Follower
from labctl.remote.interface import Remote
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.supervisor import Supervisor


class SshRemote(Remote, Protocol):
    """A Remote that is a process of its own and lives in a network namespace."""

    def enter(self, network_namespace: str) -> None: ...
    def reverse(self, there: int, here: int) -> None: ...
    async def start(self) -> None: ...


class MachineRooms:
    """The rooms that reach machines. They are built before anything runs; `connect` makes the network, then `start` starts with the
    machines.
    """

    def __init__(
        self,
        settings: MasterSettings,
        client: Client,
        recorder: Callable[[str], Recorder],
        authority: Authority,
        authorized_key: str,
        provider: Provider,
        remote: SshRemote,
        journal: Journal,
        clock: Clock,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self.remote = remote
        self._provider = provider
        facts = LabFacts("", str(settings.paths.ssh_key), authorized_key)
        access = MachineAccess(provider, remote, authority, partial(zipapp.build, settings.paths.cache / "agent"))
        services = MasterServices(client, recorder("machines"), journal, clock, supervisor)
        self.machines = Machines(access, services, facts, settings.machines())
        self.network = Network(remote, journal, clock, settings.pod_network(), supervisor)
        self.proxy = Proxy(remote, client, recorder("proxy"), journal, clock, settings.proxy(), supervisor)
        self.usage = Usage(remote, client, clock)
        self.announcer = Announcer(remote, journal, clock, settings.load_balancers, supervisor)
        self.dns = Dns(remote, journal, clock, settings.dns(), supervisor)
        self._uplink: asyncio.Task[Uplink] | None = None
        self._entered = False  # the SSH process lives in the lab's network
        remote.listen(self.network.notified)
        remote.listen(self.proxy.notified)
        remote.listen(self.dns.notified)
        remote.listen(self.announcer.notified)

    @property
    def followers(self) -> Sequence[Follower]:
        """Return what the runner must run; what must reach minions first comes first."""
        return (self.network, *self.proxy.followers, self.dns, self.announcer, *self.machines.followers)

    def begin(self) -> None:
        """Start making the lab's network. That takes a while, and the API gets ready meanwhile."""
        self._uplink = asyncio.create_task(asyncio.to_thread(self._provider.uplink, API_PORT), name="uplink")

    async def connect(self, port: int = 0) -> Uplink:
        """Wait for the lab's network and move the SSH process into it. `port` is the API's on loopback, to which a reverse tunnel leads.

        Return where else the API has to listen for agents. Raises what the provider raises; then it may be called again, and asks the
        provider again.
        """
        if self._uplink is None:
            self.begin()
        assert self._uplink is not None
        try:
            uplink = await self._uplink
        except BaseException:
            self._uplink = None
            raise
        if not self._entered:
            self._entered = True
            self.remote.enter(uplink.network_namespace)
            if uplink.reverse_tunnel:
                self.remote.reverse(uplink.port, port)
        return uplink

    async def start(self, uplink: Uplink) -> None:
        """Start with the machines, and return when their first round has begun. It may be called again after it failed."""
        await self.network.start()
        await self.proxy.start()
        await self.dns.start()
        await self.announcer.start()
        await asyncio.gather(self.remote.start(), self.machines.start(uplink.url, self._relay(uplink)))

    def _relay(self, uplink: Uplink) -> str:
        """Return the address by which pods reach the master if only a tunnel leads to it. Each machine then has that address."""
        return self._settings.lab_address if uplink.reverse_tunnel else ""

    async def stop(self) -> None:
        """Stop these rooms. Machines and pods stay as they are."""
        await self.machines.stop()
        await self.announcer.stop()
        await self.dns.stop()
        await self.proxy.stop()
        await self.network.stop()
        await self.remote.close()
