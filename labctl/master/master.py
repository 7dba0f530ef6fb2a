"""`Master` connects the rooms of one lab. It decides nothing; this file is the picture in ARCHITECTURE.md, as code.

    store ─► resources ─► client ─► runner(controllers, scheduler, machines, network, proxy) ─► provider, remote
                 └─► api (if there is TLS to serve it with)

`labctl.lab` starts it as a process (process.py); `labctl.sim` builds it with fakes, on a virtual clock and without HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from socket import socket
from typing import TYPE_CHECKING

import msgspec

from labctl import logfiles
from labctl.admission.builtin import builtin_admission
from labctl.admission.caller import WebhookCaller
from labctl.clock import Clock
from labctl.controllers.builtin import builtin_controllers
from labctl.controllers.essentials import Essentials
from labctl.controllers.milestones import Milestones
from labctl.controllers.signing import Signing
from labctl.controllers.tokensecrets import TokenSecrets
from labctl.dash.feed import Feed
from labctl.errors import Unavailable
from labctl.faults.deed import Site
from labctl.faults.deeds import builtin as builtin_deeds
from labctl.faults.reconciler import Faults
from labctl.images.gate import PullGate
from labctl.journal import MemoryJournal
from labctl.master.settings import API_PORT, MasterSettings
from labctl.reconcile.plan import Follower, View
from labctl.reconcile.runner import Runner
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap, essentials
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.plurals import METRICS
from labctl.resources.rbac.holders import Rbac
from labctl.resources.rbac.matching import Permissions
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.usage import NoUsage, UsageReader
from labctl.scheduler.scheduler import Scheduler
from labctl.store.interface import Store
from labctl.supervisor import Supervisor

if TYPE_CHECKING:
    from labctl.api.aggregation.aggregation import Aggregation
    from labctl.api.aggregation.front import FrontProxy
    from labctl.api.audit import AuditLog
    from labctl.api.extensions import Extensions
    from labctl.api.health import Check
    from labctl.api.interference import Interference
    from labctl.api.server import Server
    from labctl.certificates import Authority
    from labctl.dash.dash import Dash
    from labctl.images.images import Images
    from labctl.master.machine_rooms import MachineRooms, SshRemote
    from labctl.providers.protocol import Provider
    from labctl.tokens import TokenKeys

log = logging.getLogger(__name__)

MACHINES_START = "machines-start"  # the name of a task
LOG_CHECK_EVERY_S = 10.0
COMPACT_EVERY_S, COMPACT_CHECK_EVERY_S = 300.0, 5.0


class Tools(msgspec.Struct, frozen=True):
    """What reaches machines, and what agents are served. A master without machines has none of it."""

    provider: Provider
    remote: SshRemote
    authority: Authority
    authorized_key: str
    images: Images


class Master:
    """One lab's control plane. `tls` None: no HTTP; `tokens` None: ServiceAccounts have no tokens; `authority` None: nobody signs certificates."""

    def __init__(
        self,
        settings: MasterSettings,
        store: Store,
        clock: Clock,
        journal: MemoryJournal,
        *,
        rng: Random | None = None,
        tls: ssl.SSLContext | None = None,
        tools: Tools | None = None,
        supervisor: Supervisor | None = None,
        tokens: TokenKeys | None = None,
        authority: Authority | None = None,
    ) -> None:
        self.supervisor = supervisor or Supervisor(clock, journal)
        rng = rng or Random()
        self.settings = settings
        self.clock = clock
        self.journal = journal
        self.store = store
        self.registry = builtin_registry()
        if tools is None:  # without machines nobody can say what pods use
            for resource in METRICS:
                self.registry.remove(resource)
        self.resources = Resources(store, self.registry, clock, journal, rng, settings.resources())
        self.client = Client(self.resources)
        self.rbac = Rbac(self.resources)
        self._tokens = tokens
        self._authority = authority
        self._front = self._front_proxy() if tls and authority else None
        self._audit = self._audit_log() if tls and settings.values.audit else None
        evict_s = settings.values.evict_s
        self.webhooks = WebhookCaller(self.client, tools.remote if tools else None, settings.networks)
        permissions = self._permissions() if tls else None
        steps = builtin_admission(self.client, clock, self.rbac, permissions=permissions, evict_s=evict_s, webhooks=self.webhooks)
        self.resources.use_admission(steps)
        self._recorders: dict[str, Recorder] = {}
        self._pulls = PullGate()
        self._interference: Interference | None = None  # what all requests to the API meet, while a fault is at work there
        self._process = secrets.token_hex(8)  # names this run of the master
        self.machine_rooms = self._build_machine_rooms(tools) if tools else None
        self.faults = Faults(partial(self._fault_site, tools), self.recorder("faults"), builtin_deeds)
        self.scheduler = Scheduler()
        self._aggregation = self._aggregated_servers(tools) if tls else None
        self._feed = Feed() if tls else None
        self.runner = Runner(self.resources, self.client, self.recorder, self._followers(), clock, journal, rng, supervisor=self.supervisor)
        if self.machine_rooms:
            self.runner.when_awake(self.machine_rooms.machines.awake)
        self._api_tasks: dict[str, Callable[[], Awaitable[None]]] = {}
        self.api = self._api(tls, tools) if tls else None
        self._port = 0  # the API's on loopback
        self._lab_listens = False  # whether the API answers in the lab's network

    def recorder(self, component: str) -> Recorder:
        """Return the recorder of Events for a component; each component has one."""
        if component not in self._recorders:
            self._recorders[component] = Recorder(self.client, component, self.clock)
        return self._recorders[component]

    def _followers(self) -> Sequence[Follower]:
        machine_rooms = self.machine_rooms.followers if self.machine_rooms else ()
        essential = Essentials(essentials(self._bootstrap(), self.resources.settings.service_range))
        controllers = self.settings.controllers()
        signing = [Signing(self._authority)] if self._authority else []
        tokens = [TokenSecrets(self._tokens.sign, controllers)] if self._tokens else []
        others = (self._aggregation, self._aggregation.measures) if self._aggregation else ()
        builtin = builtin_controllers(self.registry, controllers, self.webhooks, self._usage(), self.resources.schema, *others)
        pages = [self._feed] if self._feed else []
        return [Milestones(self.journal), *builtin, *signing, *tokens, essential, self.scheduler, *machine_rooms, self.faults, *pages]

    def _fault_site(self, tools: Tools | None, view: View) -> Site:
        """Return what deeds may use: where a lab without machines has nothing to break, they refuse."""
        return Site(
            view,
            self.client,
            self.journal,
            self.clock,
            asyncio.to_thread,
            provider=tools.provider if tools else None,
            remote=tools.remote if tools else None,
            process=self._process,
            kill_master=lambda: os.kill(os.getpid(), signal.SIGKILL),
            master_address=self.settings.lab_address,
            pulls=self._pulls if tools and tools.images else None,
            api=self._interference,
        )

    def _usage(self) -> UsageReader:
        return self.machine_rooms.usage if self.machine_rooms else NoUsage()

    def _bootstrap(self) -> BootstrapSettings:
        wanted = BootstrapSettings()
        if self.machine_rooms:
            wanted = BootstrapSettings(self.settings.lab_address, API_PORT, dns_address=self.settings.dns_address)
        if self._authority and self._front:
            wanted = replace(wanted, client_ca=self._authority.certificate_pem.decode(), front_proxy_ca=self._front.ca)
        return wanted

    def _permissions(self) -> Permissions:
        """Returns the API's authorizer, which knows what nodes may do, too."""
        from labctl.api.authorize import Authorizer  # a master without an API has no need of it

        return Authorizer(self.resources, self.rbac)

    def _front_proxy(self) -> FrontProxy:
        from labctl.api.aggregation.front import FrontProxy

        return FrontProxy(self.settings.paths.front_proxy, self.clock)

    def _aggregated_servers(self, tools: Tools | None) -> Aggregation:
        from labctl.api.aggregation.aggregation import Aggregation
        from labctl.api.settings import ApiSettings

        return Aggregation(self.resources, self.clock, ApiSettings(), tools.remote if tools else None, self._front)

    def _build_machine_rooms(self, tools: Tools) -> MachineRooms:
        from labctl.master.machine_rooms import MachineRooms

        return MachineRooms(
            self.settings,
            self.client,
            self.recorder,
            tools.authority,
            tools.authorized_key,
            tools.provider,
            tools.remote,
            self.journal,
            self.clock,
            self.supervisor,
        )

    def _audit_log(self) -> AuditLog:
        from labctl.api.audit import AuditLog

        return AuditLog(self.settings.paths.audit_log, self.clock)

    def _api(self, tls: ssl.SSLContext, tools: Tools | None) -> Server:
        from labctl.api.interference import Interference
        from labctl.api.server import Server
        from labctl.master.extensions import extensions
        from labctl.master.faultchecks import add_routes as add_fault_checks
        from labctl.master.peers import PURPOSE, PeersRoute

        snapshot = partial(self.store.snapshot, self.settings.paths.store_snapshot)
        images = tools.images if tools else None
        peers = PeersRoute(self.runner.view, self.settings.timing, tools.authority.secret(PURPOSE)) if tools else None
        proxy = self.machine_rooms.proxy if self.machine_rooms else None
        asked = (self._tokens, peers, self._pulls, proxy)
        routes = extensions(self.registry, self.runner, self.journal, images, snapshot, self.supervisor, self.scheduler, *asked)
        add_fault_checks(routes, self.faults, self.runner.view)
        self.dash = self._live_page(routes, tools)
        self._interference = Interference(Random())
        remote = tools.remote if tools else None
        if self._aggregation:
            self._api_tasks.update(self._aggregation.tasks)
        return Server(
            self.resources,
            tls,
            self.clock,
            remote=remote,
            extensions=routes,
            checks=self._checks,
            tokens=self._tokens,
            rbac=self.rbac,
            audit=self._audit,
            usage=self._usage(),
            dash=self.dash.serve,
            interference=self._interference,
            aggregation=self._aggregation,
        )

    def _live_page(self, routes: Extensions, tools: Tools | None) -> Dash:
        """Build the live page, and the tasks that tell it what is no object: requests and traffic."""
        from labctl.dash.dash import Dash, add_route
        from labctl.dash.requests import Requests
        from labctl.master.measurements import add_routes

        assert self._feed, "there is a feed where there is an API"
        dash = Dash(self._feed, self.client, self.clock, self.settings.paths.lab.parent.name)
        add_route(routes, dash)
        self._api_tasks["dash-requests"] = Requests(self._feed, add_routes(routes), self.clock).run
        if tools:
            from labctl.dash.traffic import Traffic

            flavour = self.settings.proxy().flavour
            self._api_tasks["dash-traffic"] = Traffic(self._feed, tools.remote, self.runner.view, self.clock, flavour).run
        return dash

    async def start(self, sockets: Sequence[socket] = ()) -> None:
        """Answer on the sockets and start the controllers. Machines follow with `start_machines`."""
        self._port = sockets[0].getsockname()[1] if sockets else 0
        if self.machine_rooms:
            self.machine_rooms.begin()
        await ensure_bootstrap(self.client, self._bootstrap())
        await self.runner.start()  # before the API, so that custom kinds are served from its first answer on
        if self.api:
            await self.api.start(sockets)
            self.journal.note("master", "process/master", "the master answers", did="up", urgent=True)
        self.faults.start()
        self.supervisor.run("compaction", self._compact)
        self.supervisor.run("log-files", self._bound_logs)
        for name, work in self._api_tasks.items():
            self.supervisor.run(name, work)
        if self.machine_rooms:
            self.supervisor.run("usage", self.machine_rooms.usage.keep_fresh)
        if self._audit:
            self.supervisor.run("audit-log", self._audit.run)

    def run_machines(self) -> None:
        """Start making the lab's network, SSH, and the machines as their objects say. What fails is tried again until it succeeds."""
        if self.machine_rooms:
            self.supervisor.run(MACHINES_START, self.start_machines)

    def count_silence_from_now(self) -> None:
        """Let all grace periods begin anew. As long as this process does not listen in the lab's network, no minion can be heard."""
        self.runner.view.begin_anew()

    async def start_machines(self) -> None:
        """Start the machines, and return when their first round has begun. It may be called again after it failed."""
        if not self.machine_rooms:
            return
        uplink = await self.machine_rooms.connect(self._port)
        if self.api and not self._lab_listens:
            self._lab_listens = True
            await self.api.listen(uplink.sockets)
        await self.machine_rooms.start(uplink)

    def _checks(self) -> list[Check]:
        """Return the checks of /readyz: the store, then each long-lived task."""
        from labctl.api.health import Check

        store = Check("store", lambda: "the disk refused the last write, and none has succeeded since" if self.store.refusing else "")
        tasks = [one for one in self.supervisor.health() if one.is_task]
        return [store, *(Check(f"task/{one.name}", partial(str, one.trouble), live=False) for one in tasks)]

    async def stop(self) -> None:
        """Stop in order: the API, then the controllers, then the store, after what was written is on disk.

        Machines and pods stay as they are.
        """
        if self.api:
            await self.api.stop()
        await self.supervisor.stop("compaction", "log-files", "usage", MACHINES_START)
        if self._audit:
            await self.supervisor.stop("audit-log")
            await self._audit.close()
        await self.faults.stop()
        if self.machine_rooms:
            await self.machine_rooms.stop()
        await self.runner.stop()
        await self.webhooks.close()
        for recorder in self._recorders.values():
            with contextlib.suppress(Exception):  # a lost Event must not prevent the stop
                await recorder.close()
        await self.store.close()
        self.journal.write()

    async def _bound_logs(self) -> None:
        """Runs until it is cancelled. It keeps the master's own log from filling the disk."""
        while True:
            await asyncio.to_thread(logfiles.bound, self.settings.paths.master_log)
            await asyncio.sleep(LOG_CHECK_EVERY_S)

    async def _compact(self) -> None:
        """Remove history older than one period (at most two are kept), and earlier if there is more than should be held."""
        before, begun_s = self.store.revision, self.clock.now()
        while True:
            await asyncio.sleep(COMPACT_CHECK_EVERY_S)
            due = self.clock.now() - begun_s >= COMPACT_EVERY_S
            try:
                await self.store.compact(before if due else self.store.compaction_target)
            except Unavailable as error:  # the disk may be full; the next round tries again
                log.warning("history stays on disk: %s", error)
            if due:
                before, begun_s = self.store.revision, self.clock.now()
