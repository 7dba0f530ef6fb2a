"""Rules as a value: chains of text in iptables-save's own words, so that what we want and what a machine says compare as equal.

Who calls it: `rules` (makes them), `patch` (compares them), `tracer` (walks them), the Proxy (reads a machine's dump).
A chain is *owned* (its lines are in order, and it is rewritten whole) or *shared* (a dispatch chain or a built-in one: each Service puts lines of its
own there, their order means nothing because no two match one packet differently). So the rules of one Service are a value of their own, and a
change of one Service is compared, sent and applied without looking at any other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

PREFIX = "LABCTL-"
SERVICES = "LABCTL-SERVICES"  # nat: virtual and external addresses -> a chain per Service port
NODEPORTS = "LABCTL-NODEPORTS"  # nat: ports on this machine's own addresses -> the same
HOSTPORTS = "LABCTL-HOSTPORTS"  # nat: ports of this machine's addresses that lead to one pod here
MARK = "LABCTL-MARK"  # nat: "masquerade this on its way out"
POSTROUTING = "LABCTL-POSTROUTING"  # nat: does so
REJECT = "LABCTL-REJECT"  # filter: what nobody serves is refused at once
POLICY = "LABCTL-POLICY"  # filter: pods that NetworkPolicies fence -> a chain per pod and direction
SHARED = frozenset((SERVICES, NODEPORTS, HOSTPORTS, REJECT, POLICY))
BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
OTHERS = frozenset(("LABCTL-NETWORK", "LABCTL-FORWARD", "LABCTL-INPUT"))  # the network's: not the proxy's to compare or remove

TableName = Literal["nat", "filter"]
TABLES: tuple[TableName, ...] = ("filter", "nat")


class Chains(msgspec.Struct, frozen=True):
    """One table. `owned`: chain -> its lines, without `-A CHAIN `. `shared`: whole lines, without `-A `."""

    owned: Mapping[str, tuple[str, ...]] = {}
    shared: tuple[str, ...] = ()


class Rules(msgspec.Struct, frozen=True):
    """What labctl has, or wants, in a machine's two tables. `missing`: what the machine can't do, a sentence each."""

    nat: Chains = Chains()
    filter: Chains = Chains()
    missing: tuple[str, ...] = ()

    def table(self, name: TableName) -> Chains:
        return self.nat if name == "nat" else self.filter


NO_RULES = Rules()
_DESTINATION = re.compile(r"-p (\w+) .*--to-destination ([\d.]+):(\d+)$")


def parse(text: str) -> Rules:
    """Parse the text of iptables-save or iptables-restore. Lines that are not the proxy's are left out."""
    owned: dict[str, dict[str, list[str]]] = {name: {} for name in TABLES}
    shared: dict[str, list[str]] = {name: [] for name in TABLES}
    table = "nat"
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table not in owned:
            continue
        elif line.startswith(":" + PREFIX):
            chain = line[1:].split(" ", 1)[0]
            if chain not in OTHERS:
                owned[table].setdefault(chain, [])
        elif line.startswith(("-A ", "-I ")):
            _take(line[3:], owned[table], shared[table])
    nat, filters = (Chains({c: tuple(lines) for c, lines in owned[t].items()}, tuple(shared[t])) for t in ("nat", "filter"))
    return Rules(nat, filters)


def _take(rule: str, owned: dict[str, list[str]], shared: list[str]) -> None:
    chain, _, rest = rule.partition(" ")
    if chain in OTHERS:
        return
    if chain in SHARED:
        shared.append(rule)
    elif chain in BUILT_IN:
        target = rest.rpartition("-j ")[2]
        if target.startswith(PREFIX) and target not in OTHERS:
            shared.append(rule)
    elif chain.startswith(PREFIX):
        owned.setdefault(chain, []).append(rest)


def merge(parts: Iterable[Rules]) -> Rules:
    """Return the rules of several Services (and the base) as one value. Each Service has chains of its own."""
    owned: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in TABLES}
    shared: dict[str, list[str]] = {name: [] for name in TABLES}
    missing: dict[str, None] = {}
    for part in parts:
        for name in TABLES:
            owned[name].update(part.table(name).owned)
            shared[name].extend(part.table(name).shared)
        missing.update(dict.fromkeys(part.missing))
    return Rules(Chains(owned["nat"], tuple(shared["nat"])), Chains(owned["filter"], tuple(shared["filter"])), tuple(missing))


def as_text(rules: Rules) -> str:
    """Return the rules in the form of iptables-restore, which `parse` reads."""
    lines: list[str] = []
    for name in TABLES:
        table = rules.table(name)
        lines.append(f"*{name}")
        lines += [f":{chain} - [0:0]" for chain in table.owned]
        lines += [f"-A {chain} {line}" for chain, owned in table.owned.items() for line in owned]
        lines += [f"-A {line}" for line in table.shared]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def same(one: Rules, other: Rules) -> bool:
    """Equal but for the order of lines in shared chains."""
    return all(one.table(t).owned == other.table(t).owned and sorted(one.table(t).shared) == sorted(other.table(t).shared) for t in TABLES)


def digest(rules: Rules) -> str:
    """Return a hash of all rules. The helper computes the same from its machine's rules (agent/helper/iptables.py); a test compares the two."""
    lines: list[str] = []
    for name in TABLES:
        for chain, owned in rules.table(name).owned.items():
            lines.append(f"*{name} :{chain}")
            lines.extend(f"*{name} {chain} {place} {line}" for place, line in enumerate(owned))
        for line in rules.table(name).shared:
            chain, _, rest = line.partition(" ")
            lines.append(f"*{name} {chain}  {rest}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def destinations(rules: Rules) -> set[tuple[str, str, int]]:
    """Return (protocol, address, port) of every endpoint that connections are sent to."""
    found = (_DESTINATION.search(line) for lines in rules.nat.owned.values() for line in lines if " DNAT " in line)
    return {(match[1], match[2], int(match[3])) for match in found if match}


def chain_name(sort: str, *identity: object) -> str:
    """Return `LABCTL-SVC-` and 16 letters; xtables allows 28. The same identity has the same name on every machine and after every restart."""
    digest = hashlib.sha256("\n".join(map(str, identity)).encode()).digest()
    return f"{PREFIX}{sort}-{base64.b32encode(digest[:10]).decode()}"


@lru_cache(maxsize=4096)
def probability(one_of: int) -> str:
    """Return 1/one_of as the kernel keeps it (31 bits) and iptables-save prints it, exact to the last digit."""
    return f"{round((1 << 31) / one_of) / (1 << 31):.11f}"
