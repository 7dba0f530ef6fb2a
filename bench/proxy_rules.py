"""The proxy on two real minions (network namespaces, the real helper, no SSH): full sync, one more Service, a flush, idle cost. Needs root.

python bench/proxy_rules.py [--services 100,1000] [--flavour nft,legacy] [--mode iptables] [-o json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from labctl.proxy.settings import ProxySettings  # noqa: E402
from tests.minions import Minions  # noqa: E402
from tests.programming import World  # noqa: E402

CHANGES = 15
IDLE_S = 10.0


async def make_services(world: World, count: int, first: int = 0) -> None:
    async def one(number: int) -> None:
        await world.service(f"s{number}")
        await world.endpoints(f"s{number}", *pods(number))

    for begin in range(first, first + count, 50):
        await asyncio.gather(*(one(n) for n in range(begin, min(begin + 50, first + count))))


def pods(number: int) -> list[tuple[str, str, str]]:
    host = number % 250 + 2
    return [(f"a{number}", f"10.246.1.{host}", "minion-1"), (f"b{number}", f"10.246.2.{host}", "minion-2")]


async def until(condition: Callable[[], bool]) -> float:
    """Milliseconds until it holds."""
    began = time.perf_counter()
    while not condition():
        await asyncio.sleep(0.0005)
    return (time.perf_counter() - began) * 1000


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # with its children: iptables


async def measure(flavour: str, mode: str, count: int) -> dict[str, Any]:
    minions = Minions()
    world = World(ProxySettings(flavour=flavour, mode=mode), minions)
    try:
        await world.start()
        await make_services(world, count)
        await world.until(lambda: len(world.proxy.table) >= count, deadline_s=60)
        full = []
        for number in (1, 2):
            await world.minion(number)
            full.append(await until(lambda: world.runner.idle and world.proxy.idle))
        changes = []
        for number in range(CHANGES):
            began = time.perf_counter()
            await world.service(f"new{number}")
            await world.endpoints(f"new{number}", *pods(number))
            await until(lambda: world.proxy.idle and world.runner.idle)
            changes.append((time.perf_counter() - began) * 1000)
        helper = minions.helpers["minion-1"].process.pid
        before = cpu_s(helper)
        await asyncio.sleep(IDLE_S)
        idle = (cpu_s(helper) - before) / IDLE_S * 100
        repaired = asyncio.Event()
        original = world.proxy._recorder.record

        def tell_repaired(*event: Any) -> None:
            repaired.set()
            original(*event)

        world.proxy._recorder.record = tell_repaired  # type: ignore[method-assign,assignment]
        minions.nodes["minion-1"].run(f"iptables-{flavour}", "-t", "nat", "-F")
        began = time.perf_counter()
        await repaired.wait()
        repair = (time.perf_counter() - began) * 1000
        await world.stop()
    finally:
        await minions.close()
    return {
        "flavour": flavour,
        "mode": mode,
        "services": count,
        "full sync of one minion ms": round(min(full), 1),
        "one more Service on both ms p50": round(statistics.median(changes), 1),
        "one more Service on both ms max": round(max(changes), 1),
        "flush repaired ms": round(repair, 1),
        "helper idle CPU %": round(idle, 2),
    }


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--services", default="100,1000")
    parser.add_argument("--flavour", default="nft,legacy")
    parser.add_argument("--mode", default="iptables")
    parser.add_argument("-o", dest="output", default="text")
    arguments = parser.parse_args()
    for flavour in arguments.flavour.split(","):
        for count in map(int, arguments.services.split(",")):
            found = await measure(flavour, arguments.mode, count)
            print(json.dumps(found) if arguments.output == "json" else "  ".join(f"{k} {v}" for k, v in found.items()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
