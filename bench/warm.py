"""Warm start: a lab from a snapshot beside the same lab made from nothing, in turns, so that all meet the same load of this machine.

All end when the seed scenario's VIP answers on both minions, one SSH login each that asks until it does. `up-from` and `up-create` begin with a lab that
is not there, `restore` with one that runs.
warm_vms.py has virtual machines do the same.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.figures import Report
from bench.lab import SLOW_S, BenchError, BenchLab, bench_lab
from labctl.lab import snapshots

ROUNDS = 3
ASK = "for each in $(seq 200); do curl -sf -o /dev/null --max-time 1 {vip} && echo yes && break; sleep 0.05; done"
NAME = "labctl-bench"


def measure(report: Report) -> None:
    compare(report, "namespace")


def compare(report: Report, provider: str, figures: str = "") -> None:
    """`figures` begins the figures' keys."""
    with bench_lab(None, "nginx") as lab:
        lab.environment["LABCTL_PROVIDER"] = provider
        lab.labctl("up", "--minions", "2", timeout_s=SLOW_S)
        vip = lab.create_seed(SLOW_S)
        try:
            for _ in range(ROUNDS):
                _save(report, lab, figures)
                if not figures:  # a virtual machine's takes as long as its `up --from`
                    report.add("restore", _timed(lab, vip, "snapshot", "restore", NAME))
                lab.destroy()
                report.add(f"{figures}up-from", _timed(lab, vip, "up", "--from", NAME))
                lab.destroy()
                report.add(f"{figures}up-create", _timed(lab, "", "up", "--minions", "2"))
                vip = _vip(lab)
        finally:
            lab.labctl("snapshot", "delete", NAME)


def _save(report: Report, lab: BenchLab, figures: str) -> None:
    if any(snapshot.name == NAME for snapshot in snapshots.listed(lab.lab)):
        lab.labctl("snapshot", "delete", NAME)
    report.add(f"{figures}snapshot-save", lab.labctl("snapshot", "save", NAME))
    saved = snapshots.find(lab.lab, NAME)
    report.add(f"{figures}snapshot-pause", saved.paused_s * 1000, f"{saved.size / 1e6:.0f} MB")


def _timed(lab: BenchLab, vip: str, *arguments: str) -> float:
    """Until the VIP answers; the seed is created where it did not come along."""
    begun = time.monotonic()
    lab.labctl(*arguments, timeout_s=SLOW_S)
    lab.__dict__.pop("api", None)  # its port may be another
    vip = vip or lab.create_seed(SLOW_S)
    minions = ("minion-1", "minion-2")
    with ThreadPoolExecutor(len(minions)) as pool:
        answers = list(pool.map(lambda minion: lab.on(minion, ASK.format(vip=vip)), minions))
    if answers != ["yes\n"] * len(minions):
        raise BenchError(f"{vip} does not answer on {', '.join(minions)}: they say {answers}")
    return time.monotonic() - begun


def _vip(lab: BenchLab) -> str:
    return lab.api.get("/api/v1/namespaces/default/services/web-service")["spec"]["clusterIP"]
