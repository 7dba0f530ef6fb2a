"""Connections that the kernel remembers, and which of them are forgotten when the master says so. The master's proxy/flows.py has the rules and why.

UDP entries are looked through: one that was sent to a port which the master names goes, unless its answers come from an address that still serves it.
TCP entries go by the address and port of an endpoint that is dead; `revive.py` then spares their clients the wait.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, List, Set, Tuple

from . import check, commands, revive
from .syns import Syns

ENTRIES_MAX = 10_000
Front = Tuple[str, int]
Entry = Tuple[str, int, str]  # where it was sent, the port, who answers
_ENTRY = re.compile(r"src=\S+ dst=(\S+) sport=\d+ dport=(\d+) .*?src=(\S+) dst=")


def forget(params: Dict[str, Any], syns: Syns) -> dict:
    """{"udp": [{"address", "port", "serving": [address]}], "tcp": [{"address", "port"}]}; an empty address stands for all of this machine's own.
    The answer counts the deletions that found something, and the packets that were sent for clients of dead endpoints."""
    udp = {_front(each): {check.address(one) for one in _bounded(each["serving"])} for each in _bounded(params.get("udp", []))}
    tcp = [(check.address(each["address"]), check.port(each["port"])) for each in _bounded(params.get("tcp", []))]
    if not commands.installed("conntrack"):
        return {"deleted": 0, "sent": 0, "missing": True}
    syns.take()
    waiting = revive.connections(set(tcp)) if tcp else []
    deletions = [_delete("udp", "--orig-dst", to, "--orig-port-dst", port, "--reply-src", by) for to, port, by in sorted(_stale(udp))]
    deletions += [_delete("tcp", "--dst-nat", "--reply-src", address, "--reply-port-src", port) for address, port in tcp]
    deleted = sum(commands.attempt(words)[0] == 0 for words in deletions)
    return {"deleted": deleted, "sent": revive.revive(waiting, syns) if waiting else 0, "missing": False}


def _stale(served: Dict[Front, Set[str]]) -> Set[Entry]:
    """The UDP entries that nobody serves any more."""
    if not served:
        return set()
    own = _own_addresses() if any(not address for address, _ in served) else set()
    found = set()
    for to, port, by in _udp_entries():
        serving = served.get((to, port))
        if serving is None and to in own:
            serving = served.get(("", port))
        if serving is not None and by not in serving:
            found.add((to, port, by))
    return found


def _udp_entries() -> Iterator[Entry]:
    for line in commands.run(["conntrack", "-L", "-p", "udp"]).decode().splitlines():
        match = _ENTRY.search(line)
        if match:
            yield match[1], int(match[2]), match[3]


def _own_addresses() -> Set[str]:
    links = json.loads(commands.run(["ip", "-j", "-4", "address", "show"]))
    return {info["local"] for link in links for info in link.get("addr_info", ()) if "local" in info}


def _delete(protocol: str, *selection: Any) -> List[str]:
    return ["conntrack", "-D", "-p", protocol, *map(str, selection)]


def _front(entry: Dict[str, Any]) -> Front:
    return check.address(entry["address"]) if entry["address"] else "", check.port(entry["port"])


def _bounded(entries: Any) -> List[Any]:
    if not isinstance(entries, list) or len(entries) > ENTRIES_MAX:
        raise check.Refused("conntrack takes bounded lists")
    return entries
