"""How large a lab the control plane bears: `labctl sim --nodes 5000 --pods 150000`.

Everything that decides is real: the log, validation and admission, every controller, the scheduler, and the proxy's compiler, which writes the rules of three
minions. Nodes are hollow (hollow.py), and time is virtual: it moves only when nothing is left to be done at a moment. So virtual seconds say how long
delays, leases and retries take, and real seconds say how much work the control plane did.

The story: nodes register, Deployments with a Service each are created, all pods become ready; then a tenth of the nodes loses its power at one moment,
the provider reports it, and the wanted state must be reached again.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import msgspec

from labctl.errors import LabctlError
from labctl.sim import objects
from labctl.sim.clock import run
from labctl.sim.settings import HollowSettings, ScaleSettings
from labctl.sim.world import World

COMPACT_EVERY = 500
"""After so many revisions it is looked whether the history has become too large."""
LINES = 1_000  # of the journal: nobody reads it here
GC_THRESHOLDS = (100_000, 20, 50)
"""How seldom Python looks for circles of objects: nearly all objects here stay, and looking through millions of them took a sixth of the time."""
TOLD_S = (0.01, 0.1)
"""How soon the provider tells of a machine's end, as in simulated experiments."""
COMPILED_FOR = 3
"""The proxy's compiler writes the rules of so many minions: all minions get the same ones but for their own addresses."""


class Phase(msgspec.Struct, frozen=True):
    """What one part of the story took."""

    name: str
    real_s: float
    cpu_s: float  # of this process: on a busy host it says more than the real time
    virtual_s: float
    writes: int  # revisions of the store
    plans: int  # decisions of the controllers and the scheduler
    memory_bytes: int  # the most that this process has held so far

    def __str__(self) -> str:
        rate = self.plans / self.cpu_s if self.cpu_s else 0.0
        return (
            f"{self.name:34} {self.real_s:8.1f} s real {self.cpu_s:8.1f} s CPU {self.virtual_s:8.1f} s virtual {self.writes:9,} writes"
            f" {self.plans:9,} decisions ({rate:7,.0f}/s) {self.memory_bytes / (1 << 20):7,.0f} MiB"
        )


def measure(seed: int, settings: ScaleSettings, note: Callable[[Phase], None] = lambda _phase: None) -> list[Phase]:
    """Play the story, and tell each phase as it ends. Raises LabctlError if the wanted state is not reached in time."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        return run(_measure(seed, settings, note))
    finally:
        gc.set_threshold(*thresholds)


async def _measure(seed: int, settings: ScaleSettings, note: Callable[[Phase], None]) -> list[Phase]:
    scale = _Scale(seed, settings, note)
    await scale.begin()
    try:
        await scale.nodes_register()
        await scale.pods_start()
        await scale.nodes_die()
    finally:
        await scale.end()
    return scale.phases


class _Scale:
    """One run of the story."""

    def __init__(self, seed: int, settings: ScaleSettings, note: Callable[[Phase], None]) -> None:
        self.phases: list[Phase] = []
        self._settings = settings
        self._note = note
        self._rng = Random(seed)
        self._world = World(
            seed,
            HollowSettings(told_s=TOLD_S, cpu="32", memory="256Gi", pods=110),
            proxies=COMPILED_FOR,
            machines=settings.nodes,
            lines=LINES,
        )
        self._compaction: asyncio.Task[None] | None = None
        self._sizes = [min(settings.replicas, settings.pods - at) for at in range(0, settings.pods, settings.replicas)]
        self._wanted = settings.pods

    async def begin(self) -> None:
        self._compaction = asyncio.create_task(self._compact())

    async def end(self) -> None:
        if self._compaction is not None:
            self._compaction.cancel()
            with suppress(asyncio.CancelledError):
                await self._compaction
        await self._world.stop()

    async def nodes_register(self) -> None:
        async def work() -> None:
            await self._world.start(self._settings.nodes)
            await self._until("every node is Ready", lambda: self._ready_nodes() == self._settings.nodes)

        await self._phase(f"{self._settings.nodes:,} nodes register", work)

    async def pods_start(self) -> None:
        async def work() -> None:
            client = self._world.client
            for number, replicas in enumerate(self._sizes):
                name = f"set-{number}"
                await client.create("services", objects.service(name, {"name": name}))
                await client.create("deployments.apps", objects.deployment(name, replicas))
            await self._until("every pod is ready", self._all_ready)

        await self._phase(f"{self._wanted:,} pods start", work)

    async def nodes_die(self) -> None:
        names = sorted(self._world.fleet.nodes)
        dead = self._rng.sample(names, max(1, len(names) // 10))

        async def work() -> None:
            ends = [asyncio.create_task(self._world.power_off(name)) for name in dead]
            await asyncio.gather(*ends)
            await self._until("every pod is ready again", self._all_ready)

        await self._phase(f"{len(dead):,} nodes die at once", work)

    # -- helpers -----------------------------------------------------------------------------------------------------------------------

    def _ready_nodes(self) -> int:
        return sum(node.ready and not node.spec.taints for node in self._world.runner.view.all("nodes"))

    def _all_ready(self) -> bool:
        view = self._world.runner.view
        ready = sum(each.status.ready_replicas for each in view.all("deployments.apps"))
        running = sum(len(node.running) for node in self._world.fleet.nodes.values())
        if ready != self._wanted or running != self._wanted or not self._rules_written():
            return False
        return sum(len(piece.endpoints) for piece in view.all("endpointslices.discovery.k8s.io")) >= self._wanted

    def _rules_written(self) -> bool:
        return self._world.proxy is None or self._world.proxy.idle

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        end = self._world.clock.now() + self._settings.within_s
        while not holds():
            if self._world.clock.now() > end:
                raise LabctlError(f"after {self._settings.within_s:.0f} virtual seconds it does not hold that {what}")
            await asyncio.sleep(0.5)

    async def _phase(self, name: str, work: Callable[[], object]) -> None:
        world = self._world
        before = (time.perf_counter(), time.process_time(), world.clock.now(), world.store.revision, world.runner.plans)
        await work()  # type: ignore[misc]
        await world.runner.told()  # else the next phase would pay for this one's Events
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        after = (time.perf_counter(), time.process_time(), world.clock.now(), world.store.revision, world.runner.plans)
        real_s, cpu_s, virtual_s, writes, plans = (now - then for now, then in zip(after, before, strict=True))
        self.phases.append(Phase(name, real_s, cpu_s, virtual_s, int(writes), int(plans), memory))
        self._note(self.phases[-1])

    async def _compact(self) -> None:
        """Forget old history, as a master does. By revisions: thousands of them may come while virtual time stands still."""
        store = self._world.store
        due = store.revision + COMPACT_EVERY
        async for batch in store.watch("", store.revision):
            if batch.revision >= due and (target := store.compaction_target):  # a batch may have many revisions
                due = batch.revision + COMPACT_EVERY
                await store.compact(target)
