"""Connections the kernel remembers. UDP has no end, so its entries go on sending to an endpoint that is gone; they are removed here.

TCP's entries are removed only where the master says so: when the endpoint is dead, its clients shall know at once instead of waiting.
"""

from __future__ import annotations

from typing import Any, List

from . import check, commands

ENTRIES_MOST = 2000


def forget(entries: Any) -> dict:
    """Each entry: {"protocol", "address", "port"} of an endpoint that is gone. Answers how many kinds of entries were found."""
    if not isinstance(entries, list) or len(entries) > ENTRIES_MOST:
        raise check.Refused("conntrack takes a bounded list")
    if not commands.installed("conntrack"):
        return {"deleted": 0, "missing": True}
    return {"deleted": sum(commands.attempt(words)[0] == 0 for words in [_words(entry) for entry in entries]), "missing": False}


def _words(entry: Any) -> List[str]:
    protocol = check.one_of(entry["protocol"], ("udp", "tcp", "sctp"))
    address, port = check.address(entry["address"]), check.port(entry["port"])
    return ["conntrack", "-D", "-p", protocol, "--reply-src", address, "--reply-port-src", str(port)]
