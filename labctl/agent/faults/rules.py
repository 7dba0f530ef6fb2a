"""Flushes labctl's chains of iptables, as somebody's script would who does not know them. The helper notices it, and the proxy repairs them."""

from __future__ import annotations

from typing import List, Sequence

from ..helper import check
from ..helper.iptables import OTHERS, PREFIX, Iptables
from .request import Request

TABLES = {"nat": ("nat",), "filter": ("filter",), "all": ("nat", "filter")}


def look(asked: Request) -> str:
    tables = _tables(asked)
    return "" if _chains(tables)[1] else f"there are no rules of labctl's in {' and '.join(tables)}"


def flush(asked: Request) -> Sequence[str]:
    """Empty the chains in one restore, so that no packet sees half of it. The chains stay."""
    chains, rules = _chains(_tables(asked))
    lines: List[str] = []
    for table, names in chains.items():
        lines += [f"*{table}", *(f":{name} - [0:0]" for name in names), "COMMIT"]
    Iptables().restore("\n".join([*lines, ""]))
    return [f"flushed {sum(map(len, chains.values()))} chains with {rules} rules in {' and '.join(chains)}"]


def _tables(asked: Request) -> Sequence[str]:
    return TABLES[check.one_of(asked.parameters.get("table", "all"), tuple(TABLES))]


def _chains(tables: Sequence[str]) -> tuple:
    """Return (table -> the proxy's chains, the number of their rules). The chains of the pod network are left alone."""
    chains: dict = {}
    rules = 0
    table = ""
    for line in Iptables().read().splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table in tables and line.startswith(f":{PREFIX}"):
            name = check.name(line[1:].split(" ", 1)[0])
            if name not in OTHERS:
                chains.setdefault(table, []).append(name)
        elif table in tables and line.startswith(f"-A {PREFIX}"):
            rules += line.split(" ", 2)[1] not in OTHERS
    return chains, rules
