"""Faults of a simulated lab: what each does to the world, and how it is healed.

The stage of experiments (stage.py) calls it. A master reconciles faults, also here: one whose time ends while there is no master is healed by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from labctl.errors import LabctlError
from labctl.experiments.stage import FaultRequest
from labctl.resources import amounts, faulttypes
from labctl.sim.hollow import HollowNode
from labctl.sim.links import MASTER
from labctl.sim.world import World

CONTAINER_FAULTS = ("kill-container", "stop-container")
FAULTS = ("power-off", "reset", "pause", "cut", "flush-rules", *CONTAINER_FAULTS, "kill-process")


class SimFaults:
    """The faults of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._healing: dict[str, Callable[[], Awaitable[None]]] = {}
        self._overdue: list[str] = []  # faults whose time ended while there was no master

    def refusal(self, fault: FaultRequest) -> str:
        """Return why a fault can't be done here, or an empty text."""
        if fault.type not in FAULTS:
            return f"a simulated lab has no fault {fault.type}; it has {', '.join(FAULTS)}"
        if fault.type in CONTAINER_FAULTS:
            return self._victim(fault.target)[2]
        if fault.type == "kill-process":
            process = fault.parameters.get("process", "master")
            return "" if (fault.target, process) == (MASTER, "master") else f"a simulated lab has no process {process} of {fault.target}"
        if fault.target not in self._world.fleet.nodes:
            return f"there is no machine {fault.target}"
        if fault.direction not in ("", "both"):
            return "simulated links are cut in both directions"
        if fault.peer and fault.peer != MASTER and fault.peer not in self._world.fleet.nodes:
            return f"there is no machine {fault.peer}"
        return ""

    def _victim(self, target: str) -> tuple[HollowNode | None, tuple[str, str], str]:
        """Return the node on which a target's container runs, its pod's uid and its own name, and why there is none. Without a name it is the pod's first."""
        nothing = None, ("", "")
        if faulttypes.form(target) != "pod":
            return *nothing, f"{target} is no pod"
        namespace, name, *rest = target.removeprefix("pod/").split("/")
        pod = self._world.client.get("pods", f"{namespace}/{name}")
        if pod is None:
            return *nothing, f"there is no pod {name} in namespace {namespace}"
        names = [each.name for each in pod.spec.containers]
        container = rest[0] if rest else names[0]
        if container not in names:
            return *nothing, f"pod {name} has no container {container}: it has {', '.join(names)}"
        node = self._world.fleet.nodes.get(pod.spec.node_name)
        there = node.running.get(pod.metadata.uid) if node is not None else None
        if node is None or there is None or container in there.dead:
            return *nothing, f"container {container} of pod {name} does not run"
        return node, (pod.metadata.uid, container), ""

    async def inject(self, fault: FaultRequest) -> str:
        """Break something at once, and return what was done. What follows from it, such as the provider's word, comes later."""
        done = await self._break(fault)
        if fault.duration:
            asyncio.get_running_loop().call_later(amounts.duration(fault.duration), self._is_over, fault.name)
        return done

    async def heal_all(self) -> None:
        for name in list(self._healing):
            await self._heal(name)

    async def heal_overdue(self) -> None:
        overdue, self._overdue = self._overdue, []
        for name in overdue:
            await self._heal(name)

    async def _break(self, fault: FaultRequest) -> str:
        """Carry a fault out, and note how it is healed."""
        world, name = self._world, fault.target
        if fault.type == "kill-process":
            await world.kill_master()
            return "the master was killed"
        if fault.type in CONTAINER_FAULTS:
            return self._break_container(fault)
        node = world.fleet.nodes[name]
        if not node.powered:
            raise LabctlError(f"{fault.name}: {name} is off")
        if fault.type in ("power-off", "reset"):
            asyncio.ensure_future(world.power_off(name))
            await asyncio.sleep(0)
            if fault.type == "reset":
                asyncio.ensure_future(world.power_on(name))
            else:
                self._healing[fault.name] = lambda: world.power_on(name)
            return f"{name} lost its power"
        if fault.type == "flush-rules":
            world.helpers.flush(name)
            return f"the rules of {name} were flushed"
        if fault.type == "pause":
            node.fall_silent()
            self._healing[fault.name] = lambda: _soon(node.speak_again)
            return f"{name} stands still"
        peers = [fault.peer] if fault.peer else [*world.fleet.nodes, MASTER]
        world.fleet.links.cut_between([name], peers)
        self._healing[fault.name] = lambda: _soon(world.fleet.links.heal)
        return f"{name} does not reach {fault.peer or 'anybody'}"

    def _break_container(self, fault: FaultRequest) -> str:
        node, which, why = self._victim(fault.target)
        if node is None:
            raise LabctlError(f"{fault.name}: {why}")
        if fault.type == "kill-container":
            node.containers.kill(*which)
            return f"container {which[1]} was killed on {node.name}"
        node.containers.stop(*which)
        self._healing[fault.name] = lambda: _soon(lambda: node.containers.go_on(*which))
        return f"container {which[1]} was stopped on {node.name}"

    def _is_over(self, name: str) -> None:
        """Heal a fault whose time has ended. Without a master nobody does; the next one finds it overdue."""
        if self._world.master_answers:
            asyncio.ensure_future(self._heal(name))
        else:
            self._overdue.append(name)

    async def _heal(self, name: str) -> None:
        healing = self._healing.pop(name, None)
        if healing is not None:
            await healing()


async def _soon(work: Callable[[], None]) -> None:
    work()
