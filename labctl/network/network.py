"""The Network keeps every minion's routes as its plug-in plans them.

    runner ══ Nodes ══► seen ─► places ─► plug-in: plan per minion ─► worker of that minion ─► helper `network`

It is an Observer: the runner shows it changes, and it calls machines, with one worker per minion, all in parallel. A minion's whole program
is sent whenever it differs from the last one sent, when a connection comes back, and when somebody changed the minion's tables. Sending it
twice is
harmless. The master calls it (start, stop, told), and the runner (seen).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from labctl.clock import Clock
from labctl.errors import Unreachable, UsageError
from labctl.journal import Journal
from labctl.network.bgp import BgpPlugin
from labctl.network.ovs import OvsPlugin
from labctl.network.plugin import Place, Plugin, Program
from labctl.network.route import RoutePlugin
from labctl.network.settings import NetworkSettings
from labctl.network.vxlan import VxlanPlugin
from labctl.reconcile.plan import Index, Seen, View
from labctl.reconcile.workers import Workers
from labctl.remote.interface import Remote
from labctl.remote.wire import answered
from labctl.resources.plurals import NODES
from labctl.supervisor import Supervisor

PLUGINS: Mapping[str, Callable[[], Plugin]] = {"route": RoutePlugin, "vxlan": VxlanPlugin, "ovs": OvsPlugin, "bgp": BgpPlugin}


def plugin(name: str) -> Plugin:
    """Return the plug-in of that name. UsageError lists the names that exist."""
    if name not in PLUGINS:
        raise UsageError(f"there is no network plug-in {name!r}", mend=f"choose one of {', '.join(PLUGINS)}")
    return PLUGINS[name]()


def pod_mtu(settings: NetworkSettings) -> int:
    """Return the size of a pod's largest packet, so that with the network's outer headers it fits the minions' link."""
    return settings.link_mtu_bytes - plugin(settings.plugin).overhead_bytes


class NetworkAnswer(msgspec.Struct, frozen=True):
    """The helper's answer: how much of the program it had to change."""

    changed: int


class Network:
    """The Observer that the module's docstring describes."""

    name = "network"

    def __init__(
        self,
        remote: Remote,
        journal: Journal,
        clock: Clock,
        settings: NetworkSettings = NetworkSettings(),  # noqa: B008 - frozen
        supervisor: Supervisor | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor(clock, journal)
        self._remote = remote
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._plugin = plugin(settings.plugin)
        self._places: dict[str, Place] = {}
        self._sent: dict[str, Program] = {}  # the program that each minion confirmed
        self._unconfirmed: set[str] = (
            set()
        )  # minions whose confirmation is void, after another boot, a new connection or a change by somebody else
        self._failing: set[str] = set()
        self._workers = Workers(self._work, clock, self._failed)

    async def start(self) -> None:
        self._workers.start()

    async def stop(self) -> None:
        await self._workers.stop()

    @property
    def idle(self) -> bool:
        return self._workers.idle

    # -- the Observer protocol: what the runner shows ------------------------------------------------------------------------------------

    follows = (NODES,)
    indexes: Mapping[tuple[str, str], Index] = {}

    def seen(self, view: View, change: Seen) -> None:
        old, new = self._places.get(change.key), place(change.new)
        if _rebooted(change):
            self._unconfirmed.add(change.key)
        elif old == new:
            return
        if new is None:
            self._places.pop(change.key, None)
            self._sent.pop(change.key, None)
            self._unconfirmed.discard(change.key)
            self._failing.discard(change.key)
        else:
            self._places[change.key] = new
        for name in sorted(self._places):  # each minion's routes name all other minions
            self._workers.wake(name)

    def notified(self, machine: str, method: str, params: Any) -> None:
        """Take in a notification; the master registers this with `Remote.listen`."""
        if machine not in self._places:
            return  # nothing was sent yet, so the whole program will be
        if method in ("connected", "lost", "digest"):
            self._unconfirmed.add(machine)
        if method in ("connected", "digest"):
            self._workers.wake(machine)

    # -- the minions -------------------------------------------------------------------------------------------------------------------

    async def _work(self, name: str) -> None:
        me = self._places.get(name)
        if me is None or not self._remote.connected(name):
            return
        program = self._plugin.plan(me, [self._places[n] for n in sorted(self._places)], self._settings)
        if self._sent.get(name) == program and name not in self._unconfirmed:
            return
        self._unconfirmed.discard(name)
        self._sent.pop(name, None)
        began = self._clock.now()
        said = await self._remote.call(name, "network", program.params(), deadline_s=self._settings.call_s)
        done = answered(name, "network", said, NetworkAnswer)
        self._sent[name] = program
        self._failing.discard(name)
        if done.changed:
            took = f"{(self._clock.now() - began) * 1000:.0f} ms"
            self._journal.note(
                "network", f"machine/{name}", f"{self._plugin.name}: {len(program.routes)} routes, {done.changed} changes in {took}"
            )

    def _failed(self, name: str, error: Exception, again_s: float) -> None:
        """Write a failure into the journal once, until it works again. A machine that can't be reached is not reported here."""
        if not isinstance(error, Unreachable) and name not in self._failing:
            self._failing.add(name)
            self._journal.note("network", f"machine/{name}", f"could not program the network: {error}")


def place(node: Any) -> Place | None:
    """Return where a Node is, or None while its address is not known."""
    if node is None or not node.address():
        return None
    return Place(node.metadata.name, node.address(), node.spec.pod_cidr)


def _rebooted(seen: Seen) -> bool:
    return seen.old is not None and seen.new is not None and seen.old.status.node_info.boot_id != seen.new.status.node_info.boot_id
