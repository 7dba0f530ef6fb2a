"""Keeps this machine's DNS server (agent/dns) running, and lets the machine itself use it.

Who calls it: methods.py, with what the master sends. The server is a companion, so it outlives this helper, the master and the SSH connection.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, List

from ..dns import main as dns
from . import check
from .companion import Companion

KEYS_MAX = 100_000
_HEADER = "# Written by labctl. What was here before is in " + dns.KEPT_RESOLVER + ".\n"


class Names:
    """The names that the DNS server answers. `program` is the path of the agent's zipapp."""

    def __init__(self, program: str) -> None:
        self._companion = Companion("DNS server", dns.SOCKET, lambda: dns.fork(program))
        self._program = program

    def serve(self, params: Dict[str, Any]) -> dict:
        """Give the server names: {"whole": bool, "settings": {...}, "set": {key: rows}, "remove": [key], "resolver": bool}.

        With `whole` it forgets all other names. With `resolver` the machine itself asks this server too. Raises Refused, Failed and OSError.
        """
        if len(params.get("set", ())) > KEYS_MAX:
            raise check.Refused("too many names")
        settings = _settings(params["settings"])
        if params.get("resolver"):
            use(settings["server"])
        rows, remove = dict(params.get("set", {})), [str(key) for key in params.get("remove", ())]
        request = {"program": self._program, "whole": bool(params.get("whole")), "settings": settings, "set": rows, "remove": remove}
        answer = self._companion.ask(request) or {}
        if answer.get("error"):
            raise OSError(answer["error"])
        return {"names": answer["names"], "failed": answer["failed"], "mistake": answer["mistake"]}

    def lost(self) -> bool:
        """Return True once when the server has ended."""
        return self._companion.lost()


def _settings(told: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "address": check.address(told["address"]),
        "port": check.port(told["port"]),
        "domain": check.name(told["domain"]),
        "server": check.address(told["server"]),
        "ranges": [check.network(each) for each in told["ranges"]],
        "clients": [check.network(each) for each in told["clients"]],
    }


def use(server: str) -> None:
    """Write our server into the machine's resolv.conf. What was there before is kept for the server, and for pods that want it."""
    ours = f"{_HEADER}nameserver {server}\n"
    with contextlib.suppress(OSError):
        if _read(dns.RESOLVER) == ours:
            return
    before = ""
    with contextlib.suppress(OSError):
        before = _read(dns.RESOLVER)
    if not before.startswith(_HEADER):
        os.makedirs(os.path.dirname(dns.KEPT_RESOLVER), exist_ok=True)
        _write(dns.KEPT_RESOLVER, before)
    _write(dns.RESOLVER, ours)


def remove() -> List[str]:
    """End the server and restore the machine's resolv.conf."""
    Companion("DNS server", dns.SOCKET, lambda: None).end()
    with contextlib.suppress(OSError):
        if _read(dns.RESOLVER).startswith(_HEADER):
            _write(dns.RESOLVER, _read(dns.KEPT_RESOLVER))
    for path in (dns.KEPT_RESOLVER, dns.STATE, dns.SOCKET):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return []


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(1 << 16)


def _write(path: str, text: str) -> None:
    """Replace the file, because it may be a link to another program's file. A mounted file can't be replaced, so it is overwritten."""
    fresh = f"{path}.labctl"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(fresh, 0o644)
    try:
        os.replace(fresh, path)
    except OSError:
        os.unlink(fresh)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
