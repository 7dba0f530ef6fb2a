"""The requests that the master may send, one function each. Everything is checked before anything is done.

facts      tells what this machine's iptables can do
apply      applies rules in one restore; a table changes as a whole or not at all
dump       returns our rules as they are
digest     returns a hash of our rules
conntrack  deletes tracked connections that the new rules would lead elsewhere
network    sets routes, forwarding and masquerade from the whole plan
forward    sets what the forwarder serves, in userspace mode (`userspace.py`)
usage      returns what this machine and its containers have used (`usage.py` of the agent)
announce   sets the load balancers' addresses that this machine answers (`announce.py`)
dns        sets the names that this machine's DNS server answers (`names.py`)
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from . import check, commands, conntrack, names, userspace
from .iptables import Iptables, digest
from .network import Network
from .syns import GROUP, Syns

if TYPE_CHECKING:
    from . import announce


class Methods:
    """Answers the master's requests. One object lives as long as the helper; `program` is the path of the agent's zipapp."""

    def __init__(self, program: str) -> None:
        self._iptables: Optional[Iptables] = None
        self._network = Network()
        self._syns = Syns()
        self._forwarder = userspace.Forwarder(program)
        self._names = names.Names(program)
        self._announced: Optional[announce.Announced] = None
        self._cgroup_root: Optional[str] = None  # the agent's settings say it

    def answer(self, method: str, params: Dict[str, Any]) -> Any:
        """Do what `method` asks for. Raises Refused, Failed, OSError, KeyError, TypeError or ValueError if it is refused or fails."""
        ask: Optional[Callable[[Dict[str, Any]], Any]] = getattr(self, f"do_{method}", None)
        if ask is None:
            raise check.Refused(f"no method {method!r}")
        return ask(params)

    def unasked(self) -> Optional[dict]:
        """Return what the master should know without asking, or None: somebody changed our rules or routes, or a companion process ended. It is cheap."""
        self._syns.take()
        found = self._iptables.look() if self._iptables else None
        said = {
            "rules": found or "",
            "routes": "lost" if self._network.lost() else "",
            "forwarder": "lost" if self._forwarder.lost() else "",
            "dns": "lost" if self._names.lost() else "",
            "announced": "lost" if self._announced is not None and self._announced.lost() else "",
        }
        return said if any(said.values()) else None

    def iptables(self) -> Iptables:
        """Return the machine's iptables, in the flavour that the master chose with `facts`, or else in the machine's own."""
        if self._iptables is None:
            self._iptables = Iptables()
        return self._iptables

    def do_facts(self, params: Dict[str, Any]) -> dict:
        flavour = check.one_of(params.get("flavour", "auto"), ("auto", "nft", "legacy"))
        self._iptables = Iptables(flavour)
        asked = (
            "-m recent --rcheck --name LABCTL-PROBE -j RETURN",
            "-j MASQUERADE --random-fully",
            f"-p tcp -j NFLOG --nflog-group {GROUP}",
        )
        recent, random_fully, log = self._iptables.can(*asked)
        return {
            "flavour": self._iptables.flavour,
            "version": self._iptables.version,
            "recent": recent,
            "randomFully": random_fully,
            "log": log,
            "conntrack": commands.installed("conntrack"),
        }

    def do_apply(self, params: Dict[str, Any]) -> dict:
        rules, commits = check.rules(params["rules"]), check.number(params["commits"], 1, 100_000)
        began = time.monotonic()
        self.iptables().apply(rules, commits)
        return {"ms": round((time.monotonic() - began) * 1000, 1)}

    def do_dump(self, _params: Dict[str, Any]) -> dict:
        return {"rules": self.iptables().dump()}

    def do_digest(self, _params: Dict[str, Any]) -> dict:
        return {"rules": digest(self.iptables().dump())}

    def do_conntrack(self, params: Dict[str, Any]) -> dict:
        return conntrack.forget(params, self._syns)

    def do_network(self, params: Dict[str, Any]) -> dict:
        return self._network.program(params, self.iptables())

    def do_usage(self, _params: Dict[str, Any]) -> dict:
        from .. import settings, usage  # imported late: most helpers are never asked

        try:
            if self._cgroup_root is None:
                self._cgroup_root = settings.read(settings.PATH).cgroup_root if os.path.exists(settings.PATH) else ""
        except settings.BadSettings as error:
            raise check.Refused(str(error)) from None
        return usage.read(self._cgroup_root)

    def do_forward(self, params: Dict[str, Any]) -> dict:
        return self._forwarder.serve(params)

    def do_announce(self, params: Dict[str, Any]) -> dict:
        if self._announced is None:
            from . import announce  # only where there is a load balancer

            self._announced = announce.Announced()
        return self._announced.serve(params)

    def do_dns(self, params: Dict[str, Any]) -> dict:
        return self._names.serve(params)
