"""The types of faults that there are: what each may hit, and which parameters it takes. The kind Fault validates by this table.

What a type does is said by its deed, below labctl/faults/deeds/. A new type is one row here, and one deed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from labctl.resources import amounts, quantities


class Parameter(msgspec.Struct, frozen=True):
    """How a parameter is read. `parse` raises ValueError with what is expected."""

    parse: Callable[[str], object]
    required: bool = False


class FaultType(msgspec.Struct, frozen=True):
    """`targets` are forms of a target: machine, pod, master, client. A fault that is `once` is over as soon as it was done: there is nothing to heal."""

    targets: tuple[str, ...]
    summary: str  # a sentence for people
    example: str  # what people type after the type
    parameters: Mapping[str, Parameter] = {}
    once: bool = False
    link: bool = False  # it acts on a link, and may have a peer and a direction


def one_of(*words: str) -> Callable[[str], str]:
    """Returns a parser that takes these words only."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def size(text: str) -> int:
    """Returns bytes: `64Mi`."""
    found = int(quantities.parse(text)) if re.fullmatch(r"\d{1,9}(\.\d{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)", text) else 0
    if not 0 < found < 1 << 50:
        raise ValueError('must be a size with its unit, such as "64Mi" or "2Gi"')
    return found


class SizeOrShare(msgspec.Struct, frozen=True):
    """An amount in bytes, or in percent of a whole that only the machine knows."""

    bytes: int = 0
    percent: float = 0.0

    def told(self) -> Mapping[str, float]:
        """Returns it as an agent takes it."""
        return {"percent": self.percent} if self.percent else {"bytes": self.bytes}


def size_or_share(text: str) -> SizeOrShare:
    """Returns an amount: `64Mi`, `80%`, `0.5%`. More than the whole is allowed: `150%` of a limit crosses it."""
    if re.fullmatch(r"\d{1,4}(\.\d{1,3})?%", text) and 0 < float(text[:-1]) <= 1000:
        return SizeOrShare(percent=float(text[:-1]))
    try:
        return SizeOrShare(bytes=size(text))
    except ValueError:
        raise ValueError('must be a size with its unit, such as "64Mi", or a share in percent, such as "80%"') from None


def count(text: str) -> float:
    """Returns a number greater than 0: `1.5`."""
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text) or float(text) <= 0:
        raise ValueError('must be a number greater than 0, such as "2" or "0.5"')
    return float(text)


def signed_duration(text: str) -> float:
    """Returns seconds, with a sign: `-30s`, `+5m`."""
    found = amounts.duration(text.lstrip("+-")) if len(text) < 40 else 0.0
    return -found if text.startswith("-") else found


def short_time(text: str) -> float:
    """Returns seconds: `50ms`. A packet or an answer is held back for no longer than a minute."""
    seconds = amounts.duration(text)
    if not 0 < seconds <= DELAY_MAX_S:
        raise ValueError(f"must be greater than 0 and at most {DELAY_MAX_S:.0f}s")
    return seconds


DELAY_MAX_S = 60.0
TIME, SHARE = Parameter(short_time), Parameter(amounts.share)
NEEDED_TIME, NEEDED_SHARE = Parameter(short_time, required=True), Parameter(amounts.share, required=True)
SIZE, CPUS, RATE = Parameter(size), Parameter(count), Parameter(amounts.rate, required=True)
AMOUNT, NEEDED_AMOUNT = Parameter(size_or_share), Parameter(size_or_share, required=True)

TYPES: Mapping[str, FaultType] = {
    "power-off": FaultType(("machine",), "Cut a machine's power.", "minion-1 --for 30s"),
    "reset": FaultType(("machine",), "Cut a machine's power and boot it again at once.", "minion-1", once=True),
    "pause": FaultType(("machine",), "Let a machine stand still, with all that it holds.", "minion-1 --for 10s"),
    "cut": FaultType(("machine",), "Let no packet pass on a machine's link.", "minion-1 --to minion-2 --for 30s", link=True),
    "delay": FaultType(
        ("machine",), "Delay each packet.", "minion-1 -p time=50ms -p jitter=5ms", {"time": NEEDED_TIME, "jitter": TIME}, link=True
    ),
    "jitter": FaultType(("machine",), "Delay each packet by a random time.", "minion-1 -p time=20ms", {"time": NEEDED_TIME}, link=True),
    "loss": FaultType(
        ("machine",), "Lose a share of the packets.", "minion-1 -p share=10% --direction in", {"share": NEEDED_SHARE}, link=True
    ),
    "rate": FaultType(("machine",), "Let a link pass no more than this rate.", "minion-1 -p rate=1mbit", {"rate": RATE}, link=True),
    "duplicate": FaultType(("machine",), "Send a share of the packets twice.", "minion-1 -p share=10%", {"share": NEEDED_SHARE}, link=True),
    "kill-container": FaultType(("pod",), "Kill a container with SIGKILL.", "pod/default/web-1", once=True),
    "stop-container": FaultType(("pod",), "Stop a container's processes with SIGSTOP.", "pod/default/web-1 --for 10s"),
    "burn-cpu": FaultType(("pod",), "Use up processor time inside a pod.", "pod/default/web-1 -p cpus=2 --for 30s", {"cpus": CPUS}),
    "burn-memory": FaultType(("pod",), "Use up memory inside a pod.", "pod/default/web-1 -p size=80% --for 30s", {"size": NEEDED_AMOUNT}),
    "kill-process": FaultType(
        ("machine", "master"),
        "Kill a process of labctl's own: agent, helper, dns or sshd of a machine; master or ssh of the master.",
        "minion-1 -p process=agent",
        {"process": Parameter(one_of("agent", "helper", "dns", "sshd", "ssh", "master"))},
        once=True,
    ),
    "fill-disk": FaultType(("machine",), "Fill a machine's disk.", "minion-1 -p left=1% --for 30s", {"left": AMOUNT}),
    "slow-disk": FaultType(
        ("machine",),
        "Slow a machine's disk down.",
        "minion-1 -p rate=1Mi --for 30s",
        {"rate": SIZE, "operations": Parameter(one_of("read", "write", "both"))},
    ),
    "flush-rules": FaultType(
        ("machine",),
        "Remove the rules of Services from a machine, or from all.",
        "minion-1",
        {"table": Parameter(one_of("nat", "filter", "all"))},
        once=True,
    ),
    "skew-clock": FaultType(
        ("machine",), "Set a machine's own clock wrong.", "minion-1 -p by=5m", {"by": Parameter(signed_duration, required=True)}
    ),
    "api-delay": FaultType(
        ("client",), "Answer a client's requests late.", "client/labctl-admin -p time=200ms", {"time": NEEDED_TIME, "share": SHARE}
    ),
    "api-refuse": FaultType(
        ("client",),
        "Refuse a client's requests with 429, 500 or 503.",
        "client/system:node:minion-1 -p code=503 -p share=50%",
        {"code": Parameter(one_of("429", "500", "503")), "share": SHARE, "retry-after": TIME},
    ),
    "fail-pulls": FaultType(("machine",), "Let a machine's image pulls fail, or those of all.", "minion-1 --for 30s"),
    "fail-dns": FaultType(
        ("machine",),
        "Let the DNS server of a machine fail, or those of all.",
        "minion-1 -p mode=servfail --for 30s",
        {"mode": Parameter(one_of("servfail", "drop"))},
    ),
}

PEER_MASTER = "master"


def form(target: str) -> str:
    """Returns the form of a target: machine, pod, master, client; empty if it has none of them."""
    first, slash, rest = target.partition("/")
    if not slash:
        return "master" if first == "master" else "machine" if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", first) else ""
    if first == "client":
        return "client" if 0 < len(rest) <= 253 and rest.isprintable() else ""
    parts = rest.split("/")
    return "pod" if first == "pod" and len(parts) in (2, 3) and all(parts) else ""
