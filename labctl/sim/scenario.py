"""A scenario: one seed, one run of a world. First everything that may go wrong does, and safety must hold; then all faults are repaired,
and the wanted state must be reached.

    outcome = play(42)
    assert not outcome.wrong, outcome.story()

Tests and `labctl sim` use it with many seeds. A seed that fails is made smaller (shrink.py), printed, and fails in the same way when it is run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from labctl import defaults
from labctl.controllers.settings import ControllerSettings
from labctl.errors import LabctlError
from labctl.journal import Line
from labctl.sim import objects, script
from labctl.sim.clock import run
from labctl.sim.links import MASTER
from labctl.sim.script import Case, Deed
from labctl.sim.settings import LAB_NODES, HollowSettings, ScenarioSettings
from labctl.sim.world import World

SETS = "statefulsets.apps"
HASTY = ControllerSettings(lease_grace_s=25.0, eviction_s=30.0)  # short times, so that more happens in one run
_LAB = defaults.TIMINGS["lab"]
LAB = ControllerSettings(
    lease_s=_LAB.lease_s,
    lease_grace_s=_LAB.grace_s,
    eviction_s=_LAB.evict_s,
    peers=_LAB.peers,
    eviction_rate=_LAB.rate,
    eviction_slow_rate=_LAB.slow_rate,
)
"""Controllers with the timing of a lab."""


class Outcome(msgspec.Struct, frozen=True):
    """The result. `wrong` is what broke safety, or is still not as it should be after the calm; the journal tells how it came to that."""

    seed: int
    wrong: list[str]
    calm_s: float
    journal: list[Line]
    case: Case

    def story(self, lines: int = 60) -> str:
        told = [f"{line.t:9.3f} {line.room:28} {line.about:48} {line.text}" for line in self.journal[-lines:]]
        deeds = " ".join(map(str, self.case.deeds))
        return "\n".join(
            [f"seed {self.seed}, {self.case.nodes} nodes, {len(self.case.deeds)} deeds: {deeds}", *self.wrong, "its last lines:", *told]
        )


def play(
    seed: int,
    settings: ScenarioSettings = ScenarioSettings(),  # noqa: B008 - frozen
    hollow: HollowSettings | None = None,
) -> Outcome:
    """Play the run that a seed stands for."""
    return play_case(script.case(seed, settings), settings, hollow)


def play_case(case: Case, settings: ScenarioSettings = ScenarioSettings(), hollow: HollowSettings | None = None) -> Outcome:  # noqa: B008 - frozen
    """Play a run whose deeds were chosen before."""
    return run(_play(case, settings, hollow or (LAB_NODES if case.lab_timing else HollowSettings())))


async def _play(case: Case, settings: ScenarioSettings, hollow: HollowSettings) -> Outcome:
    world = World(case.seed, hollow, LAB if case.lab_timing else HASTY, proxies=settings.proxies)
    await world.start(case.nodes)
    people = People(world, settings)
    await people.begin()
    for deed in case.deeds:
        await asyncio.sleep(deed.after_s)
        await people.do(deed)
    await people.heal()
    healed_at = world.clock.now()
    problems = await world.calm(settings.calm_s)
    calm_s = world.clock.now() - healed_at
    problems += world.lost()
    journal = list(world.journal.lines)
    await world.stop()
    return Outcome(case.seed, [*world.wrong, *problems], calm_s, journal, case)


class People:
    """The people who use the lab and those who break it: one deed at a time, whose choices are drawn from its own number."""

    def __init__(self, world: World, settings: ScenarioSettings) -> None:
        self._world = world
        self._settings = settings
        self._bare = 0
        self._rng = Random(0)
        self._deeds: dict[str, Callable[[], Awaitable[None]]] = {
            "scale": self._scale,
            "scale-set": self._scale_set,
            "delete-pod": self._delete_pod,
            "run-bare-pod": self._run_bare_pod,
            "power": self._toggle_power,
            "silence": self._toggle_silence,
            "cut": self._toggle_cut,
            "partition": self._partition,
            "heal-links": self._heal_links,
            "cordon": self._cordon_or_not,
            "restart-master": self._restart_master,
            "disk": self._toggle_disk,
            "clock": self._jump_clock,
            "flush-rules": self._flush_rules,
        }

    async def begin(self) -> None:
        client = self._world.client
        for name, replicas in (("web", 3), ("db", 2)):
            await client.create("replicationcontrollers", objects.replication_controller(name, replicas))
            await client.create("services", objects.service(name, {"name": name}))
        await client.create("statefulsets.apps", objects.stateful_set("one", 1))

    async def do(self, deed: Deed) -> None:
        """Do a deed."""
        self._rng = Random(deed.number)
        try:
            await self._deeds[deed.what]()
        except LabctlError as error:  # people see such errors while the disk fails
            self._note(f"was refused: {error}")

    async def heal(self) -> None:
        world = self._world
        self._note("everything is healed")
        world.engine.fail = world.engine.delay_s = 0.0
        world.fleet.links.heal()
        for name, node in world.fleet.nodes.items():
            if not node.powered:
                await world.power_on(name)
            if not node.heard:
                node.speak_again()
            if world.client.get("nodes", name) is not None:
                await world.client.patch("nodes", name, {"spec": {"unschedulable": None}})

    # -- actions -----------------------------------------------------------------------------------------------------------------------

    async def _scale(self) -> None:
        name, replicas = self._rng.choice(("web", "db")), self._rng.randrange(9)
        self._note(f"scales {name} to {replicas}")
        written = await self._world.client.patch("replicationcontrollers", f"default/{name}", {"spec": {"replicas": replicas}})
        self._world.told.note("replicationcontrollers", written)

    async def _scale_set(self) -> None:
        replicas = self._rng.randrange(3)
        self._note(f"scales set one to {replicas}")
        self._world.told.note(SETS, await self._world.client.patch(SETS, "default/one", {"spec": {"replicas": replicas}}))

    async def _delete_pod(self) -> None:
        pods = self._world.client.list("pods")
        if pods:
            key = self._rng.choice(pods).metadata.key
            self._note(f"deletes pod {key}")
            await self._world.client.delete("pods", key)

    async def _run_bare_pod(self) -> None:
        """Run a pod without a controller; sometimes one that a controller adopts and then finds to be too many.

        It has one of few names, so that names come again.
        """
        self._bare = self._bare % 3 + 1
        labels = {"name": "web"} if self._rng.random() < 0.5 else {}
        self._note(f"runs pod bare-{self._bare} {labels or ''}")
        written = await self._world.client.create("pods", objects.pod(f"bare-{self._bare}", labels=labels))
        self._world.told.note("pods", written)

    async def _toggle_power(self) -> None:
        name = self._any_node()
        await (self._world.power_off(name) if self._world.fleet.nodes[name].powered else self._world.power_on(name))

    async def _toggle_silence(self) -> None:
        name = self._any_node()
        node = self._world.fleet.nodes[name]
        if node.powered:
            self._note(f"{name} {'falls silent' if node.heard else 'speaks again'}")
            if node.heard:
                node.fall_silent()
            else:
                node.speak_again()

    async def _toggle_cut(self) -> None:
        name = self._any_node()
        cut = self._world.fleet.links.open(name, MASTER)
        self._note(f"{name} is {'cut off' if cut else 'connected again'}")
        (self._world.fleet.links.cut if cut else self._world.fleet.links.restore)(name)

    async def _partition(self) -> None:
        names = sorted([*self._world.fleet.nodes, MASTER])
        self._rng.shuffle(names)
        at = self._rng.randrange(1, len(names))
        self._note(f"the network parts: {' '.join(sorted(names[:at]))} | {' '.join(sorted(names[at:]))}")
        self._world.fleet.links.cut_between(names[:at], names[at:])

    async def _heal_links(self) -> None:
        self._note("all links are open again")
        self._world.fleet.links.heal()

    async def _flush_rules(self) -> None:
        names = sorted(name for name, helper in self._world.helpers.minions.items() if helper.connected)
        if names:
            name = self._rng.choice(names)
            self._note(f"flushes the rules of {name}")
            self._world.helpers.flush(name)

    async def _cordon_or_not(self) -> None:
        name = self._any_node()
        node = self._world.client.get("nodes", name)
        if node is not None:
            self._note(f"{'uncordons' if node.spec.unschedulable else 'cordons'} {name}")
            await self._world.client.patch("nodes", name, {"spec": {"unschedulable": None if node.spec.unschedulable else True}})

    async def _restart_master(self) -> None:
        self._note("the master is restarted")
        await self._world.restart_master()

    async def _toggle_disk(self) -> None:
        engine = self._world.engine
        ill = engine.fail > 0
        self._note("the disk is well again" if ill else "the disk is ill")
        engine.fail = 0.0 if ill else self._settings.store_fail
        engine.delay_s = 0.0 if ill else self._settings.store_delay_s

    async def _jump_clock(self) -> None:
        seconds = self._rng.uniform(-600, 600)
        self._note(f"the wall clock jumps by {seconds:.0f} s")
        self._world.clock.jump(seconds)

    def _any_node(self) -> str:
        return self._rng.choice(sorted(self._world.fleet.nodes))

    def _note(self, text: str) -> None:
        self._world.journal.note("sim", "people", text)
