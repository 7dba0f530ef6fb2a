"""`python -m bench.compare OLD [NEW]`: the API of two source trees, measured in alternation in one run.

Machines differ from hour to hour, and other programs run beside the bench, so a figure of yesterday proves nothing about a change of today.
This program starts one server (`labctl up --minions 0`) for each source tree, measures each figure on one and then on the other, again and again,
and prints the ratio of the medians, of the best samples and of the master's CPU time: above 1.00 the new tree is the better one. It needs `ab` (apache2-utils).
Both trees run with this Python and its installed libraries. A tree of an older commit is made with `git worktree add FOLDER COMMIT`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import bodies, crds
from bench.api import PROBE, SPACE, Ab, emptied, fan_out, get_latencies, percentiles
from bench.figures import Report
from bench.footprint import look_at
from bench.lab import ROOT, BenchLab, wait
from labctl.lab.process import master_run

Measure = Callable[[BenchLab, Ab], list[float]]


def _rate(path: str, requests: int, clients: int) -> Measure:
    return lambda _lab, ab: [ab.rate(path, requests, clients)]


def _creates(requests: int, clients: int) -> Measure:
    return lambda _lab, ab: [ab.rate(f"{SPACE}/configmaps", requests, clients, bodies.config_map())]


def _pods(lab: BenchLab, ab: Ab) -> list[float]:
    with emptied(lab, "pods"):
        return [ab.rate(f"{SPACE}/pods", 500, 10, bodies.pod())]


def _latency(lab: BenchLab, _ab: Ab) -> list[float]:
    return [percentiles(get_latencies(lab, PROBE, 500))[0]]


def _watchers(count: int) -> Measure:
    def measure(lab: BenchLab, _ab: Ab) -> list[float]:
        report = Report()
        asyncio.run(fan_out(lab, count, report))
        lab.api.delete(f"{SPACE}/secrets")
        return [statistics.median(next(iter(report)).samples)]

    return measure


def _list(lab: BenchLab, ab: Ab) -> list[float]:
    with emptied(lab, "pods"):
        ab.rate(f"{SPACE}/pods", 1000, 10, bodies.pod())
        return [ab.mean_ms(f"{SPACE}/pods", 30)]


class _Server(BenchLab):
    """A lab whose master may be of another version than this program, so that it is only asked what every version answers."""

    @property
    def master(self) -> dict[str, Any]:
        return master_run(self.lab.paths)


def _custom_kind(key: str) -> Measure:
    def measure(lab: BenchLab, _ab: Ab) -> list[float]:
        crds.fill(lab)
        return [crds.one_more(lab, crds.READERS.get(key, crds.READERS["crd-discovery"])).of(key)]

    return measure


FIGURES: dict[str, tuple[Measure, bool]] = {  # how it is measured, and whether more is better
    "get-p50": (_latency, False),
    "get-10": (_rate(PROBE, 4000, 10), True),
    "get-32": (_rate(PROBE, 4000, 32), True),
    "create-1": (_creates(300, 1), True),
    "create-10": (_creates(1000, 10), True),
    "create-32": (_creates(1000, 32), True),
    "create-pods-10": (_pods, True),
    "list": (_list, False),
    "watch-10": (_watchers(10), False),
    "watch-100": (_watchers(100), False),
    **{key: (_custom_kind(key), False) for key in ("crd-create", *crds.READERS)},
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.compare", description="The API of two source trees, measured in alternation.")
    parser.add_argument("old", type=Path, help="a source tree")
    parser.add_argument("new", type=Path, nargs="?", default=ROOT, help="another one; this one by default")
    parser.add_argument("--only", action="append", default=[], choices=FIGURES, help="a figure; again for more")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end on the way out
    trees = [arguments.old.resolve(), arguments.new.resolve()]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        labs = [stack.enter_context(_server(Path(folder), tree)) for tree in trees]
        servers = [(lab, Ab(lab)) for lab in labs]
        print(f"{'figure':16} {'old median':>11} {'new median':>11} {'ratio':>7} {'of best':>8} {'of CPU':>8}")
        for name in arguments.only or FIGURES:
            _compare(name, servers, arguments.rounds)
    return 0


@contextlib.contextmanager
def _server(folder: Path, tree: Path) -> Iterator[BenchLab]:
    """A lab without minions whose command and master are those of this source tree."""
    if not (tree / "labctl").is_dir():
        sys.exit(f"{tree} has no labctl in it")
    own = folder / str(len(list(folder.iterdir())))
    own.mkdir()
    lab = _Server(own)
    lab.environment["PYTHONPATH"] = str(tree)
    lab.labctl("up", "--minions", "0")
    try:
        lab.api.post("/api/v1/namespaces", {"metadata": {"name": "bench"}})
        lab.api.post("/api/v1/namespaces/default/pods", bodies.pod(name="probe"))
        wait(lambda: lab.api.find(PROBE), "the probe pod is there")
        yield lab
    finally:
        lab.destroy()


def _compare(name: str, servers: list[tuple[BenchLab, Ab]], rounds: int) -> None:
    measure, more_is_better = FIGURES[name]
    samples: list[list[float]] = [[], []]
    cpu_s = [[0.0], [0.0]]
    pids = [lab.master["pid"] for lab, _ab in servers]
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):  # neither is always the second
            before = look_at(pids[which])[1]
            samples[which] += measure(*servers[which])
            cpu_s[which].append(look_at(pids[which])[1] - before)
        for lab, _ab in servers:
            lab.api.delete(f"{SPACE}/configmaps")
    old, new = (statistics.median(taken) for taken in samples)
    best = max if more_is_better else min
    ratio, of_best = new / old, best(samples[1]) / best(samples[0])
    if not more_is_better:
        ratio, of_best = 1 / ratio, 1 / of_best
    of_cpu = statistics.median(cpu_s[0][1:]) / max(statistics.median(cpu_s[1][1:]), 1e-9)
    print(f"{name:16} {old:11.2f} {new:11.2f} {ratio:7.2f} {of_best:8.2f} {of_cpu:8.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
