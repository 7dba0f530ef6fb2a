"""The forwarder's keeper: starts it when there is something to forward, tells it what, and notices when it is gone.

The forwarder is a process of its own session: connections through it outlive this helper, the master and the SSH connection. They speak over a Unix
socket, frames of JSON as everywhere. A forwarder of another agent version is told to end and replaced.
"""

from __future__ import annotations

import subprocess
from typing import Any, Dict, List

from . import check, commands
from .companion import Companion

SOCKET = "/run/labctl-forwarder.sock"
PORTS_MAX = 10_000
_PROTOCOLS = ("TCP", "UDP")
_NOTHING: Dict[str, Any] = {"ports": 0, "failed": {}}


class Forwarder:
    """`program` is this zipapp: the forwarder is another subcommand of it."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._companion = Companion("forwarder", SOCKET, self._start)

    def serve(self, params: Dict[str, Any]) -> dict:
        """{"whole": bool, "set": [port...], "remove": [id...]}. `whole`: nothing else is served any more. Nothing at all ends the process."""
        whole, ports = bool(params.get("whole")), [_port(port) for port in params.get("set", ())]
        remove = [check.name(one) for one in params.get("remove", ())]
        if len(ports) > PORTS_MAX:
            raise check.Refused("too many ports")
        if whole and not ports:
            self._companion.end()
            return dict(_NOTHING)
        request = {"whole": whole, "set": ports, "remove": remove, "program": self._program}
        return self._companion.ask(request, start=bool(ports)) or dict(_NOTHING)

    def lost(self) -> bool:
        """True once, when a forwarder that served has ended."""
        return self._companion.lost()

    def _start(self) -> None:
        words = ["/usr/bin/python3", self._program, "forwarder", "--socket", SOCKET]
        quiet = subprocess.DEVNULL
        subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/", env={"PATH": commands.PATH})


def _port(port: Dict[str, Any]) -> Dict[str, Any]:
    """{"id", "protocol", "address", "port", "backends": [[address, port]...], "affinityS"}: where it listens, and who serves."""
    backends: List[List[Any]] = [[check.address(address), check.port(number)] for address, number in port["backends"]]
    return {
        "id": check.name(port["id"]),
        "protocol": check.one_of(port["protocol"], _PROTOCOLS),
        "address": check.address(port["address"]),
        "port": check.port(port["port"]),
        "backends": backends,
        "affinityS": check.number(port.get("affinityS", 0), 0, 86400),
    }
