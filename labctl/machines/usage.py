"""Usage: how much CPU and memory minions and their containers use, asked of the minions over SSH when somebody wants to know.

Who calls it: the API for `kubectl top` (metrics.k8s.io), the autoscaler's controller, which reads what is known. A minion is asked at most once in 15 s, and by
nobody while nobody asks; a HorizontalPodAutoscaler asks all the time. A rate needs two readings, so the first answer takes a second longer.
A minion speaks for its own pods only: who reads finds a pod's reading on the node that the pod is bound to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import msgspec

from labctl.clock import Clock
from labctl.errors import RemoteError
from labctl.remote.interface import Remote
from labctl.remote.wire import answered
from labctl.resources.client import Client
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.plurals import AUTOSCALERS, NODES
from labctl.resources.usage import ContainerUse, NodeUse

log = logging.getLogger(__name__)

EVERY_S = 15.0  # metrics-server's resolution
FIRST_WINDOW_S = 1.0
FORGOTTEN_S = 60.0  # a reading that is older says nothing of now
ASK_S = 5.0
NODES_AT_ONCE = 20
PODS_MAX, CONTAINERS_MAX = 5000, 200  # of one minion, of one pod

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class Used(msgspec.Struct, frozen=True):
    """One counter of CPU time and the memory of a moment, as the helper says them."""

    cpu_ns: Count
    memory_bytes: Count


class Answer(msgspec.Struct, frozen=True):
    at_s: float
    machine: Used
    pods: Annotated[dict[str, Annotated[dict[str, Used], msgspec.Meta(max_length=CONTAINERS_MAX)]], msgspec.Meta(max_length=PODS_MAX)] = {}


class _Minion:
    """The last two answers of one minion, of one boot."""

    def __init__(self) -> None:
        self.before: Answer | None = None
        self.now: Answer | None = None
        self.seen_s = float("-inf")  # monotonic, of the last answer
        self.use: NodeUse | None = None
        self.asking = asyncio.Lock()


class Usage:
    """The readings of all minions. `node` reads what is known; `refresh` asks those whose reading is old."""

    def __init__(self, remote: Remote, client: Client, clock: Clock) -> None:
        self._remote = remote
        self._client = client
        self._clock = clock
        self._minions: dict[str, _Minion] = {}
        self._slots = asyncio.Semaphore(NODES_AT_ONCE)

    def node(self, name: str) -> NodeUse | None:
        minion = self._minions.get(name)
        if minion is None or self._clock.now() - minion.seen_s > FORGOTTEN_S:
            return None
        return minion.use

    async def refresh(self, names: Iterable[str] | None = None) -> None:
        """Asks these minions (None: all nodes) that were not asked for a while. One that does not answer keeps its older reading until it is forgotten."""
        there = {node.metadata.name for node in self._client.list(NODES) if isinstance(node, Node)}
        for gone in self._minions.keys() - there:
            del self._minions[gone]
        wanted = there if names is None else there & set(names)
        await asyncio.gather(*(self._refresh(name) for name in sorted(wanted)))

    async def keep_fresh(self) -> None:
        """Runs until it is cancelled: as long as there are autoscalers, minions are asked regularly."""
        while True:
            if any(True for _ in self._client.list(AUTOSCALERS)):
                await self.refresh()
            await asyncio.sleep(EVERY_S)

    async def _refresh(self, name: str) -> None:
        minion = self._minions.setdefault(name, _Minion())
        async with minion.asking:
            if self._clock.now() - minion.seen_s < EVERY_S and minion.use is not None:
                return
            async with self._slots:
                if not await self._ask(name, minion):
                    return
            if minion.use is None:
                await asyncio.sleep(FIRST_WINDOW_S)
                await self._ask(name, minion)

    async def _ask(self, name: str, minion: _Minion) -> bool:
        if not self._remote.connected(name):
            return False
        try:
            said = answered(name, "usage", await self._remote.call(name, "usage", {}, deadline_s=ASK_S), Answer)
        except RemoteError as error:
            log.info("%s does not say what it uses: %s", name, error)
            return False
        minion.before, minion.now = minion.now, said
        if minion.before is not None and said.at_s <= minion.before.at_s:
            minion.before = None  # it was booted anew
        if minion.before is not None and said.at_s - minion.before.at_s > FORGOTTEN_S * 2:
            minion.before = None
        minion.seen_s = self._clock.now()
        minion.use = _rates(minion.before, said, self._clock.wall) if minion.before is not None else None
        return True


def _rates(before: Answer, now: Answer, wall: Callable[[], float]) -> NodeUse:
    window_s = now.at_s - before.at_s
    pods = {uid: _containers(before.pods.get(uid, {}), used, window_s) for uid, used in now.pods.items()}
    return NodeUse(wall(), window_s, _rate(before.machine, now.machine, window_s), {uid: used for uid, used in pods.items() if used})


def _containers(before: Mapping[str, Used], now: Mapping[str, Used], window_s: float) -> dict[str, ContainerUse]:
    """Containers that were there at both readings; one that was restarted in between counts from nothing."""
    return {name: _rate(before[name], used, window_s) for name, used in now.items() if name in before}


def _rate(before: Used, now: Used, window_s: float) -> ContainerUse:
    spent_ns = now.cpu_ns - before.cpu_ns if now.cpu_ns >= before.cpu_ns else now.cpu_ns
    return ContainerUse(max(0, int(spent_ns / window_s)), max(0, now.memory_bytes), now.cpu_ns)
