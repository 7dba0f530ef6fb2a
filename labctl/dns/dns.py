"""Keeps the names that each minion's DNS server answers equal to the Services in the store.

    runner ══ Services, endpoints, namespaces ══► seen ─► dirty keys ─► records.py ─► table ─┬─► worker of minion-1 ─► helper `dns` ─► agent/dns
                                                                                             └─► worker of minion-2 ─► ...

It is an Observer like the proxy: one worker for each minion sends what changed, all in parallel, and sends everything when a connection or a server is new.
Who calls it: the master (start, stop, told), the runner (seen), `labctl why` (answering).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from labctl.clock import Clock
from labctl.dns.records import Rows, namespace_rows, service_rows
from labctl.dns.settings import DnsSettings
from labctl.errors import Unreachable
from labctl.journal import Journal
from labctl.reconcile.plan import Index, Seen, View
from labctl.reconcile.workers import Workers
from labctl.remote.interface import Remote
from labctl.remote.wire import answered
from labctl.resources.plurals import ENDPOINTS, NAMESPACES, NODES, SERVICES, SLICES
from labctl.supervisor import Supervisor

SLICES_BY_SERVICE = "dns-service"
NAMESPACE = "namespace:"  # a key of the table: no Service's key has a colon


class DnsAnswer(msgspec.Struct, frozen=True):
    """How many names the server has, which keys it refused and why, and its last mistake with a query, if any."""

    names: int
    failed: dict[str, str] = {}
    mistake: str = ""


class _Minion:
    """One boot of a minion, and what its server has been told."""

    def __init__(self, address: str, boot_id: str) -> None:
        self.address = address
        self.boot_id = boot_id
        self.dirty: set[str] = set()  # keys that changed since
        self.told = False  # its server has the whole table, but for the dirty keys
        self.connection = 0  # one more with each connection and each server that was lost

    def forget(self) -> None:
        self.told = False
        self.connection += 1


class Dns:
    name = "dns"

    def __init__(
        self,
        remote: Remote,
        journal: Journal,
        clock: Clock,
        settings: DnsSettings = DnsSettings(),  # noqa: B008 - frozen
        supervisor: Supervisor | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor(clock, journal)
        self.table: dict[str, Rows] = {}
        self._remote = remote
        self._journal = journal
        self._settings = settings
        self._dirty: dict[str, None] = {}
        self._view: View | None = None
        self._settling: asyncio.Handle | None = None
        self._minions: dict[str, _Minion] = {}
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
        return not self._dirty and self._workers.idle

    def answering(self, service: str) -> Mapping[str, bool]:
        """Tell for each minion whether its server has this Service's names as they are now."""
        return {name: minion.told and service not in minion.dirty for name, minion in self._minions.items()}

    # -- the Observer protocol: what the runner shows

    follows = (SERVICES, ENDPOINTS, SLICES, NAMESPACES, NODES)
    indexes: Mapping[tuple[str, str], Index] = {(SLICES, SLICES_BY_SERVICE): lambda one: _service_of(one)}

    def seen(self, view: View, change: Seen) -> None:
        if change.kind == NODES:
            self._node_seen(change)
        elif change.kind == NAMESPACES:
            self._mark(view, NAMESPACE + change.key)
        elif change.kind == SLICES:
            for one in (change.old, change.new):
                for key in _service_of(one) if one is not None else ():
                    self._mark(view, key)
        else:
            self._mark(view, change.key)

    def _node_seen(self, change: Seen) -> None:
        node, minion = change.new, self._minions.get(change.key)
        address = node.address() if node is not None else ""
        if not address:
            self._minions.pop(change.key, None)
            self._failing.discard(change.key)
            return
        boot_id = node.status.node_info.boot_id
        if minion is None or (minion.address, minion.boot_id) != (address, boot_id):
            self._minions[change.key] = _Minion(address, boot_id)
            self._workers.wake(change.key)

    def notified(self, machine: str, method: str, params: Any) -> None:
        """Handle a notification of a helper; it is a listener for `Remote.listen`."""
        minion = self._minions.get(machine)
        if minion is None:
            return
        if method in ("connected", "helper", "lost") or (method == "digest" and params.get("dns") == "lost"):
            minion.forget()
            if method != "lost":
                self._workers.wake(machine)

    # -- the table

    def _mark(self, view: View, key: str) -> None:
        """Read the key again after this turn of the loop, so that several changes of one Service are one."""
        self._dirty[key] = None
        self._view = view
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = None
        dirty, self._dirty = self._dirty, {}
        changed = [key for key in dirty if self._read_safely(key)]
        for name, minion in self._minions.items():
            minion.dirty.update(changed)
            if changed:
                self._workers.wake(name)

    def _read_safely(self, key: str) -> bool:
        """Read a key and tell whether its records changed. A mistake of ours with one Service must not stop the others."""
        try:
            rows = self._rows(key)
        except Exception as error:
            self._supervisor.mistake("dns", error)
            return False
        if rows == self.table.get(key, ()):
            return False
        if rows:
            self.table[key] = rows
        else:
            del self.table[key]
        return True

    def _rows(self, key: str) -> Rows:
        assert self._view is not None
        if key.startswith(NAMESPACE):
            name = key.removeprefix(NAMESPACE)
            return namespace_rows(name) if self._view.get(NAMESPACES, name) is not None else ()
        service = self._view.get(SERVICES, key)
        if service is None:
            return ()
        return service_rows(service, self._view.by(SLICES, SLICES_BY_SERVICE, key), self._view.get(ENDPOINTS, key))

    # -- the minions

    async def _work(self, name: str) -> None:
        minion = self._minions.get(name)
        if minion is None or not self._remote.connected(name) or (minion.told and not minion.dirty):
            return
        whole, connection = not minion.told, minion.connection
        keys, minion.dirty = minion.dirty, set()
        try:
            said = await self._remote.call(name, "dns", self._params(minion, keys, whole), deadline_s=self._settings.call_s)
            answer = answered(name, "dns", said, DnsAnswer)
        except BaseException:
            minion.told = False
            raise
        minion.told = connection == minion.connection
        self._failing.discard(name)
        if whole:
            self._journal.note("dns", f"machine/{name}", f"answers {answer.names} names")
        if answer.mistake:
            self._journal.note("dns", f"machine/{name}", f"a mistake in its DNS server: {answer.mistake}")
        for key, why in answer.failed.items():
            self._journal.note("dns", f"machine/{name}", f"{key} has no names: {why}")
        if not minion.told:
            raise Unreachable(f"{name}: the connection was another one before it was done")

    def _params(self, minion: _Minion, keys: Iterable[str], whole: bool) -> dict[str, Any]:
        settings = self._settings
        keys = self.table if whole else sorted(keys)
        return {
            "whole": whole,
            "set": {key: self.table[key] for key in keys if key in self.table},
            "remove": [key for key in keys if key not in self.table],
            "resolver": settings.machines_ask,
            "settings": {
                "address": minion.address,
                "port": settings.port,
                "domain": settings.domain,
                "server": settings.server,
                "ranges": [settings.service_range, settings.pod_range],
                "clients": [settings.pod_range],
            },
        }

    def _failed(self, name: str, error: Exception, again_s: float) -> None:
        """Write the first of several failures into the journal. A minion that is disconnected is no failure."""
        if not isinstance(error, Unreachable) and name not in self._failing:
            self._failing.add(name)
            self._journal.note("dns", f"machine/{name}", f"its DNS server could not be told: {error}")


def _service_of(one: Any) -> Iterable[str]:
    """Return the Service that an EndpointSlice belongs to; it is an index of the view."""
    return (f"{one.metadata.namespace}/{one.service}",) if one.service else ()
