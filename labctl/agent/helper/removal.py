"""Removes what the helper put into this machine's kernel: chains, the jumps to them, routes, devices, and its daemons.

Who calls it: `agent clean`, when no helper runs any more. It finds everything by name or number, without any record, and changes nothing else.
The devices that a network plug-in makes have names that begin with LINK_PREFIX, so they are removed too.
"""

from __future__ import annotations

import json
from typing import List

from . import bird, commands, names, ovs, userspace
from .iptables import PREFIX
from .network import PROTOCOL

LINK_PREFIX = "labctl"
_FLAVOURS = ("iptables", "iptables-nft", "iptables-legacy")  # a lab may have been told to use another than the machine's own
_TABLES = ("filter", "nat", "mangle", "raw")


def remove() -> List[str]:
    """Remove everything. Return one line for each thing that could not be removed."""
    left: List[str] = []
    for step in (_forwarder, names.remove, _loopback, _rules, _routes, bird.remove, ovs.remove, _links):
        try:
            step()
        except (commands.Failed, OSError, ValueError) as error:
            left.append(str(error))
    return left


def _forwarder() -> None:
    userspace.Forwarder("").serve({"whole": True, "set": []})


def _loopback() -> None:
    """Stop routing loopback addresses, because the rule that protected them is removed too."""
    with open("/proc/sys/net/ipv4/conf/all/route_localnet", "w") as file:
        file.write("0")


def _rules() -> None:
    for flavour in _FLAVOURS:
        if commands.installed(f"{flavour}-save"):
            lines = [
                line for table in _TABLES for line in _undone(table, commands.run([f"{flavour}-save", "-t", table], check=False).decode())
            ]
            if lines:
                commands.run([f"{flavour}-restore", "-w", "10", "--noflush"], "\n".join([*lines, ""]).encode())


def _undone(table: str, saved: str) -> List[str]:
    """Return lines for iptables-restore that delete the jumps to our chains, then empty and delete the chains. [] if the table has none of ours."""
    lines = saved.splitlines()
    chains = [line[1:].split(" ", 1)[0] for line in lines if line.startswith(":" + PREFIX)]
    if not chains:
        return []
    jumps = ["-D " + line[3:] for line in lines if line.startswith("-A ") and not line.startswith("-A " + PREFIX) and _to_us(line)]
    return [f"*{table}", *jumps, *(f"-F {chain}" for chain in chains), *(f"-X {chain}" for chain in chains), "COMMIT"]


def _to_us(rule: str) -> bool:
    return rule.rpartition(" -j ")[2].startswith(PREFIX)


def _routes() -> None:
    commands.run(["ip", "route", "flush", "proto", PROTOCOL])


def _links() -> None:
    for link in json.loads(commands.run(["ip", "-j", "link", "show"]) or b"[]"):
        if str(link["ifname"]).startswith(LINK_PREFIX):
            commands.run(["ip", "link", "delete", str(link["ifname"])])
