"""Keeps the forwarder running while there is something to forward, and tells it what to serve.

The forwarder is a companion in a session of its own, so connections through it outlive this helper, the master and the SSH connection. A forwarder of
another agent version is told to end and is replaced.
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
    """The helper's side of the forwarder. `program` is the path of the agent's zipapp, which has the forwarder as a subcommand."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._companion = Companion("forwarder", SOCKET, self._start)

    def serve(self, params: Dict[str, Any]) -> dict:
        """Serve ports: {"whole": bool, "set": [port...], "remove": [id...]}. Returns {"ports": how many, "failed": {id: why}}.

        With `whole` no other port is served any more, and the process ends if there is none at all. Raises Refused, Failed.
        """
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
        """Return True once when a forwarder that served has ended."""
        return self._companion.lost()

    def _start(self) -> None:
        words = ["/usr/bin/python3", self._program, "forwarder", "--socket", SOCKET]
        quiet = subprocess.DEVNULL
        subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/", env={"PATH": commands.PATH})


def _port(port: Dict[str, Any]) -> Dict[str, Any]:
    """Check a port: {"id", "protocol", "address", "port", "backends": [[address, port]...], "affinityS"}. Raises Refused."""
    backends: List[List[Any]] = [[check.address(address), check.port(number)] for address, number in port["backends"]]
    return {
        "id": check.name(port["id"]),
        "protocol": check.one_of(port["protocol"], _PROTOCOLS),
        "address": check.address(port["address"]),
        "port": check.port(port["port"]),
        "backends": backends,
        "affinityS": check.number(port.get("affinityS", 0), 0, 86400),
    }
