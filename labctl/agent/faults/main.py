"""`agent fault`: one request as JSON on standard input, one answer as JSON on standard output.

Who calls it: the deeds of the master's room `faults`, over SSH. A request names the type of the fault, the fault, what to do, and the parameters:

    look     answers {"refused": why}, or {"refused": ""} if the fault can be made here. It changes nothing.
    inject   makes the fault and answers {"done": [sentences]}. It may be repeated: a fault that is there already is not made twice.
    heal     undoes it and answers {"done": [sentences]}. It may be repeated, and works where nothing was made.

No value of a request becomes part of a command line. What outlives a request is a process in keeper.py, a file, or a mode of the DNS server.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Callable, Dict, List

from ..helper.check import Refused
from ..helper.commands import Failed
from ..settings import Settings, read
from . import burn, clock, containers, disk, dns, processes, request, rules
from .request import Request

REQUEST_BYTES_MAX = 1 << 20
Step = Callable[[Request], Any]


class Type:
    """The three steps of one type of fault."""

    def __init__(self, look: Step, inject: Step, heal: Step) -> None:
        self.steps: Dict[str, Step] = {"look": look, "inject": inject, "heal": heal}


TYPES = {
    "kill-container": Type(containers.look, containers.kill, containers.nothing),
    "stop-container": Type(containers.look, containers.stop, containers.resume),
    "burn-cpu": Type(burn.look_cpu, burn.cpu, burn.heal),
    "burn-memory": Type(burn.look_memory, burn.memory, burn.heal),
    "kill-process": Type(processes.look, processes.kill, containers.nothing),
    "fill-disk": Type(disk.look_fill, disk.fill, disk.empty),
    "slow-disk": Type(disk.look_slow, disk.slow, disk.quicken),
    "flush-rules": Type(rules.look, rules.flush, containers.nothing),
    "skew-clock": Type(clock.look, clock.skew, clock.correct),
    "fail-dns": Type(dns.look, dns.fail, dns.mend),
}


def answer(told: Dict[str, Any], settings: Settings) -> Dict[str, Any]:
    """Carry out one request. Raises Refused if it is not what a master sends; Failed or OSError if the machine says no."""
    asked = request.parse(told, settings)
    if asked.type not in TYPES or asked.do not in TYPES[asked.type].steps:
        raise Refused(f"no fault {asked.type!r}, or nothing to do: {asked.do!r}")
    said = TYPES[asked.type].steps[asked.do](asked)
    return {"refused": said} if asked.do == "look" else {"done": list(said)}


def main(argv: List[str]) -> int:
    try:
        told = json.loads(sys.stdin.buffer.read(REQUEST_BYTES_MAX))
        said = answer(told, read(*argv[:1]))
    except (Refused, Failed, OSError, LookupError, TypeError, ValueError) as error:
        print(f"agent fault: {error or type(error).__name__}", file=sys.stderr)
        return 1
    print(json.dumps(said))
    return 0
