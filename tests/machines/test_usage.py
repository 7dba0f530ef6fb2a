"""What minions use: asked over SSH when somebody wants to know, seldom, and of each minion only what concerns it."""

import asyncio

import pytest

from labctl.errors import Unreachable
from labctl.machines.usage import EVERY_S, FORGOTTEN_S, Usage
from labctl.sim.clock import VirtualClock, run


class Minions:
    """The part of Remote that is used. Each minion works at half a core, its pod's container at a quarter."""

    def __init__(self, clock):
        self.clock, self.asked, self.away, self.lies = clock, [], set(), {}

    def connected(self, name):
        return name not in self.away

    async def call(self, name, method, params, *, deadline_s):
        self.asked.append((name, method))
        if name in self.lies:
            if isinstance(self.lies[name], Exception):
                raise self.lies[name]
            return self.lies[name]
        now = self.clock.now()
        pods = {f"uid-{name}": {"c": {"cpu_ns": int(now * 250_000_000), "memory_bytes": 1000}}}
        return {"at_s": now, "machine": {"cpu_ns": int(now * 500_000_000), "memory_bytes": 5000}, "pods": pods}


class Client:
    def __init__(self, *names):
        from labctl.resources.kind import Meta
        from labctl.resources.kinds.core_v1.node import Node

        self.nodes = [Node(metadata=Meta(name=name)) for name in names]

    def list(self, kind):
        return self.nodes if kind == "nodes" else []


def told(story, *names):
    async def live():
        clock = VirtualClock()
        minions = Minions(clock)
        await asyncio.sleep(10)
        await story(Usage(minions, Client(*(names or ("minion-1", "minion-2"))), clock), minions)

    run(live())


def test_the_first_answer_takes_a_second_and_later_ones_none():
    async def story(usage, minions):
        assert usage.node("minion-1") is None and not minions.asked
        began = minions.clock.now()
        await usage.refresh()
        assert minions.clock.now() - began == 1
        read = usage.node("minion-1")
        assert (read.machine.nanocores, read.machine.memory_bytes, read.window_s) == (500_000_000, 5000, 1)
        assert read.pods["uid-minion-1"]["c"].nanocores == 250_000_000
        asked = len(minions.asked)
        await asyncio.gather(*(usage.refresh() for _ in range(100)))
        assert len(minions.asked) == asked, "what is known is not asked again"
        await asyncio.sleep(EVERY_S + 1)
        await usage.refresh(["minion-2", "nobody"])
        assert minions.asked[asked:] == [("minion-2", "usage")]
        assert usage.node("minion-2").window_s == EVERY_S + 1

    told(story)


@pytest.mark.parametrize("lie", [Unreachable("gone"), {}, {"at_s": "now"}, [], {"at_s": 1.0, "machine": {"cpu_ns": -1}}, None])
def test_a_minion_that_does_not_answer_as_it_should_is_alone_with_that(lie):
    async def story(usage, minions):
        await usage.refresh()
        minions.lies["minion-1"] = lie
        await asyncio.sleep(EVERY_S + 1)
        await usage.refresh()
        assert usage.node("minion-1") is not None, "its last reading counts for a while"
        await asyncio.sleep(FORGOTTEN_S - EVERY_S)
        await usage.refresh()
        assert usage.node("minion-1") is None and usage.node("minion-2") is not None

    told(story)


def test_a_minion_that_was_booted_anew_counts_from_there():
    async def story(usage, minions):
        await usage.refresh()
        minions.lies["minion-1"] = {"at_s": 1.0, "machine": {"cpu_ns": 5, "memory_bytes": 1}, "pods": {}}
        await asyncio.sleep(EVERY_S + 1)
        await usage.refresh(["minion-1"])
        assert usage.node("minion-1") is None
        del minions.lies["minion-1"]
        await usage.refresh(["minion-1"])
        assert usage.node("minion-1").machine.nanocores > 0

    told(story, "minion-1")


def test_a_node_that_is_gone_is_forgotten():
    async def story(usage, minions):
        await usage.refresh()
        usage._client.nodes.pop()
        await usage.refresh()
        assert usage.node("minion-2") is None

    told(story)
