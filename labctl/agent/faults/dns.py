"""Lets the machine's DNS server answer every query with SERVFAIL, or not at all. Pods and the machine itself ask it."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, Dict, Sequence

from ..dns import main as server
from ..helper import check
from .request import Request

MODES = {"servfail": "answers every query with SERVFAIL", "drop": "answers no query"}
ANSWER_S = 5.0


def look(asked: Request) -> str:
    check.one_of(asked.parameters.get("mode"), tuple(MODES))
    return "" if _ask({"failing": None}) else "no DNS server of labctl's runs here"


def fail(asked: Request) -> Sequence[str]:
    mode = check.one_of(asked.parameters.get("mode"), tuple(MODES))
    if not _ask({"failing": mode}):
        raise OSError("no DNS server of labctl's runs here")
    return [f"the DNS server {MODES[mode]}"]


def mend(_asked: Request) -> Sequence[str]:
    """End the fault. If the server does not run, change its file, so that its successor does not fail either."""
    if _ask({"failing": ""}):
        return ["the DNS server answers again"]
    server.forget_failing()
    return ["the DNS server did not run"]


def _ask(request: Dict[str, Any]) -> bool:
    """Tell whether a server took the request. Raises OSError if it is not of this version of the agent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(server.SOCKET)
        except OSError:
            return False
        body = json.dumps({"program": os.path.realpath(sys.argv[0]), **request}).encode()
        connection.sendall(len(body).to_bytes(4, "big") + body)
        answered = connection.recv(1 << 16)
    said = json.loads(answered[4:] or b"{}")
    if said.get("error") or "failing" not in said:
        raise OSError(said.get("error") or "the DNS server is of another version of labctl, and is being replaced")
    return True
