"""Deletes entries of the kernel's connection tracking when the master says so. The rules, and why, are in the master's proxy/flows.py.

A UDP entry is deleted if it was sent to a port that the master names and its answers come from an address that no longer serves that port.
TCP entries are deleted by the address and port of a dead endpoint, and of an endpoint that only left those that it never answered.
Then `revive.py` makes their clients notice at once.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, List, Set, Tuple

from . import check, commands, revive
from .revive import UNANSWERED
from .syns import Syns

ENTRIES_MAX = 10_000
Front = Tuple[str, int]
Entry = Tuple[str, int, str]  # the address it was sent to, the port, the address that answers
_ENTRY = re.compile(r"src=\S+ dst=(\S+) sport=\d+ dport=(\d+) .*?src=(\S+) dst=")


def forget(params: Dict[str, Any], syns: Syns) -> dict:
    """Delete the entries that `params` names.

    `params`: {"udp": [{"address", "port", "serving": [address]}], "tcp": [{"address", "port"}], "unanswered": [{"address", "port"}],
    "unrouted": [{"address", "port"}]}, all optional. `unrouted` are addresses of Services that are served now.
    An empty address stands for all addresses of this machine.
    Returns {"deleted": deletions that found an entry, "sent": packets sent for clients of the endpoints, "missing": conntrack is not installed}.
    """
    udp = {_front(each): {check.address(one) for one in _bounded(each["serving"])} for each in _bounded(params.get("udp", []))}
    dead, left, came = (_ends(params.get(name, [])) for name in ("tcp", "unanswered", "unrouted"))
    if not commands.installed("conntrack"):
        return {"deleted": 0, "sent": 0, "missing": True}
    syns.take()
    tracked = revive.connections(dead | left) if dead or left else []
    waiting = [each for each in tracked if each.to in dead or each.state == UNANSWERED]
    deletions = [_delete("udp", "--orig-dst", to, "--orig-port-dst", port, "--reply-src", by) for to, port, by in sorted(_stale(udp))]
    # Only endpoints with tracked connections: most have none, and each deletion is a program that is started.
    for address, port in sorted({each.to for each in waiting}):
        state = () if (address, port) in dead else ("--state", UNANSWERED)
        deletions.append(_delete("tcp", "--dst-nat", *state, "--reply-src", address, "--reply-port-src", port))
    for address, port in sorted(_unrouted(came)):
        deletions.append(_delete("tcp", "--state", UNANSWERED, "--orig-dst", address, "--orig-port-dst", port, "--reply-src", address))
    deleted = sum(commands.attempt(words)[0] == 0 for words in deletions)
    return {"deleted": deleted, "sent": revive.revive(waiting, syns) if waiting else 0, "missing": False}


def _unrouted(came: Set[Front]) -> Set[Front]:
    """Return those of the addresses that connections were begun to which no rule led to an endpoint."""
    if not came:
        return set()
    found = (_ENTRY.search(line) for line in commands.lines(["conntrack", "-L", "-p", "tcp", "--state", UNANSWERED], check=False))
    return {(match[1], int(match[2])) for match in found if match and match[1] == match[3] and (match[1], int(match[2])) in came}


def _ends(entries: Any) -> Set[Front]:
    return {(check.address(each["address"]), check.port(each["port"])) for each in _bounded(entries)}


def _stale(served: Dict[Front, Set[str]]) -> Set[Entry]:
    """Return the UDP entries whose answers come from an address that no longer serves."""
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
    for line in commands.lines(["conntrack", "-L", "-p", "udp"]):
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
