"""The figures: what each is called, its unit, what it aims at. Groups measure samples; a figure's value is their median, beside it the best.

A figure that has no aim is there to be compared with another one.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One line of the table. `more` is better for rates; for all else less is."""

    key: str
    text: str
    unit: str
    aim: float | None = None
    more: bool = False

    def meets(self, value: float) -> bool:
        return self.aim is None or (value >= self.aim if self.more else value <= self.aim)


NETWORKS = ("route", "vxlan", "ovs", "bgp")
_WAYS = {"link": "the bare link", "pod": "pod to pod", "vip": "pod to VIP"}
ON_VMS = "vm-"


def _network_figures(prefix: str, machines: str) -> Iterator[Figure]:
    for network in NETWORKS:
        for way, text in _WAYS.items():
            key, what = f"{prefix}{network}-{way}", f"{machines}{network}: {text}"
            yield Figure(f"{key}-rate", f"{what}, one TCP stream", "MB/s", more=True)
            yield Figure(f"{key}-trip", f"{what}, round trip of a byte, p50", "µs")
            yield Figure(f"{key}-connect", f"{what}, connection and a round trip, p50", "µs")


FAULT_CASES = {
    "kill-container": "container killed",
    "stop-container": "container stopped for 6 s",
    "burn-cpu": "CPU burnt in a container",
    "burn-memory": "container's memory limit crossed",
    "power-off": "machine powered off",
    "reset": "machine reset",
    "kill-agent": "agent killed",
    "kill-helper": "helper killed",
    "kill-sshd": "sshd killed",
    "kill-ssh": "master's SSH process killed",
    "flush-rules": "rules flushed",
    "fail-dns": "a machine's DNS fails",
    "fail-pulls": "a machine's image pulls fail",
    "slow-disk": "a machine's disk is slow",
    "pause": "machine paused for 8 s, `--timing kubernetes`",
    "cut": "machine cut off for 8 s",
    "loss": "a machine's link loses 10 %",
    "delay": "a machine's link is late by 50 ms",
    "rate": "a machine's link passes 1 Mbit/s",
    "api-delay": "an agent's API is late by 200 ms",
    "api-refuse": "an agent's API answers 503",
    "singleton": "machine of the only replica powered off",
    "silent": "machine paused for 8 s, `--timing lab`",
}
"""The cases of the group `faults`: their names, and what happened, for people."""
_COSTS = {
    "reaction": "until the first reaction",
    "repair": "then until the replacement is ready",
    "recovery": "then until all requests are answered",
    "outage": "until all requests are answered",
    "errors": "from the first failed request to the last",
    "failed": "failed requests",
}
_FAULT_AIMS: dict[str, float] = {
    "kill-container-errors": 0.1,
    "power-off-outage": 0.3,
    "silent-outage": 3,
    "singleton-outage": 1.5,
    "kill-agent-failed": 0,
    "kill-helper-failed": 0,
    "kill-ssh-failed": 0,
    "fail-pulls-failed": 0,
    "api-delay-failed": 0,
    "api-refuse-failed": 0,
}


def _fault_figures() -> Iterator[Figure]:
    for case, happened in FAULT_CASES.items():
        for cost, text in _COSTS.items():
            yield Figure(f"fault-{case}-{cost}", f"{happened}: {text}", "" if cost == "failed" else "s", _FAULT_AIMS.get(f"{case}-{cost}"))
    # of 200 requests a second from each of three minions
    yield Figure("fault-drain-failed", "drain of a machine: failed", "", 0)
    yield Figure("fault-rollout-failed", "rolling update: failed", "", 0)
    yield Figure("fault-master-failed", "master killed and started: failed", "", 0)


FIGURES: tuple[Figure, ...] = (
    Figure("help", "`labctl --help`", "s", 0.2),
    Figure("control-plane", "control plane: from nothing to answering", "s", 0.6),
    Figure("up", "`up --minions 2` to both Ready, root file system cached", "s", 1.5),
    Figure("rc-running", "`create -f rc` to 2 pods Running", "s", 0.3),
    Figure("up-create", "from nothing to two pods behind a VIP that answers: `up`, `create`", "s"),
    Figure("up-from", "the same lab by `up --from SNAPSHOT`", "s"),
    Figure("restore", "the same lab, while it runs, by `snapshot restore`", "s"),
    Figure("snapshot-save", "`snapshot save` of it", "s", 1.0),
    Figure("snapshot-pause", "its machines stand still", "ms", 500),
    Figure("pod-out", "pod killed: out of every minion's VIP rules", "s", 0.2),
    Figure("pod-replaced", "pod killed: its replacement in every minion's VIP rules", "s", 1.0),
    Figure("node-out", "node powered off: VIP clean on the others", "s", 0.5),
    Figure("node-replaced", "node powered off: replacements in the VIP", "s", 1.0),
    Figure("failed-scale-down", "failed requests: scale 4 to 2", "", 0),
    Figure("failed-drain", "failed requests: drain of a node", "", 0),
    Figure("failed-rolling", "failed requests: 4 pods deleted one by one", "", 0),
    Figure("failed-agent", "failed requests: every agent killed", "", 0),
    Figure("failed-master", "failed requests: master killed and started", "", 0),
    Figure("vip-10", "one more Service at 10, until it answers from both minions", "ms", 50),
    Figure("vip-100", "one more Service at 100", "ms", 50),
    Figure("vip-1000", "one more Service at 1,000", "ms", 50),
    Figure("name-10", "one more Service at 10, until its name resolves on both minions", "ms", 50),
    Figure("name-1000", "the same at 1,000", "ms", 50),
    Figure("name-rate", "DNS queries answered by one minion: one name", "/s", 5_000, more=True),
    Figure("name-rate-new", "the same: another name in each query", "/s", 5_000, more=True),
    Figure("master-memory", "master: resident memory", "MB", 90),
    Figure("ssh-memory", "its SSH process: resident memory", "MB", 45),
    Figure("agent-memory", "agent with 20 pods: resident memory", "MB", 32),
    Figure("master-cpu", "master: idle CPU", "%", 1),
    Figure("ssh-cpu", "its SSH process: idle CPU", "%", 1),
    Figure("agent-cpu", "agent with 20 pods: idle CPU", "%", 1),
    Figure("get-p50", "GET of a pod, 1 client, p50", "ms", 0.6),
    Figure("get-p99", "GET of a pod, 1 client, p99", "ms", 1.5),
    Figure("get-10", "GET, 10 clients", "/s", 9000, more=True),
    Figure("get-32", "GET, 32 clients", "/s", more=True),
    Figure("create-1", "CREATE of ConfigMaps, 1 client", "/s", 1000, more=True),
    Figure("create-10", "CREATE of ConfigMaps, 10 clients", "/s", 3000, more=True),
    Figure("create-pods-10", "CREATE of Pods, 10 clients", "/s", 2000, more=True),
    Figure("list", "LIST of 1,000 Running-sized pods, resourceVersion unset", "ms", 10),
    Figure("list-0", "LIST of 1,000 Running-sized pods, resourceVersion 0", "ms", 10),
    Figure("watch-10", "write to the last of 10 watchers", "ms"),
    Figure("watch-100", "write to the last of 100 watchers", "ms", 8),
    Figure("watch-100-cpu", "the server's own share of that", "ms", 2),
    Figure("crd-create", "200 custom kinds of 60 KB: creation of one more", "ms", 50),
    Figure("crd-discovery", "... aggregated discovery after it", "ms", 20),
    Figure("crd-v3", "... from its creation's start until OpenAPI v3 shows it", "ms", 100),
    Figure("crd-v2", "... until OpenAPI v2 shows it, all of it read", "ms", 100),
    Figure("crd-v2-gzip", "... the same compressed", "ms", 100),
    Figure("crd-v2-protobuf", "... the same as protobuf", "ms", 100),
    Figure("rc-1000", "RC of 1,000 bound on 10 fake nodes", "s", 1),
    Figure("bind-plain", "1,000 pods of 10 Deployments bound over 100 simulated nodes", "s"),
    Figure("bind-anti-affinity", "... each of a Deployment on a node of its own", "s", 3),
    Figure("bind-spread", "... spread over nodes, and rather over zones", "s"),
    Figure("scale-start", "simulated lab: processor time for each of 1,500 pods that start on 50 nodes", "ms", 4),
    Figure("scale-growth", "... in a lab four times as large, divided by that", "", 1.1),
    Figure("scale-deaths", "... for each pod that moves when a tenth of the nodes dies", "ms"),
    Figure("scale-rate", "... decisions for each second of processor time", "/s", more=True),
    Figure("scale-memory", "... memory for each further pod", "KiB", 20),
    Figure("get-p99-busy", "GET p99 while 10 minions are pushed and programmed", "ms", 5),
    Figure("measure-cpu", "`labctl measure` at 1,000 requests/s: its share of a core on its machine", "%", 15),
    Figure("measure-cpu-kept", "... with kept connections", "%"),
    Figure("measure-cpu-200", "... at 200/s, the default", "%"),
    Figure("measure-cpu-asyncio", "the same 1,000 requests/s by asyncio's streams", "%"),
    Figure("measure-late", "how late a request begins at 1,000/s, p50", "µs"),
    Figure("rules-full", "rules of 1,000 Services to one minion, by helper alone", "ms"),
    Figure("rules-repair", "1,000 Services: flushed rules repaired", "ms"),
    *_fault_figures(),
    *_network_figures("", ""),
    Figure("vm-ssh", "virtual machine: from its start until sshd answers", "s", 8),
    Figure("vm-up", "`up --minions 2 --provider vagrant` to both Ready, box built", "s"),
    Figure("vm-memory", "resident memory of a virtual machine of 1 GB with a Ready node", "MB"),
    Figure("vm-up-create", "virtual machines: from nothing to two pods behind a VIP that answers", "s"),
    Figure("vm-up-from", "the same lab by `up --from SNAPSHOT`", "s", 5),
    Figure("vm-snapshot-save", "`snapshot save` of it, memory and all", "s"),
    Figure("vm-snapshot-pause", "its machines stand still", "ms"),
    Figure("vm-node-out", "virtual machine powered off: VIP clean on the other", "s", 0.5),
    Figure("vm-node-replaced", "virtual machine powered off: replacements in the VIP", "s"),
    *_network_figures(ON_VMS, "virtual machines, "),
)
BY_KEY = {figure.key: figure for figure in FIGURES}


@dataclass
class Measured:
    """Samples of one figure, and a word about them."""

    figure: Figure
    samples: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        return max(self.samples) if self.figure.more else min(self.samples)

    @property
    def reached(self) -> str:
        """yes; at best (a quiet moment shows it, the median does not); no; nothing without an aim."""
        if self.figure.aim is None:
            return ""
        return "yes" if self.figure.meets(self.value) else "at best" if self.figure.meets(self.best) else "no"


class Report:
    """What was measured so far, in the table's order."""

    def __init__(self) -> None:
        self._measured: dict[str, Measured] = {}

    def add(self, key: str, samples: float | Iterable[float], note: str = "") -> None:
        measured = self._measured.setdefault(key, Measured(BY_KEY[key]))
        measured.samples += [samples] if isinstance(samples, int | float) else list(samples)
        measured.note = note or measured.note

    def __iter__(self) -> Iterator[Measured]:
        return (self._measured[figure.key] for figure in FIGURES if self._measured.get(figure.key, Measured(figure)).samples)

    def as_json(self) -> dict[str, object]:
        return {
            measured.figure.key: {
                "figure": measured.figure.text,
                "value": measured.value,
                "best": measured.best,
                "samples": measured.samples,
                "unit": measured.figure.unit,
                "aim": measured.figure.aim,
                "reached": measured.reached,
                "note": measured.note,
            }
            for measured in self
        }
