"""A fleet: all hollow nodes of a world, and the watches that serve them. One watch serves all, so five thousand nodes are no burden."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from labctl.clock import Clock
from labctl.controllers.peers import peers_of
from labctl.resources.client import Client
from labctl.resources.kinds.core_v1.persistentvolume import PersistentVolume
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.plurals import VOLUMES
from labctl.resources.service import ListOptions
from labctl.sim.containers import Running
from labctl.sim.hollow import HollowNode
from labctl.sim.links import Links
from labctl.sim.settings import HollowSettings


class Fleet:
    """All hollow nodes of a world, and the one watch that serves them.

    `started` is called for every pod that begins to run, `forgotten` for every pod that is deleted from the API while it still runs, and `noted` for what an
    agent reports in Events: did (a word of the journal) and a sentence.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        rng: Random,
        settings: HollowSettings = HollowSettings(),  # noqa: B008 - frozen
        started: Callable[[HollowNode, Running], None] = lambda _node, _pod: None,
        forgotten: Callable[[HollowNode, Running], None] = lambda _node, _pod: None,
        noted: Callable[[HollowNode, Running, str, str], None] = lambda _node, _pod, _did, _text: None,
    ) -> None:
        self.client = client
        self.clock = clock
        self.rng = rng
        self.settings = settings
        self.started = started
        self.forgotten = forgotten
        self.noted = noted
        self.answered = True  # whether there is a master that answers
        self.nodes: dict[str, HollowNode] = {}
        self.links = Links(self._links_changed)
        self.delay: Callable[[], float] | None = None  # how long a renewal takes on its way; None: it arrives at once
        self._peers: dict[str, list[str]] = {}
        self._pods: dict[str, Pod] = {}  # by uid, as watched
        self._watching: list[asyncio.Task[None]] = []

    def start(self, names: list[str]) -> None:
        for number, name in enumerate(names, len(self.nodes)):
            self.nodes[name] = HollowNode(self, name, number)
        self._watching = [asyncio.create_task(self._watch(resource)) for resource in ("pods", "nodes", VOLUMES)]
        for name in names:
            self.nodes[name].power_on()

    async def stop(self) -> None:
        for task in self._watching:
            task.cancel()
        for node in self.nodes.values():
            node.power_off()
        await asyncio.gather(*self._watching, return_exceptions=True)

    def peers(self, name: str) -> list[str]:
        """Return a node's peers: here everybody is on the ring, whether it is ready or not."""
        if name not in self._peers:
            self._peers[name] = peers_of(name, self.nodes, self.settings.peers) if self.settings.peers else []
        return self._peers[name]

    def master_answers(self, answers: bool) -> None:
        """Tell the nodes that the master was killed, or that a new one answers: then they report in."""
        self.answered = answers
        self._links_changed()

    def _links_changed(self) -> None:
        for node in self.nodes.values():
            node.links_changed()

    def pod(self, uid: str) -> Pod | None:
        return self._pods.get(uid)

    def running(self) -> dict[str, list[HollowNode]]:
        """Return, by the pod's key, the nodes on which it really runs."""
        where: dict[str, list[HollowNode]] = {}
        for node in self.nodes.values():
            for pod in node.running.values():
                where.setdefault(pod.key, []).append(node)
        return where

    async def _watch(self, resource: str) -> None:
        resources = self.client.resources
        handlers: dict[str, Callable[[str, Any], None]] = {"pods": self._pod_seen, "nodes": self._node_seen, VOLUMES: self._volume_seen}
        seen = handlers[resource]
        async for events in resources.watch(resources.registry[resource], "", ListOptions()):
            for event in events:
                seen(event.type, resources.view(event.entry))

    def _pod_seen(self, type_: str, pod: Pod) -> None:
        node = self.nodes.get(pod.spec.node_name)
        if type_ == "DELETED":
            self._pods.pop(pod.metadata.uid, None)
            if node is not None:
                if pod.metadata.uid in node.running:
                    self.forgotten(node, node.running[pod.metadata.uid])
                node.pod_gone(pod.metadata.uid)
            return
        self._pods[pod.metadata.uid] = pod
        if node is not None:
            node.pod_seen(pod)

    def _volume_seen(self, type_: str, volume: PersistentVolume) -> None:
        node = self.nodes.get(volume.node_name) if volume.is_local else None
        if node is not None and type_ != "DELETED":
            node.volume_seen(volume)

    def _node_seen(self, type_: str, node: Any) -> None:
        hollow = self.nodes.get(node.metadata.name)
        if hollow is not None:
            hollow.node_seen(None if type_ == "DELETED" else node)
