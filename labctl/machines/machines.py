"""Carries out the Machine objects. It is an Observer: the runner shows it changes, and its own work takes seconds and threads.

    Machine, Node ══ runner ══► seen: tells the machine's worker       provider ── events ──► worker
                                       worker ── provider (threads), remote (SSH) ──► the machine;  ── client ──► status

`master` calls it (start, stop), and gives its `followers` to the runner. Each machine has a worker (worker.py), so machines boot, join and
end in
parallel, and one that hangs delays no other. It never acts on pods or taints: the node controller does that when a machine ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from labctl.certificates import Authority
from labctl.clock import Clock
from labctl.journal import Journal
from labctl.machines import zipapp
from labctl.machines.join import Join
from labctl.machines.podranges import PodRanges
from labctl.machines.settings import LabFacts, MachinesSettings
from labctl.machines.tools import Recorder, Tools, Writer
from labctl.machines.worker import MachineWorker
from labctl.machines.zipapp import Agent
from labctl.providers.protocol import Machine, MachineEvent, Provider, Stop
from labctl.reconcile.plan import Follower, Index, Seen, View
from labctl.remote.interface import Remote
from labctl.resources.plurals import MACHINES, NODES
from labctl.supervisor import Supervisor


@dataclass(frozen=True)
class MachineAccess:
    """How machines are made, reached and joined.

    `pack` makes the agent's zipapp; with a cache folder (partial(zipapp.build, cache)) it takes 5 ms instead of 150. `blocking` runs the
    provider's calls;
    by default in threads of this room, because ten boots at once would use up the event loop's own.
    """

    provider: Provider
    remote: Remote
    authority: Authority
    pack: Callable[[], Agent] = zipapp.build
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None


@dataclass(frozen=True)
class MasterServices:
    """What this room uses of its master: where it writes, where it records Events and notes, the time, and who restarts its tasks."""

    client: Writer
    recorder: Recorder
    journal: Journal
    clock: Clock
    supervisor: Supervisor | None = None


class Machines:
    """The Observer that the module's docstring describes. `lab` is what each machine must know about its lab."""

    name = "machines"
    follows = (MACHINES, NODES)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(
        self,
        access: MachineAccess,
        services: MasterServices,
        lab: LabFacts,
        settings: MachinesSettings = MachinesSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._supervisor = services.supervisor or Supervisor(services.clock, services.journal)
        self._provider = access.provider
        self._settings = settings
        self._tools = Tools(
            services.client,
            access.provider,
            access.remote,
            self._joining,
            services.recorder,
            lab,
            settings,
            services.journal,
            services.clock,
            access.blocking or self._in_a_thread,
            self._supervisor,
        )
        self._pack = access.pack
        self._lab = lab
        self._new_join = lambda agent: Join(access.remote, access.authority, agent, self._lab, settings)
        self._executor: ThreadPoolExecutor | None = None
        self._workers: dict[str, MachineWorker] = {}
        self._real: Mapping[str, Machine] = {}
        self._waiting: dict[str, tuple[Any, Any]] = {}  # shown before `start` has read which machines exist
        self._started = False
        self._join: asyncio.Task[Join] | None = None
        self._stop_watching: Stop | None = None

    @property
    def followers(self) -> Sequence[Follower]:
        """Return what the runner has to show changes to."""
        return (self, PodRanges(self._settings))

    async def start(self, url: str = "", relay_address: str = "") -> None:
        """Read which machines there are, and listen to the provider. It may be called before or after the runner's start.

        `url` is the master's, as machines reach it. Raises what the provider raises; then nothing has started, and it may be called again.
        """
        loop = asyncio.get_running_loop()
        if url:
            self._lab = replace(self._lab, url=url, relay_address=relay_address)
        self._pack_agent()
        self._real = await self._tools.blocking(self._provider.machines)

        def tell(event: MachineEvent) -> None:
            loop.call_soon_threadsafe(self._event, event)

        if self._stop_watching is None:
            self._stop_watching = self._provider.watch(tell)
        self._started = True
        for name, (machine, node) in self._waiting.items():
            self._tell_worker(name, machine, node)
        self._waiting.clear()

    def awake(self) -> None:
        """Look again after this process, or the whole host, was asleep; the runner calls this."""
        for worker in self._workers.values():
            worker.awake()

    async def stop(self) -> None:
        """Stop the workers. Machines stay as they are."""
        if self._stop_watching:
            await self._tools.blocking(self._stop_watching)
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def seen(self, view: View, change: Seen) -> None:
        name = change.key
        machine, node = view.get(MACHINES, name), view.get(NODES, name)
        if self._started:
            self._tell_worker(name, machine, node)
        else:
            self._waiting[name] = (machine, node)

    def _tell_worker(self, name: str, machine: Any, node: Any) -> None:
        worker = self._workers.get(name)
        if worker is None and machine is not None:
            worker = self._workers[name] = MachineWorker(machine, self._real.get(name), self._tools)
        if worker is not None:
            worker.see(machine, node)
        if machine is None:
            self._workers.pop(name, None)
            self._real = {each: real for each, real in self._real.items() if each != name}

    def _event(self, event: MachineEvent) -> None:
        worker = self._workers.get(event.name)
        if worker:
            worker.event(event)

    async def _joining(self) -> Join:
        """Return the Join.

        The agent is packed once, while the first machines boot; if that failed, the next machine that asks tries again.
        """
        return await asyncio.shield(self._pack_agent())

    def _pack_agent(self) -> asyncio.Task[Join]:
        failed = self._join is not None and self._join.done() and (self._join.cancelled() or self._join.exception() is not None)
        if self._join is None or failed:
            self._join = asyncio.create_task(self._build(), name="agent zipapp")
        return self._join

    async def _build(self) -> Join:
        return await self._tools.blocking(lambda: self._new_join(self._pack()))

    def _in_a_thread(self, work: Callable[[], Any]) -> Awaitable[Any]:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._settings.threads, "machines")
        return asyncio.get_running_loop().run_in_executor(self._executor, work)
