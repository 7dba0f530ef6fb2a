"""Requests on virtual time: each goes through the rules of its minion, as they are then, and ends where they lead.

A request to a pod that runs is answered after a millisecond. One to an address on a machine that runs, where no pod has it or a container of the pod is dead, is
refused; one to a container that was stopped, or to a machine that is off, cut off or stands still, is waited for until its timeout. Nothing is modelled of how busy a pod is.
"""

from __future__ import annotations

import asyncio
from typing import Any

from labctl.experiments.stage import LoadRequest
from labctl.measure.records import Measurement, Outcome, Request, Source
from labctl.proxy.matches import Packet
from labctl.proxy.matches import World as PacketWorld
from labctl.proxy.tracer import Tables, trace
from labctl.sim.world import World

ANSWER_S = 0.001
CLIENT = "10.200.0.77"  # an address that is no endpoint


class Load:
    """Sends requests until it is stopped, at the stated rate from each source."""

    def __init__(self, world: World, request: LoadRequest) -> None:
        self._world, self._request = world, request
        self._sources = request.sources or ("host",)
        self._requests: list[Request] = []
        self._waiting: set[asyncio.Task[None]] = set()
        self._tables: dict[str, tuple[Any, int, Tables]] = {}
        self._packets = PacketWorld(frozenset(), world.rng)
        self._began_s, self._began_at = world.clock.now(), world.clock.wall()
        self._task = asyncio.get_running_loop().create_task(self._send())

    async def stop(self) -> Measurement:
        """End it, wait for what is under way, and return every request."""
        self._task.cancel()
        if self._waiting:
            await asyncio.wait(set(self._waiting))
        sources = tuple(Source(name, sent=sum(each.source == name for each in self._requests)) for name in self._sources)
        return Measurement(
            target=self._request.target,
            rate=self._request.rate,
            protocol="http",
            keepalive=False,
            began_s=self._began_s,
            ended_s=self._world.clock.now(),
            began_at=self._began_at,
            sources=sources,
            requests=tuple(sorted(self._requests, key=lambda each: each.intended_s)),
        )

    async def _send(self) -> None:
        while True:
            for source in self._sources:
                task = asyncio.get_running_loop().create_task(self._one(source))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)
            await asyncio.sleep(1 / self._request.rate)

    async def _one(self, source: str) -> None:
        clock, started_s = self._world.clock, self._world.clock.now()
        outcome, pod = self._outcome(source)
        await asyncio.sleep(self._request.timeout_s if outcome == "timeout" else ANSWER_S)
        ok = outcome == "ok"
        self._requests.append(
            Request(
                source=source,
                intended_s=started_s,
                outcome=outcome,
                started_s=started_s,
                connected_s=started_s if ok else 0.0,
                first_byte_s=clock.now() if ok else 0.0,
                ended_s=clock.now(),
                status=200 if ok else 0,
                answered_by=pod.rpartition("/")[2],
            )
        )

    def _outcome(self, source: str) -> tuple[Outcome, str]:
        minion = self._minion(source)
        address = self._address(minion)
        if not address:
            return "refused", ""
        for node in self._world.fleet.nodes.values():
            reached = node.name == minion or self._world.fleet.links.open(minion, node.name)
            for pod in node.running.values():
                if pod.ip == address:
                    if not reached or not node.heard or pod.stopped:
                        return "timeout", ""
                    return ("refused", "") if pod.dead else ("ok", pod.key)
        owner = next((n for n in self._world.fleet.nodes.values() if address.startswith(n.pod_prefix)), None)
        return ("refused" if owner is not None and owner.powered else "timeout"), ""

    def _minion(self, source: str) -> str:
        names = list(self._world.helpers.minions)
        if source.startswith("pod/"):
            pod = self._world.client.get("pods", source.removeprefix("pod/"))
            return pod.spec.node_name if pod is not None else names[0]
        return source if source in names else names[0]

    def _address(self, minion: str) -> str:
        """Return the pod's address that this minion's rules choose for the target, or an empty text if they refuse."""
        service = self._world.client.get("services", self._request.target.removeprefix("service").lstrip(" /"))
        if service is None:
            return ""
        helper = self._world.helpers.minions[minion]
        cached = self._tables.get(minion)
        if cached is None or cached[0] is not helper.tables or cached[1] != helper.changes:
            cached = self._tables[minion] = (helper.tables, helper.changes, Tables.read(helper.dump()))
        port = self._request.port or service.spec.ports[0].port
        end = trace(cached[2], Packet(CLIENT, service.spec.cluster_ip, "tcp", port, "pod"), self._packets)
        return end.packet.destination if end.packet.translated else ""
