"""Fake helpers of minions: the part of `Remote` that the proxy and the network call, with tables kept in memory.

They keep the helper's contract (agent/helper/methods.py): a restore is atomic per table and refuses what iptables-restore refuses, and a
dump has
the same format. A test may flush, edit, cut the connection, or make calls slow or fail.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from sys import intern
from typing import Any

from labctl.agent.helper import check
from labctl.agent.helper.iptables import digest
from labctl.errors import CommandFailed, Unreachable

Tables = dict[str, dict[str, list[str]]]
BUILT_IN = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")}


def empty_tables() -> Tables:
    return {table: {chain: [] for chain in chains} for table, chains in BUILT_IN.items()}


class FakeHelper:
    """One minion's helper. `calls` are the methods that were called, with their parameters, in order, if they are `recorded`."""

    def __init__(self, name: str, *, recorded: bool = True) -> None:
        self.name = name
        self._recorded = recorded
        self.tables = empty_tables()
        self.changes = 0  # one more with each table that a restore changed
        self.connected = True
        self.recent = True
        self.delay_s = 0.0
        self.fail_next = ""  # the next apply fails with this
        self.calls: list[tuple[str, Any]] = []
        self.network: Any = None
        self.names: dict[str, Any] = {}
        self.announced: list[str] = []
        self.health: dict[int, int] = {}
        self.forwarded: dict[str, Any] = {}
        self.forgotten: list[dict[str, Any]] = []
        self._counted: dict[str, tuple[dict[str, list[str]], Counter[str]]] = {}

    def methods(self) -> list[str]:
        return [method for method, _ in self.calls]

    def dump(self) -> str:
        lines = []
        for table, chains in self.tables.items():
            lines += [f"*{table}", *(f":{c} - [0:0]" for c in chains if c.startswith("LABCTL-"))]
            lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules if "LABCTL-" in chain + rule]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n"

    def answer(self, method: str, params: Any) -> Any:
        if self._recorded:
            self.calls.append((method, params))
        ask: Callable[[Any], Any] = getattr(self, f"_{method}")
        return ask(params)

    def _facts(self, params: Any) -> Any:
        return {"flavour": "nft", "version": "fake", "recent": self.recent, "randomFully": True, "conntrack": True}

    def _dump(self, params: Any) -> Any:
        return {"rules": self.dump()}

    def _apply(self, params: Any) -> Any:
        if self.fail_next:
            said, self.fail_next = self.fail_next, ""
            raise CommandFailed(self.name, ["iptables-restore"], 1, said)
        text = check.rules(params["rules"]).decode()
        assert text.count("COMMIT\n") == params["commits"]
        self._restore(text)
        return {"ms": 0.0}

    def _restore(self, text: str) -> None:
        staged: _Staged | None = None
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:]
                staged = _Staged(self.name, self.tables[table], self._jumps(table))
            elif line == "COMMIT":
                assert staged is not None
                staged.commit()
                self.changes += 1
            else:
                assert staged is not None
                staged.take(line)

    def _jumps(self, table: str) -> Counter[str]:
        """Return how many rules of a table jump to each chain; they are counted anew if somebody else changed the table."""
        chains, jumps = self._counted.get(table, (None, Counter[str]()))
        if chains is not self.tables[table]:
            jumps = Counter(_jump(rule) for rules in self.tables[table].values() for rule in rules)
            self._counted[table] = (self.tables[table], jumps)
        return jumps

    def _conntrack(self, params: Any) -> Any:
        self.forgotten.append(params)
        return {"deleted": 0, "missing": False}

    def _forward(self, params: Any) -> Any:
        wanted = {port["id"]: port for port in params.get("set", ())}
        self.forwarded = wanted if params.get("whole") else self.forwarded | wanted
        for one in params.get("remove", ()):
            self.forwarded.pop(one, None)
        return {"ports": len(self.forwarded), "failed": {}}

    def _dns(self, params: Any) -> Any:
        self.names = dict(params["set"]) if params["whole"] else self.names | params["set"]
        for key in params["remove"]:
            self.names.pop(key, None)
        return {"names": sum(map(len, self.names.values())), "failed": {}}

    def _announce(self, params: Any) -> Any:
        had, self.announced = self.announced, list(params["addresses"])
        self.health = {port["port"]: port["local"] for port in params["health"]}
        added = [address for address in self.announced if address not in had]
        return {"added": added, "removed": [address for address in had if address not in self.announced], "trouble": []}

    def _network(self, params: Any) -> Any:
        changed = params != self.network
        self.network = params
        return {"device": "eth0", "changed": int(changed)}


class _Staged:
    """What a restore makes of one table, beside the table: only what it touches, so a small restore of a large table costs little."""

    def __init__(self, name: str, chains: dict[str, list[str]], jumps: Counter[str]) -> None:
        self._name = name
        self._chains, self._jumps = chains, jumps  # the table as it is
        self._own: dict[str, list[str] | None] = {}  # the chains that become others; None: it is removed
        self._more: Counter[str] = Counter()  # by how many the jumps to a chain become more

    def take(self, line: str) -> None:
        if line.startswith(":"):
            self._fill(intern(line[1:].split(" ")[0]))
            return
        word, chain, rest, target = _parsed(line)
        there = self._chain(chain)
        if there is None:
            raise CommandFailed(self._name, ["iptables-restore"], 1, f"no chain {chain} for {line}")
        if word == "-X":
            if there or self._jumps[chain] + self._more[chain]:
                raise CommandFailed(self._name, ["iptables-restore"], 4, f"{chain} is not empty or still in use")
            self._own[chain] = None
        elif word == "-D":
            if rest not in there:
                raise CommandFailed(self._name, ["iptables-restore"], 1, f"no such rule: {line}")
            self._changed(chain).remove(rest)
            self._more[target] -= 1
        else:
            if target and self._chain(target) is None:
                raise CommandFailed(self._name, ["iptables-restore"], 2, f"no chain {target} for {line}")
            rules = self._changed(chain)
            rules.insert(0 if word == "-I" else len(rules), rest)
            self._more[target] += 1

    def commit(self) -> None:
        """Carry it out, all of it."""
        for chain, rules in self._own.items():
            if rules is None:
                self._chains.pop(chain, None)
            else:
                self._chains[chain] = rules
        self._jumps.update(self._more)

    def _chain(self, chain: str) -> list[str] | None:
        return self._own[chain] if chain in self._own else self._chains.get(chain)

    def _fill(self, chain: str) -> None:
        for rule in self._chain(chain) or ():
            self._more[_jump(rule)] -= 1
        self._own[chain] = []

    def _changed(self, chain: str) -> list[str]:
        if chain not in self._own:
            self._own[chain] = list(self._chains[chain])
        own = self._own[chain]
        assert own is not None
        return own


@lru_cache(maxsize=4096)  # all helpers are told nearly the same, one soon after the other
def _parsed(line: str) -> tuple[str, str, str, str]:
    """Return a line's word, its chain, the rule, and the chain that it jumps to."""
    word, chain, rest = (*line.split(" ", 2), "")[:3]
    rest = intern(rest)  # the rules of a large lab would weigh as often as it has helpers
    return word, chain, rest, _jump(rest)


def _jump(rule: str) -> str:
    """Return the chain that a rule jumps to, or an empty text."""
    target = rule.rpartition("-j ")[2]
    return target if target.startswith("LABCTL-") and " " not in target else ""


class FakeHelpers:
    """The part of `Remote` that calls helpers. Tests look at the calls; where a lab runs for long, they are not `recorded`."""

    def __init__(self, *, recorded: bool = True) -> None:
        self._recorded = recorded
        self.minions: dict[str, FakeHelper] = {}
        self._listeners: list[Callable[[str, str, Any], None]] = []

    def add(self, name: str) -> FakeHelper:
        self.minions[name] = FakeHelper(name, recorded=self._recorded)
        return self.minions[name]

    def connected(self, name: str) -> bool:
        return name in self.minions and self.minions[name].connected

    def listen(self, tell: Callable[[str, str, Any], None]) -> None:
        self._listeners.append(tell)

    def silence(self) -> None:
        """Forget all listeners: the master that they belonged to has ended."""
        self._listeners.clear()

    def tell(self, name: str, method: str, params: Any) -> None:
        for listener in self._listeners:
            listener(name, method, params)

    async def call(self, name: str, method: str, params: Any, *, deadline_s: float = 30.0) -> Any:
        await asyncio.sleep(self.minions[name].delay_s if name in self.minions else 0)
        if not self.connected(name):
            raise Unreachable(f"{name}: no connection")
        return self.minions[name].answer(method, params)

    # -- faults ------------------------------------------------------------------------------------------------------------------------

    def flush(self, name: str) -> None:
        """Act as if somebody ran `iptables -F; iptables -t nat -F` and deleted the chains; the helper then sends a notification."""
        self.minions[name].tables = empty_tables()
        self.touched(name)

    def touched(self, name: str) -> None:
        self.tell(name, "digest", {"rules": digest(self.minions[name].dump()), "forwarder": ""})

    def lose(self, name: str) -> None:
        self.minions[name].connected = False
        self.tell(name, "lost", {})

    def reconnect(self, name: str) -> None:
        self.minions[name].connected = True
        self.tell(name, "connected", {})
