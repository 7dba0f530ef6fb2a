"""Where does this packet end, and by which rules? Rendered rules, or a machine's whole dump, walked in Python as the kernel walks them.

Who calls it: tests (they send packets instead of comparing strings) and `labctl trace`. It sends nothing and changes nothing but `World.recent`.
The first packet of a connection goes: nat PREROUTING (or OUTPUT, if this machine made it), routing, filter INPUT or FORWARD (or OUTPUT),
nat POSTROUTING if it leaves. Later packets follow the first by conntrack and see none of the nat rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from labctl.errors import LabctlError
from labctl.proxy.chains import BUILT_IN, TABLES, Rules
from labctl.proxy.matches import Line, Packet, World, read

FINAL = frozenset(("ACCEPT", "DROP", "REJECT", "DNAT", "REDIRECT", "MASQUERADE", "SNAT"))
GOES_ON = frozenset(("MARK", "LOG", "NFLOG"))
"""Targets after which the next line is looked at."""
DEPTH = 16


class Loop(LabctlError):
    """Chains that lead to each other. The kernel refuses such rules, so a text that has them is no machine's."""


class Step(msgspec.Struct, frozen=True):
    """One rule that matched."""

    table: str
    chain: str
    rule: str


class Trace(msgspec.Struct, frozen=True):
    """`verdict`: LOCAL (delivered here), FORWARD (sent on), REJECT, DROP. `packet` is as it ends; `masqueraded`: it leaves with this machine's address."""

    verdict: str
    packet: Packet
    masqueraded: bool
    steps: tuple[Step, ...]


class Tables:
    """Every chain of both tables, from our Rules or from iptables-save's text (other people's rules included)."""

    def __init__(self, chains: Mapping[str, Mapping[str, list[str]]], policies: Mapping[tuple[str, str], str] = {}) -> None:
        self._chains = chains
        self._policies = policies

    @classmethod
    def of(cls, rules: Rules) -> Tables:
        chains: dict[str, dict[str, list[str]]] = {}
        for name in TABLES:
            table = rules.table(name)
            chains[name] = {chain: list(lines) for chain, lines in table.owned.items()}
            for line in table.shared:
                chain, _, rest = line.partition(" ")
                chains[name].setdefault(chain, []).append(rest)
        return cls(chains)

    @classmethod
    def read(cls, text: str) -> Tables:
        chains: dict[str, dict[str, list[str]]] = {}
        policies: dict[tuple[str, str], str] = {}
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:]
                chains[table] = {}
            elif line.startswith(":"):
                chain, policy = line[1:].split(" ")[:2]
                chains[table].setdefault(chain, [])
                policies[table, chain] = policy
            elif line.startswith("-A "):
                chain, _, rest = line[3:].partition(" ")
                chains[table].setdefault(chain, []).append(rest)
        return cls(chains, policies)

    def texts(self, table: str, chain: str) -> Sequence[str]:
        """Return the lines of a chain as they were written."""
        return self._chains.get(table, {}).get(chain, ())

    def lines(self, table: str, chain: str) -> list[Line]:
        return [read(text) for text in self.texts(table, chain)]

    def dangling(self) -> Iterator[str]:
        """Jumps to chains that are not there, and chains that nothing jumps to: both are mistakes of ours."""
        for table, chains in self._chains.items():
            targets = {read(text).target for lines in chains.values() for text in lines}
            yield from (f"{table}: no chain {t}" for t in sorted(targets - FINAL - {"RETURN", *GOES_ON, ""}) if t not in chains)
            yield from (f"{table}: nothing jumps to {c}" for c in sorted(chains) if c not in targets and c not in BUILT_IN)

    def policy(self, table: str, chain: str) -> str:
        return self._policies.get((table, chain), "ACCEPT")


def trace(tables: Tables, packet: Packet, world: World) -> Trace:
    return _Walk(tables, packet, world).run()


class _Walk:
    def __init__(self, tables: Tables, packet: Packet, world: World) -> None:
        self._tables = tables
        self._world = world
        self._steps: list[Step] = []
        self.packet = packet

    def run(self) -> Trace:
        made_here = not self.packet.interface
        self._hook("nat", "OUTPUT" if made_here else "PREROUTING")
        here = self._world.is_local(self.packet.destination)
        filters = (("OUTPUT", "INPUT") if here else ("OUTPUT",)) if made_here else ("INPUT",) if here else ("FORWARD",)
        for chain in filters:
            verdict = self._hook("filter", chain)
            if verdict in ("REJECT", "DROP"):
                return self._end(verdict)
        masqueraded = False
        if made_here or not here:
            masqueraded = self._hook("nat", "POSTROUTING") in ("MASQUERADE", "SNAT")
        return self._end("LOCAL" if here else "FORWARD", masqueraded)

    def _end(self, verdict: str, masqueraded: bool = False) -> Trace:
        return Trace(verdict, self.packet, masqueraded, tuple(self._steps))

    def _hook(self, table: str, chain: str) -> str:
        return self._chain(table, chain, DEPTH) or self._tables.policy(table, chain)

    def _chain(self, table: str, chain: str, depth: int) -> str:
        """Return the chain's verdict, or an empty text if the packet reached its end."""
        if not depth:
            raise Loop(f"{table} {chain}: chains lead to each other without end")
        for line in self._tables.lines(table, chain):
            if not line.hits(self.packet, self._world):
                continue
            self._steps.append(Step(table, chain, line.text))
            if line.target == "RETURN":
                return ""
            verdict = self._act(line) if line.target in FINAL or line.target in GOES_ON else self._chain(table, line.target, depth - 1)
            if verdict or line.goto:
                return verdict
        return ""

    def _act(self, line: Line) -> str:
        change = msgspec.structs.replace
        if line.target == "MARK":
            value, _, mask = line.options["--set-xmark"].partition("/")
            self.packet = change(self.packet, mark=(self.packet.mark & ~int(mask, 16)) ^ int(value, 16))
            return ""
        if line.target == "DNAT":
            address, _, port = line.options["--to-destination"].partition(":")
            self.packet = change(self.packet, destination=address, port=int(port or self.packet.port), translated=True)
        return "" if line.target in GOES_ON else line.target
