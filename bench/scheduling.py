"""How long 1,000 pods take until all are bound over 100 nodes: a whole world in this process (API, controllers, scheduler, hollow nodes), on a virtual clock.

Time is the CPU time that this process took, from the first Deployment's creation to the last binding, so it holds everything: making the pods, planning,
writing, and starting the first of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from bench.figures import Report
from labctl.sim.clock import run
from labctl.sim.objects import deployment
from labctl.sim.world import World

NODES, SETS, REPLICAS = 100, 10, 100
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
ROUNDS = 3


def plain(_name: str) -> Mapping[str, Any]:
    return {}


def anti_affinity(name: str) -> Mapping[str, Any]:
    term = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"name": name}}}
    return {"affinity": {"podAntiAffinity": {REQUIRED: [term]}}}


def spread(name: str) -> Mapping[str, Any]:
    selector = {"matchLabels": {"name": name}}
    keys = ((HOST, "DoNotSchedule"), (ZONE, "ScheduleAnyway"))
    return {
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector} for key, when in keys
        ]
    }


SHAPES = {"bind-plain": plain, "bind-anti-affinity": anti_affinity, "bind-spread": spread}


def measure(report: Report) -> None:
    for _ in range(ROUNDS):
        for key, shape in SHAPES.items():
            report.add(key, run(_bound(shape)))


async def _bound(shape: Any) -> float:
    world = World(1)
    await world.start(NODES)
    await world.calm(60)
    for number, node in enumerate(world.client.list("nodes")):
        await world.client.patch("nodes", node.metadata.name, {"metadata": {"labels": {ZONE: f"zone-{number % 3}"}}})
    begun = time.process_time()
    for number in range(SETS):
        made = deployment(f"set-{number}", REPLICAS)
        made["spec"]["template"]["spec"] |= shape(f"set-{number}")
        await world.client.create("deployments.apps", made)
    while sum(bool(pod.spec.node_name) for pod in world.client.list("pods")) < SETS * REPLICAS:
        await asyncio.sleep(0.1)
    took = time.process_time() - begun
    await world.stop()
    return took
