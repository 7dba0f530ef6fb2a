"""A world: store, resources, runner, controllers, scheduler and hollow nodes on one virtual clock. Only the nodes are fake.

All random numbers come from one seed, in one order, so a world that is run twice is the same to the last line of its journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from random import Random

from labctl.admission.builtin import builtin_admission
from labctl.controllers.builtin import builtin_controllers
from labctl.controllers.milestones import Milestones
from labctl.controllers.settings import ControllerSettings
from labctl.journal import MemoryJournal
from labctl.proxy.proxy import Proxy
from labctl.proxy.settings import ProxySettings
from labctl.reconcile.plan import Follower
from labctl.reconcile.runner import Runner
from labctl.reconcile.settings import ReconcileSettings
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.kinds.labctl_internal_v1.machine import MAX_NUMBER
from labctl.resources.measures import MetricReader, NoMetrics
from labctl.resources.plurals import MACHINES
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.usage import NoUsage, UsageReader
from labctl.scheduler.scheduler import Scheduler
from labctl.sim.checkers import acknowledged, addresses, endpoints, identity, replicas, rules, watch
from labctl.sim.clock import VirtualClock
from labctl.sim.containers import Running
from labctl.sim.engine import FaultyEngine
from labctl.sim.fleet import Fleet
from labctl.sim.helpers import FakeHelpers, empty_tables
from labctl.sim.hollow import HollowNode
from labctl.sim.power import make_machines, tell
from labctl.sim.settings import HollowSettings
from labctl.store.log import LogStore
from labctl.store.settings import StoreSettings


class World:
    """A simulated lab. `wrong` collects what broke a safety rule at the moment when it did."""

    def __init__(
        self,
        seed: int,
        hollow: HollowSettings = HollowSettings(),  # noqa: B008 - frozen
        controllers: ControllerSettings = ControllerSettings(),  # noqa: B008 - frozen
        proxies: int = 0,
        usage: UsageReader = NoUsage(),  # noqa: B008 - it holds nothing
        measures: MetricReader = NoMetrics(),  # noqa: B008 - it holds nothing
        machines: int = MAX_NUMBER,
        lines: int = 200_000,
    ) -> None:
        """Make a world. The proxy's compiler writes the rules of the first `proxies` minions; the first `machines` nodes have a Machine, whose end the
        provider knows. The journal keeps so many `lines`."""
        self._machines = machines
        self._answers = asyncio.Event()  # set while there is a master
        self._answers.set()
        self.rng = Random(seed)
        self.clock = VirtualClock()
        self.journal = MemoryJournal(self.clock, keep=lines)
        self.engine = FaultyEngine(Random(self.rng.random()))
        self.registry = builtin_registry()
        self.store = LogStore(self.engine, StoreSettings())
        self.resources = Resources(self.store, self.registry, self.clock, self.journal, Random(self.rng.random()))
        self.client = Client(self.resources)
        self.resources.use_admission(builtin_admission(self.client, self.clock, evict_s=controllers.eviction_s))
        self.fleet = Fleet(self.client, self.clock, Random(self.rng.random()), hollow, self._started, self._forgotten, self._noted)
        self.wrong: list[str] = []
        self._settings = controllers
        self._proxies = proxies
        self.helpers = FakeHelpers(recorded=False)
        self.proxy: Proxy | None = None
        self.log = watch.LogReader(self.store)
        self._names, self._addresses = identity.Names(), addresses.Addresses()
        self.told = acknowledged.Acknowledged()
        self._usage, self._measures = usage, measures
        self.runner = self._runner()

    async def start(self, nodes: int) -> None:
        await ensure_bootstrap(self.client, BootstrapSettings(address="10.245.1.1"))
        names = [f"minion-{number}" for number in range(1, nodes + 1)]
        await make_machines(self.client, names[: self._machines])
        for name in names[: self._proxies]:
            self.helpers.add(name)
        await self._start_master()
        self.fleet.start(names)
        for name in names[: self._proxies]:
            self.fleet.nodes[name].fenced = True
        for name in names[: self._machines]:
            await self._tell(self.fleet.nodes[name], "On", "")

    async def _start_master(self) -> None:
        await self.runner.start()
        if self.proxy is not None:
            await self.proxy.start()

    async def _stop_master(self) -> None:
        if self.proxy is not None:
            await self.proxy.stop()
        await self.runner.stop()

    async def stop(self) -> None:
        if self.master_answers:
            await self._stop_master()
        await self.fleet.stop()
        await self.store.close()

    async def restart_master(self) -> None:
        """Stops the controllers in the middle of their work, and starts new ones from the store."""
        await self._stop_master()
        self.runner = self._runner()
        await self._start_master()

    @property
    def master_answers(self) -> bool:
        return self._answers.is_set()

    async def kill_master(self) -> None:
        """Stops the controllers in the middle of their work. Nobody is answered, and nothing is decided, until `start_master`; what runs goes on."""
        self._answers.clear()
        self.fleet.master_answers(False)
        self.journal.note("sim", "process/master", "the master was killed")
        await self._stop_master()

    async def start_master(self) -> None:
        """Starts a new master from the store, after `kill_master`. Every node that reaches it reports in."""
        self.runner = self._runner()
        self._answers.set()
        await self._start_master()
        self.journal.note("master", "process/master", "the master answers", did="up")
        self.fleet.master_answers(True)

    # -- machines ----------------------------------------------------------------------------------------------------------------------

    async def power_off(self, name: str) -> None:
        node = self.fleet.nodes[name]
        node.power_off()
        if name in self.helpers.minions:
            self.helpers.minions[name].tables = empty_tables()
            self.helpers.lose(name)
        self.journal.note("sim", f"machine/{name}", f"loses power in {node.boot_id}")
        await self._later()
        if not node.powered:
            await self._tell(node, "Off", "the plug was pulled")

    async def power_on(self, name: str) -> None:
        node = self.fleet.nodes[name]
        node.power_on()
        if name in self.helpers.minions:
            self.helpers.reconnect(name)
        self.journal.note("sim", f"machine/{name}", f"has power again: {node.boot_id}")
        await self._later()
        await self._tell(node, "On", "")

    async def _later(self) -> None:
        """Waits as long as the provider takes until it tells what happened; the agent may speak first."""
        await asyncio.sleep(self.rng.uniform(*self.fleet.settings.told_s))

    async def _tell(self, node: HollowNode, power: str, reason: str) -> None:
        """Writes the provider's report, when there is a master that may hear it."""
        await self._answers.wait()
        if power == "Off":
            self.journal.note("machines", f"machine/{node.name}", f"off (not intended): {reason}", did="off", where=node.name)
        revision = await tell(self.client, node, power, reason)
        if revision:
            self.journal.note("machines", f"{MACHINES}/{node.name}", f"it is written that it is {power}", rev=revision)

    # -- what must be ------------------------------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Return why the world is not yet as it should be; empty if it is."""
        unready = [f"node {node.metadata.name} is not ready" for node in self.client.list("nodes") if not node.ready or node.spec.taints]
        found = [*unready, *replicas.unmet(self.client, self.fleet), *replicas.astray(self.client, self.fleet)]
        found += [*endpoints.wrong(self.client, self.fleet), *identity.two_of_one(self.fleet), *addresses.shared(self.client, self.fleet)]
        if not found and self.proxy is not None:
            found += rules.wrong(self.client, self.helpers, {name: node.address for name, node in self.fleet.nodes.items()})
        return found

    def lost(self) -> list[str]:
        """Return what was acknowledged or told to watchers, and does not stand in the log. To be asked at the end: it reads the whole log."""
        found = self.log.catch_up()
        return [
            *found,
            *self.told.missing(self.log),
            *watch.differences(self.store, self.log),
            *acknowledged.not_durable(self.store, self.engine),
        ]

    async def calm(self, within_s: float, every_s: float = 1.0) -> list[str]:
        """Wait until there are no problems, and return those that are left at the end."""
        end = self.clock.now() + within_s
        while (problems := self.problems()) and self.clock.now() < end:
            await asyncio.sleep(every_s)
        return problems

    def _started(self, node: HollowNode, pod: Running) -> None:
        self._broken([*self._names.begins(node, pod), *self._addresses.begins(node, pod)])

    def _forgotten(self, node: HollowNode, pod: Running) -> None:
        self._broken([f"the API let go of pod {pod.key} while it runs on {node.name}"])

    def _noted(self, node: HollowNode, pod: Running, did: str, text: str) -> None:
        self.journal.note("agent", f"pods/{pod.key}", text, did=did, where=node.name)

    def _broken(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self.wrong.append(sentence)
            self.journal.note("sim", "checker", sentence)

    def more_followers(self) -> Sequence[Follower]:
        """Return what the runner runs besides the controllers and the scheduler. A world with other rooms overrides it."""
        return self.proxy.followers if self.proxy is not None else ()

    def _runner(self) -> Runner:
        if self._proxies:
            recorder = Recorder(self.client, "proxy", self.clock)
            settings = ProxySettings(pod_range="10.128.0.0/9")
            self.helpers.silence()
            self.proxy = Proxy(self.helpers, self.client, recorder, self.journal, self.clock, settings)  # type: ignore[arg-type]
            self.helpers.listen(self.proxy.notified)
        return Runner(
            self.resources,
            self.client,
            lambda component: Recorder(self.client, component, self.clock),
            [
                Milestones(self.journal),
                *builtin_controllers(
                    self.registry, self._settings, usage=self._usage, schema=self.resources.schema, measures=self._measures
                ),
                Scheduler(),
                *self.more_followers(),
            ],
            self.clock,
            self.journal,
            Random(self.rng.random()),
            ReconcileSettings(stop_s=0.0),
        )
