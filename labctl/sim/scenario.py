"""A scenario: one seed, one run of a world. First everything that may go wrong does, and safety must hold; then all faults are repaired,
and the wanted state must be reached.

    outcome = play(42)
    assert not outcome.wrong, outcome.story()

Tests use it with many seeds. A seed that fails is printed, and fails in the same way when it is run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from labctl.controllers.settings import ControllerSettings
from labctl.errors import LabctlError
from labctl.journal import Line
from labctl.sim import objects
from labctl.sim.clock import run
from labctl.sim.settings import HollowSettings, ScenarioSettings
from labctl.sim.world import World

HASTY = ControllerSettings(lease_grace_s=25.0, eviction_s=30.0)  # short times, so that more happens in one run


class Outcome(msgspec.Struct, frozen=True):
    """The result. `wrong` is what broke safety, or is still not as it should be after the calm; the journal tells how it came to that."""

    seed: int
    wrong: list[str]
    calm_s: float
    journal: list[Line]

    def story(self, lines: int = 60) -> str:
        told = [f"{line.t:9.3f} {line.room:28} {line.about:48} {line.text}" for line in self.journal[-lines:]]
        return "\n".join([f"seed {self.seed}:", *self.wrong, "its last lines:", *told])


def play(seed: int, settings: ScenarioSettings = ScenarioSettings(), hollow: HollowSettings = HollowSettings()) -> Outcome:  # noqa: B008
    return run(_play(seed, settings, hollow))


async def _play(seed: int, settings: ScenarioSettings, hollow: HollowSettings) -> Outcome:
    world = World(seed, hollow, HASTY)
    await world.start(settings.nodes)
    people = People(world, settings)
    await people.begin()
    for _ in range(settings.steps):
        await asyncio.sleep(world.rng.uniform(*settings.step_s))
        await people.do_something()
    await people.heal()
    healed_at = world.clock.now()
    problems = await world.calm(settings.calm_s)
    calm_s = world.clock.now() - healed_at
    journal = list(world.journal.lines)
    await world.stop()
    return Outcome(seed, [*world.wrong, *problems], calm_s, journal)


class People:
    """The people who use the lab and those who break it: one action at a time, drawn from the world's seed."""

    def __init__(self, world: World, settings: ScenarioSettings) -> None:
        self._world = world
        self._settings = settings
        self._bare = 0
        self._deeds: list[Callable[[], Awaitable[None]]] = [
            self._scale,
            self._scale,
            self._delete_pod,
            self._run_bare_pod,
            self._toggle_power,
            self._toggle_power,
            self._toggle_silence,
            self._cordon_or_not,
            self._restart_master,
            self._toggle_disk,
            self._jump_clock,
        ]

    async def begin(self) -> None:
        client = self._world.client
        for name, replicas in (("web", 3), ("db", 2)):
            await client.create("replicationcontrollers", objects.replication_controller(name, replicas))
            await client.create("services", objects.service(name, {"name": name}))

    async def do_something(self) -> None:
        deed = self._world.rng.choice(self._deeds)
        try:
            await deed()
        except LabctlError as error:  # people see such errors while the disk fails
            self._note(f"was refused: {error}")

    async def heal(self) -> None:
        world = self._world
        self._note("everything is healed")
        world.engine.fail = world.engine.delay_s = 0.0
        for name, node in world.fleet.nodes.items():
            if not node.powered:
                await world.power_on(name)
            if not node.heard:
                node.speak_again()
            await world.client.patch("nodes", name, {"spec": {"unschedulable": None}})

    # -- actions -----------------------------------------------------------------------------------------------------------------------

    async def _scale(self) -> None:
        name, replicas = self._world.rng.choice(("web", "db")), self._world.rng.randrange(9)
        self._note(f"scales {name} to {replicas}")
        await self._world.client.patch("replicationcontrollers", f"default/{name}", {"spec": {"replicas": replicas}})

    async def _delete_pod(self) -> None:
        pods = self._world.client.list("pods")
        if pods:
            key = self._world.rng.choice(pods).metadata.key
            self._note(f"deletes pod {key}")
            await self._world.client.delete("pods", key)

    async def _run_bare_pod(self) -> None:
        """Run a pod without a controller; sometimes one that a controller adopts and then finds to be too many.

        It has one of few names, so that names come again.
        """
        self._bare = self._bare % 3 + 1
        labels = {"name": "web"} if self._world.rng.random() < 0.5 else {}
        self._note(f"runs pod bare-{self._bare} {labels or ''}")
        await self._world.client.create("pods", objects.pod(f"bare-{self._bare}", labels=labels))

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
        seconds = self._world.rng.uniform(-600, 600)
        self._note(f"the wall clock jumps by {seconds:.0f} s")
        self._world.clock.jump(seconds)

    def _any_node(self) -> str:
        return self._world.rng.choice(sorted(self._world.fleet.nodes))

    def _note(self, text: str) -> None:
        self._world.journal.note("sim", "people", text)
