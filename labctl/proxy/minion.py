"""One minion as the proxy knows it: what it can do, which rules it has, and the work that brings these to what the table says.

The Proxy's worker for this minion calls `work`, once at a time. The pure steps decide what to send; the helper's methods carry it out.
`applied` holds the rules that the helper confirmed, by the table's keys, so that a change costs only what changed. It is None when they aren't known for
sure: at first, after a connection came back, after a call whose effect is unknown, and after somebody else changed the rules. Then the machine is asked
what it has, and gets the difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from labctl.errors import Unreachable
from labctl.proxy import flows, userspace
from labctl.proxy.chains import NO_RULES, Rules, digest, merge, parse
from labctl.proxy.patch import LINES_AT_ONCE, NEVER_CUT, Patch, diff, join
from labctl.proxy.rules import Entry, Facts, Table, rules_of
from labctl.proxy.settings import ProxySettings
from labctl.proxy.steps import Step, step
from labctl.remote.interface import Remote
from labctl.remote.wire import answered

COMPILED_AT_ONCE = 100

Sentences = tuple[tuple[str, str], ...]
"""(Service key, what this machine can't do for it)."""


class FactsAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """What the helper says a machine can do."""

    flavour: Literal["nft", "legacy"]
    recent: bool
    random_fully: bool
    log: bool = False


class DumpAnswer(msgspec.Struct, frozen=True):
    rules: str


class ForwardAnswer(msgspec.Struct, frozen=True):
    failed: dict[str, str]


class Desired(Protocol):
    """What a minion asks of the Proxy: the table as it stands, the revision that a key's entries came from, and whether an endpoint is dead."""

    @property
    def table(self) -> Table: ...

    def cause(self, service: str) -> int: ...

    def is_dead(self, address: str) -> bool: ...


class Round(msgspec.Struct, frozen=True):
    """The result of one round of work. `repaired`: the rules differed although the proxy had not changed them."""

    causes: Mapping[str, int]  # Service -> the revision that this minion has now
    lines: int
    whole: bool
    repaired: bool = False
    missing: Sentences = ()
    confirmed: float = 0.0  # the loop's time when the helper had the rules in force; connections were forgotten after that


_T = TypeVar("_T")


class Minion:
    def __init__(self, name: str, address: str, boot_id: str, zone: str, remote: Remote, settings: ProxySettings) -> None:
        self.name, self.address, self.boot_id, self.zone = name, address, boot_id, zone
        self.facts: Facts | None = None
        self.fenced = False
        self.ready = False  # its Node says so: its agent speaks to the API
        self.sequence = -1  # the table's sequence that this minion has
        self.dirty: set[str] = set()
        self.somebody_died = False  # a pod ended or a node was fenced: endpoints that have left already may be dead
        self._departed = flows.Departed()
        self.applied: dict[str, Rules] | None = None
        self._frontends: dict[str, tuple[Entry, ...]] = {}  # what `applied` was made of
        self._remote = remote
        self._settings = settings
        self._lines_at_once = LINES_AT_ONCE
        self._connection = 0  # one more with every connection
        self._said = ""  # a digest that came while `applied` was not known
        self._suspect = False
        self._prints_otherwise = False  # its iptables-save differs from what we wrote even right after a repair

    @property
    def behind(self) -> bool:
        """Tell whether there is anything to do."""
        return self.applied is None or bool(self.dirty) or self.somebody_died

    def forget(self) -> None:
        """Nothing is known of it any more: everything will be read, and the difference sent."""
        self.applied = self.facts = None
        self.sequence = -1
        self._connection += 1
        self._said = ""
        self._suspect = self._prints_otherwise = False

    def says(self, said: str) -> None:
        """Take in a digest that the helper reported because somebody changed its tables. It may still be the digest of what we left there."""
        if self.applied is None:
            self._said = said
        elif not self._prints_otherwise and said != digest(merge(self.applied.values())):
            self.applied = None
            self._suspect = True

    def lost_forwarder(self) -> None:
        self.applied = None

    async def work(self, desired: Desired) -> Round:
        """Bring it to where the table is now. Raises RemoteError; then nothing is taken for granted."""
        connection = self._connection
        facts = self.facts
        if facts is None:
            facts = self.facts = await self._ask_facts()
        try:  # with these facts to its end: `forget` may be called while it waits for the machine
            done = await (self._whole(desired, facts) if self.applied is None else self._changes(desired, self.applied, facts))
        except BaseException:
            self.applied = None
            raise
        if connection != self._connection:
            self.applied = None
            raise Unreachable(f"{self.name}: the connection was another one before it was done")
        return done

    # -- the two ways ------------------------------------------------------------------------------------------------------------------

    async def _changes(self, desired: Desired, applied: dict[str, Rules], facts: Facts) -> Round:
        """Return only what changed since the last round."""
        keys, self.dirty = self.dirty, set()
        frontends = {key: desired.table.get(key, ()) for key in sorted(keys)}
        causes = {key: desired.cause(key) for key in frontends}
        made = {key: rules_of(ports, facts) for key, ports in frontends.items()}
        steps = [step(applied.get(key, NO_RULES), rules) for key, rules in made.items()]
        patch = join(each.patch for each in steps)
        failed = await self._forward_first({key: p for key, p in frontends.items() if p}, facts, whole=False)
        lines = await self._apply(patch)
        confirmed = asyncio.get_running_loop().time()
        await self._forward_last([f for key in made for f in self._frontends.get(key, ())], frontends, facts)
        await self._forget_connections(steps, frontends, facts, desired)
        for key in made:
            self._remember(applied, key, frontends[key], made[key])
        return Round(causes, lines, whole=False, missing=_missing(made) + failed, confirmed=confirmed)

    async def _whole(self, desired: Desired, facts: Facts) -> Round:
        """Read what is there, send the difference."""
        self.dirty = set()
        suspect, self._suspect = self._suspect, False
        frontends = dict(desired.table)
        causes = {key: desired.cause(key) for key in frontends}
        made: dict[str, Rules] = {}
        for number, (key, ports) in enumerate(frontends.items()):
            made[key] = rules_of(ports, facts)
            if number % COMPILED_AT_ONCE == 0:
                await asyncio.sleep(0)  # a thousand Services take 0.1 s: others may be served between
        actual = await self._dump()
        change = Step(actual, merge(made.values()))
        patch = change.patch
        failed = await self._forward_first(frontends, facts, whole=True)
        lines = await self._apply(patch)
        confirmed = asyncio.get_running_loop().time()
        if suspect and patch:
            self._prints_otherwise = bool(diff(change.has, await self._dump()))
        await self._forget_connections([change], frontends, facts, desired, flushed=suspect)
        self.applied, self._frontends = made, frontends
        if self._said:
            said, self._said = self._said, ""
            self.says(said)
        repaired = suspect and bool(patch) and not self._prints_otherwise
        return Round(causes, lines, whole=True, repaired=repaired, missing=_missing(made) + failed, confirmed=confirmed)

    def _remember(self, applied: dict[str, Rules], key: str, frontends: tuple[Entry, ...], made: Rules) -> None:
        if frontends:
            applied[key], self._frontends[key] = made, frontends
        else:
            applied.pop(key, None)
            self._frontends.pop(key, None)

    # -- the helper's methods ----------------------------------------------------------------------------------------------------------

    async def _ask_facts(self) -> Facts:
        said = await self._ask("facts", {"flavour": self._settings.flavour}, FactsAnswer)
        self._lines_at_once = LINES_AT_ONCE if said.flavour == "nft" else NEVER_CUT
        return Facts(
            node=self.name,
            zone=self.zone,
            address=self.address,
            recent=said.recent,
            random_fully=said.random_fully,
            log=said.log,
            userspace=self._settings.mode == "userspace",
            pod_range=self._settings.pod_range,
            service_range=self._settings.service_range,
            mark=self._settings.mark,
        )

    async def _dump(self) -> Rules:
        return parse((await self._ask("dump", {}, DumpAnswer)).rules)

    async def _apply(self, patch: Patch) -> int:
        """Apply a patch, and return how many lines it had."""
        commits = patch.commits(self._lines_at_once)
        rules = "".join(commits)
        if rules:
            await self._call("apply", {"rules": rules, "commits": len(commits)})
        return rules.count("\n")

    async def _forward_first(self, frontends: Table, facts: Facts, *, whole: bool) -> Sentences:
        """Tell the forwarder before the rules, because it must listen before connections are sent to it.

        A whole sync in iptables mode ends what another mode left behind.
        """
        ports = userspace.ports(frontends, facts)
        if not ports and not whole:
            return ()
        answer = await self._ask("forward", {"whole": whole, "set": ports}, ForwardAnswer)
        return userspace.failures(answer.failed, frontends)

    async def _forward_last(self, had: list[Entry], now: Table, facts: Facts) -> None:
        """Nobody is sent there any more: stop listening."""
        gone = userspace.ids(had) - userspace.ids(f for ports in now.values() for f in ports)
        if facts.userspace and gone:
            await self._call("forward", {"remove": sorted(gone)})

    async def _forget_connections(
        self, steps: Sequence[Step], entries: Table, facts: Facts, desired: Desired, *, flushed: bool = False
    ) -> None:
        stale = flows.stale(steps, (entry for some in entries.values() for entry in some), facts, desired.is_dead)
        self._departed.note(steps, desired.is_dead)
        if self.somebody_died:
            self.somebody_died = False
            if dead := self._departed.dead(desired.is_dead):
                stale["tcp"] = [*stale.get("tcp", ()), *dead]
        if flushed and (unrouted := flows.unrouted(steps)):
            stale["unrouted"] = unrouted
        if stale:
            await self._call("conntrack", stale)

    async def _ask(self, method: str, params: dict[str, Any], answer: type[_T]) -> _T:
        """Call the helper and check the answer's type. Raises RemoteError for another type, because root on the machine may answer anything."""
        return answered(self.name, method, await self._call(method, params), answer)

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        return await self._remote.call(self.name, method, params, deadline_s=self._settings.call_s)


def _missing(made: Mapping[str, Rules]) -> Sentences:
    return tuple((key, sentence) for key, rules in made.items() for sentence in rules.missing)
