"""The Proxy keeps the table (of Services, host ports and NetworkPolicies), and keeps every minion's rules equal to it.

    runner ══ every change ══► seen ─► dirty keys ─► table.read ─► table ─┬─► worker of minion-1 ─► diff ─► helper
                                                                           └─► worker of minion-2 ─► ...
    helper ── "my rules were touched" ──► told ─► the worker reads them back, sends the difference, and a Warning Event says so

It is an Observer: the runner shows it each change, and it answers with calls to machines. One worker for each minion makes them, all in parallel, so a
minion that is slow or away delays no other, and gets everything when it is back.
The master calls start, stop and told, the runner calls seen, and `labctl why` asks `programmed`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from labctl.clock import Clock
from labctl.errors import Unreachable
from labctl.journal import Journal
from labctl.proxy import table
from labctl.proxy.chains import as_text, merge
from labctl.proxy.conditions import Conditions, StatusWriter
from labctl.proxy.drain import Drain
from labctl.proxy.frontends import Frontend
from labctl.proxy.hostports import host_ports
from labctl.proxy.isolation import Isolation
from labctl.proxy.localports import LocalPorts
from labctl.proxy.minion import Minion, Round
from labctl.proxy.rules import BASE, Base, Entry, rules_of
from labctl.proxy.settings import ProxySettings
from labctl.proxy.table import SLICES_BY_SERVICE, slice_service
from labctl.reconcile.plan import Follower, Index, Seen, View
from labctl.reconcile.workers import Workers
from labctl.remote.interface import Remote
from labctl.resources import plurals
from labctl.resources.plurals import ENDPOINTS, MACHINES, NAMESPACES, NETWORK_POLICIES, NODES, PODS, SERVICES, SLICES
from labctl.resources.taints import OUT_OF_SERVICE
from labctl.supervisor import Supervisor

SETTLED_AT_ONCE = 50
GONE_REMEMBERED = 1_000  # Services that exist no more, and the revision that removed them
NOTED_AT_ONCE = 20
ENDED_WITHIN_S = 0.05
NOBODY = ("", "")


class Recorder(Protocol):
    def record(self, about: Any, type_: str, reason: str, message: str) -> None: ...


class Proxy:
    """`recorder` records Events as component `proxy`. Give its `followers` to the Runner, then `start`."""

    name = "proxy"

    def __init__(
        self,
        remote: Remote,
        client: StatusWriter,
        recorder: Recorder,
        journal: Journal,
        clock: Clock,
        settings: ProxySettings = ProxySettings(),  # noqa: B008 - frozen
        supervisor: Supervisor | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor(clock, journal)
        self.table: dict[str, tuple[Entry, ...]] = {BASE: (Base(),)}
        self._sequence = 0  # of the table: one more with every change
        self._causes: dict[str, int] = {}  # Service -> the revision its part of the table came from
        self._remote = remote
        self._recorder = recorder
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._view: View | None = None
        self._dirty: dict[str, None] = {}
        self._unmade: set[str] = set()  # keys whose entries could not be made: what the table has of them is old
        self._settling: asyncio.Handle | None = None
        self._ended_soon: asyncio.TimerHandle | None = None
        self._serving: dict[str, set[str]] = defaultdict(set)  # pod -> Services whose table it is in
        self._at: dict[str, tuple[str, str]] = {}  # address -> (pod, node) it was last known as
        self._minions: dict[str, Minion] = {}
        self._near: dict[str, Minion] = {}  # those that are connected: what costs something for each of them is done for no other
        self._failing: set[str] = set()
        self._workers = Workers(self._work, clock, self._failed)
        self._conditions = Conditions(client, journal, settings, self._supervisor)
        self._drain = Drain(self._conditions, clock, lambda pod: bool(self._serving.get(pod)), self._reached)
        self._isolation = Isolation(self._conditions, clock, self._is_made, self._reached_by)

    async def start(self) -> None:
        self._workers.start()

    async def stop(self) -> None:
        for handle in filter(None, (self._settling, self._ended_soon)):
            handle.cancel()
        await self._workers.stop()
        await self._conditions.stop()

    @property
    def idle(self) -> bool:
        """Tell whether the table is settled and every connected minion has it."""
        return not self._dirty and self._workers.idle and all(m.fenced or m.sequence >= self._sequence for m in self._near.values())

    def programmed(self, service: str) -> Mapping[str, bool]:
        """Minion -> has it this Service's rules as the table is now? For `labctl why`."""
        return {name: m.applied is not None and service not in m.dirty for name, m in self._minions.items()}

    @property
    def settings(self) -> ProxySettings:
        return self._settings

    def wanted(self, name: str, service: str) -> str | None:
        """Return as text the rules that a minion should have for a Service, with those that belong to no object. None if the minion is not known yet."""
        minion = self._minions.get(name)
        if minion is None or minion.facts is None:
            return None
        return as_text(merge(rules_of(self.table.get(key, ()), minion.facts) for key in dict.fromkeys((BASE, service))))

    # -- the Observer protocol: what the runner shows ------------------------------------------------------------------------------------

    follows = (SERVICES, ENDPOINTS, SLICES, NODES, PODS, NAMESPACES, NETWORK_POLICIES)
    indexes: Mapping[tuple[str, str], Index] = {(SLICES, SLICES_BY_SERVICE): slice_service}

    @property
    def followers(self) -> Sequence[Follower]:
        """Return what the runner must run: the proxy itself, and the controller that userspace mode needs."""
        return (self, LocalPorts(self._settings)) if self._settings.mode == "userspace" else (self,)

    def seen(self, view: View, change: Seen) -> None:
        match change.kind:
            case plurals.SERVICES | plurals.ENDPOINTS:
                self._mark(view, change.key)
            case plurals.SLICES:
                self._slice_seen(view, change)
            case plurals.PODS:
                self._pod_seen(view, change)
            case plurals.NAMESPACES:
                self._fenced_seen(view, change)
            case plurals.NETWORK_POLICIES:
                self._mark(view, table.policies_key(change.key.partition("/")[0]))
            case _:
                self._node_seen(view, change)

    def _slice_seen(self, view: View, seen: Seen) -> None:
        for one in (seen.old, seen.new):
            for key in slice_service(one) if one is not None else ():
                self._mark(view, key)

    def _pod_seen(self, view: View, seen: Seen) -> None:
        if self._drain.pod(seen.key, seen.new) | self._isolation.pod(seen.key, seen.new):
            self._settle_soon(view)
        ended = seen.old is not None and _is_over(seen.new) and not _is_over(seen.old)
        if ended and self._at.get(seen.old.status.pod_ip, NOBODY)[0] == seen.key:
            self._view = view
            self._endpoint_ended_soon()
        if host_ports(seen.old) != host_ports(seen.new):
            self._mark(view, table.pod_key(seen.key))
        self._fenced_seen(view, seen)

    def _fenced_seen(self, view: View, seen: Seen) -> None:
        """Read the NetworkPolicies of those namespaces again for which a changed pod or namespace may matter."""
        for namespace in table.fenced_namespaces(view, seen):
            self._mark(view, table.policies_key(namespace))

    def _node_seen(self, view: View, seen: Seen) -> None:
        self._view = view
        node, minion = seen.new, self._minions.get(seen.key)
        address = node.address() if node is not None else ""
        if not address:
            if node is None and seen.key in self._minions:
                del self._minions[seen.key]
                self._near.pop(seen.key, None)
                self._failing.discard(seen.key)
                self._mark(view, BASE)
            return
        boot_id = node.status.node_info.boot_id
        if minion is None or (minion.address, minion.boot_id) != (address, boot_id):
            minion = self._minions[seen.key] = Minion(seen.key, address, boot_id, node.zone, self._remote, self._settings)
            self._near.pop(seen.key, None)
            if self._remote.connected(seen.key):
                self._near[seen.key] = minion
            self._mark(view, BASE)
            self._workers.wake(seen.key)
        if minion.zone != node.zone:
            minion.zone = node.zone
            minion.forget()
            self._workers.wake(seen.key)
        fenced = any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)
        if (fenced, node.ready) != (minion.fenced, minion.ready):
            died = fenced and not minion.fenced
            minion.fenced, minion.ready = fenced, node.ready
            if died:
                self._somebody_died()
            self._settle_soon(view)

    def _endpoint_ended_soon(self) -> None:
        """Several endpoints that end within moments of each other, as those of a rollout do, cost each minion one look."""
        if self._ended_soon is None:
            self._ended_soon = asyncio.get_running_loop().call_later(ENDED_WITHIN_S, self._endpoints_ended)

    def _endpoints_ended(self) -> None:
        self._ended_soon = None
        self._somebody_died()

    def _somebody_died(self) -> None:
        """Minions look whether they know of connections to endpoints that have left already, and are dead now. One that is away looks when it comes."""
        for name, minion in self._near.items():
            if not minion.fenced:
                minion.somebody_died = True
                self._workers.wake(name)

    # -- what the remote tells ---------------------------------------------------------------------------------------------------------

    def notified(self, machine: str, method: str, params: Any) -> None:
        """Handle a notification of a helper; it is a listener for `Remote.listen`."""
        minion = self._minions.get(machine)
        if minion is None:
            return
        if method in ("connected", "helper"):  # a helper that ended watches no more: asking starts another
            minion.forget()
            minion.somebody_died = True  # perhaps, while it was away
            if self._remote.connected(machine):
                self._near[machine] = minion
            self._workers.wake(machine)
        elif method == "lost":
            minion.forget()
            self._near.pop(machine, None)
            self._look()
        elif method == "digest":
            if params.get("forwarder") == "lost":
                minion.lost_forwarder()
            if params.get("rules"):
                minion.says(params["rules"])
            if minion.behind:
                self._workers.wake(machine)

    # -- the table ---------------------------------------------------------------------------------------------------------------------

    def _mark(self, view: View, key: str) -> None:
        self._dirty[key] = None
        self._settle_soon(view)

    def _settle_soon(self, view: View) -> None:
        """After the changes of this turn of the loop: several of one Service are one."""
        self._view = view
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = None
        assert self._view is not None
        changed = [key for key in list(self._dirty)[:SETTLED_AT_ONCE] if self._compile_safely(self._view, key)]
        if changed:
            self._sequence += 1
            for name, minion in self._near.items():  # any other reads everything when it is connected: meanwhile nothing is noted of it
                minion.dirty.update(changed)
                self._workers.wake(name)
        if self._dirty:
            self._settle_soon(self._view)
        else:
            self._look()

    def _compile_safely(self, view: View, key: str) -> bool:
        self._unmade.discard(key)
        try:
            return self._compile(view, key)
        except Exception as error:  # our mistake, about one Service: all others must reach the minions
            self._unmade.add(key)
            self._supervisor.mistake("proxy", error)
            return False

    def _is_made(self, namespace: str) -> bool:
        """Tell whether the table has the policies of a namespace as they are now."""
        key = table.policies_key(namespace)
        return key not in self._dirty and key not in self._unmade

    def _compile(self, view: View, key: str) -> bool:
        """Bring one Service's part of the table up to date. Did it change?"""
        del self._dirty[key]
        entries, revision = self._base() if key == BASE else table.read(view, key, self._settings.mode)
        old = self.table.get(key, ())
        if entries == old:
            return False
        self._note_cause(key, revision or view.revision)
        self._track_pods(key, old, entries)
        if entries:
            self.table[key] = entries
        else:
            del self.table[key]
        return True

    def _base(self) -> tuple[tuple[Entry, ...], int]:
        return (Base(tuple(sorted(minion.address for minion in self._minions.values()))),), 0

    def _track_pods(self, key: str, old: tuple[Entry, ...], new: tuple[Entry, ...]) -> None:
        """Note which pods a Service sends new connections to. One that is leaving counts no more, though it may answer where nobody else does."""
        ports = [[entry for entry in entries if isinstance(entry, Frontend)] for entries in (old, new)]
        before, after = ({b.pod for port in some for b in port.backends if b.pod} for some in ports)
        for pod in before - after:
            self._serving[pod].discard(key)
            if not self._serving[pod]:
                del self._serving[pod]
        for pod in after - before:
            self._serving[pod].add(key)
        for backend in (b for some in ports for port in some for b in (*port.backends, *port.leaving)):
            self._at[backend.address] = (backend.pod, backend.node)

    def _note_cause(self, key: str, revision: int) -> None:
        """Services that are gone are remembered too, because a minion may still have their rules; but only so many, the oldest go first."""
        self._causes.pop(key, None)
        self._causes[key] = revision
        if len(self._causes) > len(self.table) + GONE_REMEMBERED:
            del self._causes[next(each for each in self._causes if each not in self.table)]

    def cause(self, service: str) -> int:
        """Return the revision from which the Service's part of the table was made."""
        return self._causes.get(service, 0)

    def is_dead(self, address: str) -> bool:
        """Tell whether nothing will ever answer at this address again, so that its clients should know now. An endpoint that is terminating still answers."""
        pod, node = self._at.get(address, NOBODY)
        if self._view is None or not pod:
            return False
        if node in self._minions and (self._minions[node].fenced or self._has_ended(node)):
            return True
        return _is_over(self._view.get(PODS, pod))

    def _has_ended(self, name: str) -> bool:
        """Tell whether the provider says that this minion's boot has ended. Its pods leave the table a moment before it is fenced."""
        machine = self._view.get(MACHINES, name) if self._view is not None else None
        return machine is not None and machine.end_of(self._minions[name].boot_id) is not None

    def _look(self) -> None:
        """Look which pods may go on: the table is settled, or a minion has caught up or went away."""
        self._drain.look(self._sequence)
        self._isolation.look(self._sequence)

    # -- the minions -------------------------------------------------------------------------------------------------------------------

    def _reached(self) -> int:
        """Return the sequence that every minion has at least whose pods may send something that arrives.

        A minion without a connection is one of them while its agent speaks: it goes on with the rules that it has, until the connection is back.
        """
        sending = [m.sequence for m in self._minions.values() if (m.ready or m.name in self._near) and not m.fenced]
        return min(sending, default=self._sequence)

    def _reached_by(self, name: str) -> int:
        """Return the sequence that this minion has; -2: none."""
        minion = self._minions.get(name)
        return minion.sequence if minion is not None and minion.applied is not None else -2

    async def _work(self, name: str) -> None:
        minion = self._minions.get(name)
        if minion is None or not self._remote.connected(name):
            return
        if minion.behind:
            began, sequence = self._clock.now(), self._sequence
            done = await minion.work(self)
            minion.sequence = max(minion.sequence, sequence)
            self._failing.discard(name)
            self._tell(minion, done, self._clock.now() - began)
        if minion.behind:
            self._workers.wake(name)
        else:
            minion.sequence = self._sequence  # the table may have changed while its facts were asked: then it has that change too
        self._look()

    def _failed(self, name: str, error: Exception, again_s: float) -> None:
        """Away is no news, the connection says so itself. Said once, until it works again."""
        if isinstance(error, Unreachable) or name in self._failing:
            return
        self._failing.add(name)
        self._journal.note("proxy", f"machine/{name}", f"could not program the rules: {error}")
        self._warn(NODES, name, "ProxyRulesFailed", f"Service rules could not be programmed: {error}")

    def _tell(self, minion: Minion, done: Round, took_s: float) -> None:
        assert self._view is not None
        took = f"{took_s * 1000:.0f} ms"
        age = round(max(0.0, self._clock.now() - done.confirmed), 6)
        if done.whole:
            services = sum(key != BASE and table.about(key)[0] == SERVICES for key in done.causes)
            text = f"{done.lines} lines of rules for {services} Services in {took}"
            cause = max(done.causes.values(), default=0)
            self._journal.note("proxy", f"machine/{minion.name}", text, cause=cause, did="rules", where=minion.name, age=age)
        for key, cause in done.causes.items() if len(done.causes) <= NOTED_AT_ONCE else ():
            if key != BASE:
                about, text = "/".join(table.about(key)), f"{minion.name} has its rules ({took})"
                self._journal.note("proxy", about, text, cause=cause, did="rules", where=minion.name, age=age)
        for key, sentence in done.missing:
            self._warn(*table.about(key), "ProxyFallback", f"{minion.name}: {sentence}")
        if done.repaired:
            text = f"Service rules were changed by another hand and repaired ({done.lines} lines)"
            self._journal.note("proxy", f"machine/{minion.name}", text, did="repaired", where=minion.name, urgent=True)
            self._warn(NODES, minion.name, "ProxyRulesRepaired", text)

    def _warn(self, kind: str, key: str, reason: str, text: str) -> None:
        about = self._view.get(kind, key) if self._view is not None else None
        if about is not None:
            self._recorder.record(about, "Warning", reason, text)


def _is_over(pod: Any) -> bool:
    """Tell whether nothing of a pod runs any more: its object is gone, or its phase is final."""
    return pod is None or pod.status.phase in ("Succeeded", "Failed")
