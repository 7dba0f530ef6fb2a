"""Announcer: for each address of a Service of type LoadBalancer, one ready minion answers in the lab's network (as MetalLB's layer 2 mode does).

    runner ══ Services, slices, Nodes ══► seen ─► who announces what ─► worker of each minion ─► helper `announce`

A minion is chosen by a hash of the address and its name, so that the death of one moves only what it announced. With externalTrafficPolicy Local only
minions with endpoints of their own count. The minion has the address on its link to the lab, and tells everybody; the proxy's rules on it do the rest.
It also answers the health check ports of such Services on every minion, with the number of its own endpoints.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from labctl.clock import Clock
from labctl.errors import Unreachable
from labctl.journal import Journal
from labctl.reconcile.plan import Index, Seen, View
from labctl.reconcile.workers import Workers
from labctl.remote.interface import Remote
from labctl.remote.wire import answered, printable
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.plurals import NODES, SERVICES, SLICES
from labctl.supervisor import Supervisor

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
SLICES_BY_SERVICE = "announce-service"
BALANCED = "announced"
CALL_S = 20.0


class Health(msgspec.Struct, frozen=True):
    """One health check port, and what it answers."""

    port: int
    service: str  # namespace/name
    local: int


class Orders(msgspec.Struct, frozen=True):
    """What one minion is to have: the whole of it each time."""

    address: str
    range: str
    addresses: tuple[str, ...] = ()
    health: tuple[Health, ...] = ()


Texts = Annotated[tuple[str, ...], msgspec.Meta(max_length=500)]


class AnnounceAnswer(msgspec.Struct, frozen=True):
    added: Texts = ()
    removed: Texts = ()
    trouble: Texts = ()


class Announcer:
    name = "announcer"

    def __init__(self, remote: Remote, journal: Journal, clock: Clock, range_: str, supervisor: Supervisor | None = None) -> None:
        self._supervisor = supervisor or Supervisor(clock, journal)
        self._remote = remote
        self._journal = journal
        self._range = range_
        self._nodes: dict[str, Node] = {}
        self._view: View | None = None
        self._orders: dict[str, Orders] = {}
        self._sent: dict[str, Orders] = {}  # what each minion confirmed
        self._settling: asyncio.Handle | None = None
        self._failing: set[str] = set()
        self._workers = Workers(self._work, clock, self._failed)

    async def start(self) -> None:
        self._workers.start()

    async def stop(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
        await self._workers.stop()

    @property
    def idle(self) -> bool:
        return self._settling is None and self._workers.idle

    def announcing(self, address: str) -> str:
        """Return the minion that must answer this address, or ""."""
        return next((name for name, orders in self._orders.items() if address in orders.addresses), "")

    # -- the Observer protocol

    follows = (SERVICES, SLICES, NODES)
    indexes: Mapping[tuple[str, str], Index] = {
        (SERVICES, BALANCED): lambda service: (BALANCED,) if _announced(service) else (),
        (SLICES, SLICES_BY_SERVICE): lambda one: (f"{one.metadata.namespace}/{one.service}",) if one.service else (),
    }

    def seen(self, view: View, change: Seen) -> None:
        if not self._range:
            return
        if change.kind == NODES:
            if not self._node_seen(change):
                return
        elif change.kind == SERVICES:
            if not any(one is not None and _announced(one) for one in (change.old, change.new)):
                return
        elif not self._concerns(view, change):
            return
        self._view = view
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_soon(self._settle)

    def _node_seen(self, change: Seen) -> bool:
        """Tell whether the change matters: the minion came or went, or may or may not announce now."""
        old, new = self._nodes.get(change.key), change.new
        if new is None:
            self._nodes.pop(change.key, None)
            self._sent.pop(change.key, None)
            return old is not None
        self._nodes[change.key] = new
        booted = old is not None and old.status.node_info.boot_id != new.status.node_info.boot_id
        if booted:
            self._sent.pop(change.key, None)
        return booted or old is None or (may_announce(old), old.address()) != (may_announce(new), new.address())

    def _concerns(self, view: View, change: Seen) -> bool:
        one = change.new or change.old
        service = view.get(SERVICES, f"{one.metadata.namespace}/{one.service}") if one.service else None
        return service is not None and _announced(service) and service.spec.external_traffic_policy == "Local"

    def notified(self, machine: str, method: str, params: Any) -> None:
        """Handle a notification of a helper; it is a listener for `Remote.listen`."""
        if method in ("connected", "lost", "helper") or (method == "digest" and params.get("announced") == "lost"):
            self._sent.pop(machine, None)
        if machine in self._orders and method != "lost":
            self._workers.wake(machine)

    # -- who announces what

    def _settle(self) -> None:
        self._settling = None
        try:
            self._decide()
        except Exception as error:
            self._supervisor.mistake("announcer", error)

    def _decide(self) -> None:
        assert self._view is not None
        addresses: dict[str, list[str]] = {name: [] for name in self._nodes}
        health: dict[str, list[Health]] = {name: [] for name in self._nodes}
        able = [name for name, node in sorted(self._nodes.items()) if may_announce(node)]
        for service in self._view.by(SERVICES, BALANCED, BALANCED):
            local = _local(self._view.by(SLICES, SLICES_BY_SERVICE, service.metadata.key))
            is_local = service.spec.external_traffic_policy == "Local"
            near = [name for name in able if local.get(name)] if is_local else able
            for ingress in service.status.load_balancer.ingress:
                chosen = elected(ingress.ip, near)
                if chosen:
                    addresses[chosen].append(ingress.ip)
            if is_local and service.spec.health_check_node_port:
                for name in self._nodes:
                    health[name].append(Health(service.spec.health_check_node_port, service.metadata.key, local.get(name, 0)))
        before, self._orders = self._orders, {}
        for name, node in self._nodes.items():
            if node.address():
                self._orders[name] = Orders(node.address(), self._range, tuple(sorted(addresses[name])), tuple(health[name]))
        self._tell(before)
        for name, orders in self._orders.items():
            if orders != self._sent.get(name):
                self._workers.wake(name)

    def _tell(self, before: Mapping[str, Orders]) -> None:
        """Write into the journal which addresses have another minion now."""
        was = {address: name for name, orders in before.items() for address in orders.addresses}
        for name, orders in self._orders.items():
            for address in orders.addresses:
                if was.get(address) != name:
                    self._journal.note("network", f"machine/{name}", f"is to answer {address}, an address of a load balancer")

    # -- the minions

    async def _work(self, name: str) -> None:
        orders = self._orders.get(name)
        if orders is None or orders == self._sent.get(name) or not self._remote.connected(name):
            return
        if name not in self._sent and not orders.addresses and not orders.health and not self._balanced():
            return  # a lab without load balancers costs no minion a call
        said = answered(
            name, "announce", await self._remote.call(name, "announce", msgspec.to_builtins(orders), deadline_s=CALL_S), AnnounceAnswer
        )
        self._sent[name] = orders
        self._failing.discard(name)
        for address in said.added:
            self._journal.note("network", f"machine/{name}", f"answers {printable(address, 40)}")
        for trouble in said.trouble:
            self._journal.note("network", f"machine/{name}", printable(trouble, 300))

    def _balanced(self) -> bool:
        return self._view is not None and any(True for _ in self._view.by(SERVICES, BALANCED, BALANCED))

    def _failed(self, name: str, error: Exception, again_s: float) -> None:
        if not isinstance(error, Unreachable) and name not in self._failing:
            self._failing.add(name)
            self._journal.note("network", f"machine/{name}", f"could not announce addresses: {error}")


def may_announce(node: Node) -> bool:
    """Tell whether a minion is ready, was not told dead, and was not excluded by its owner."""
    fenced = any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)
    return bool(node.ready) and not fenced and node.metadata.deletion_timestamp is None and EXCLUDED not in node.metadata.labels


def elected(address: str, names: Iterable[str]) -> str:
    """Return the name with the highest hash, so that each address keeps its minion while that is among the names."""
    return max(names, key=lambda name: hashlib.sha256(f"{address}/{name}".encode()).digest(), default="")


def _announced(service: Service) -> bool:
    return service.spec.type == "LoadBalancer" and not service.spec.load_balancer_class and bool(service.status.load_balancer.ingress)


def _local(slices: Iterable[Any]) -> dict[str, int]:
    """Return how many ready endpoints each node has."""
    found: dict[str, set[str]] = {}
    for one in slices:
        for endpoint in one.endpoints:
            if endpoint.conditions.ready is not False and endpoint.node_name and endpoint.addresses:
                found.setdefault(endpoint.node_name, set()).add(endpoint.addresses[0])
    return {name: len(addresses) for name, addresses in found.items()}
