"""Liveness: every ReplicationController has the pods that it wants; they are ready, and really run."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.client import Client
from labctl.sim.fleet import Fleet


def unmet(client: Client, fleet: Fleet) -> Iterator[str]:
    pods = client.list("pods")
    running = fleet.running()
    for rc in client.list("replicationcontrollers"):
        uid, name, wanted = rc.metadata.uid, rc.metadata.key, rc.spec.replicas
        mine = [pod for pod in pods if pod.metadata.controller and pod.metadata.controller.uid == uid]
        ready = [pod for pod in mine if pod.active and pod.ready]
        really = [pod for pod in ready if [node.name for node in running.get(pod.metadata.key, ())] == [pod.spec.node_name]]
        if not len(mine) == len(ready) == len(really) == wanted:
            yield f"rc {name} wants {wanted}: {len(mine)} pods exist, {len(ready)} are ready, {len(really)} of these really run"
        if rc.status.replicas != wanted or rc.status.ready_replicas != wanted:
            yield f"rc {name} says {rc.status.replicas} replicas, {rc.status.ready_replicas} ready, and wants {wanted}"


def astray(client: Client, fleet: Fleet) -> Iterator[str]:
    """Yield what runs although the API has no such pod there."""
    wanted = {(pod.metadata.uid, pod.spec.node_name) for pod in client.list("pods")}
    for name, node in sorted(fleet.nodes.items()):
        for uid, pod in sorted(node.running.items()):
            if (uid, name) not in wanted:
                yield f"pod {pod.key} runs on {name}, and the API knows nothing of it"
