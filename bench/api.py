"""The API server alone (`up --minions 0`): latency and rates over TLS. Rates by `ab`; the client shares the machine with the server."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import bodies
from bench.figures import Report
from bench.footprint import look_at
from bench.lab import BenchError, BenchLab, bench_lab, wait

SPACE = "/api/v1/namespaces/bench"
PROBE = "/api/v1/namespaces/default/pods/probe"
GETS = 3000
WRITES = 60
PODS = 1000
FAKE_NODES = 10
ROUNDS = 3


def measure(report: Report) -> None:
    with bench_lab(0) as lab:
        ab = Ab(lab)
        lab.api.post("/api/v1/namespaces", {"metadata": {"name": "bench"}})
        lab.api.post("/api/v1/namespaces/default/pods", bodies.pod(name="probe"))
        p50, p99 = percentiles(get_latencies(lab, PROBE, GETS))
        report.add("get-p50", p50)
        report.add("get-p99", p99)
        for _ in range(ROUNDS):
            report.add("get-10", ab.rate(PROBE, 10_000, 10))
            report.add("get-32", ab.rate(PROBE, 10_000, 32))
            report.add("create-1", ab.rate(f"{SPACE}/configmaps", 800, 1, bodies.config_map()))
            report.add("create-10", ab.rate(f"{SPACE}/configmaps", 3000, 10, bodies.config_map()))
            with emptied(lab, "pods"):
                report.add("create-pods-10", ab.rate(f"{SPACE}/pods", 1000, 10, bodies.pod()))
        lab.api.delete(f"{SPACE}/configmaps")
        _lists(lab, ab, report)
        for watchers in (10, 100):
            asyncio.run(fan_out(lab, watchers, report))
        _bind(lab, report)


def get_latencies(lab: BenchLab, path: str, count: int) -> list[float]:
    """Milliseconds of GETs one after another on one connection."""
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        lab.api.get(path)
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


def percentiles(samples: list[float]) -> tuple[float, float]:
    """(p50, p99)."""
    ordered = sorted(samples)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


class Ab:
    """ApacheBench with the admin's certificate."""

    def __init__(self, lab: BenchLab) -> None:
        self._url = lab.master["url"]
        pki = lab.folder / ".labctl" / "pki"
        self._pem = lab.folder / "admin.pem"
        self._pem.touch(0o600)
        self._pem.write_bytes((pki / "admin.crt").read_bytes() + (pki / "admin.key").read_bytes())
        self._body = lab.folder / "body.json"

    def rate(self, path: str, requests: int, clients: int, body: dict[str, Any] | None = None) -> float:
        return float(self._run(path, requests, clients, body)["Requests per second"])

    def mean_ms(self, path: str, requests: int) -> float:
        return float(self._run(path, requests, 1, None)["Time per request"])

    def _run(self, path: str, requests: int, clients: int, body: dict[str, Any] | None) -> dict[str, str]:
        argv = ["ab", "-q", "-k", "-E", str(self._pem), "-n", str(requests), "-c", str(clients)]
        if body is not None:
            self._body.write_text(json.dumps(body))
            argv += ["-p", str(self._body), "-T", "application/json"]
        done = subprocess.run([*argv, self._url + path], capture_output=True, text=True, timeout=300)
        said = dict(reversed(re.findall(r"^([A-Z][\w\d -]+):\s+([\d.]+)", done.stdout, re.M)))  # of two alike, the first
        if done.returncode or said.get("Complete requests") != str(requests) or "Non-2xx responses" in said:
            raise BenchError(f"ab {path}: {(done.stderr or done.stdout).strip()[:600]}")
        return said


@contextmanager
def emptied(lab: BenchLab, plural: str) -> Iterator[None]:
    yield
    lab.api.delete(f"{SPACE}/{plural}", {"gracePeriodSeconds": 0})
    wait(lambda: not lab.api.get(f"{SPACE}/{plural}?limit=1")["items"], f"all {plural} are gone")


def _lists(lab: BenchLab, ab: Ab, report: Report) -> None:
    with emptied(lab, "pods"):
        for number in range(PODS):
            lab.api.post(f"{SPACE}/pods", bodies.pod(name=f"running-{number}"))
            lab.api.patch(f"{SPACE}/pods/running-{number}/status", bodies.running_status(number))
        size = len(json.dumps(lab.api.get(f"{SPACE}/pods"), separators=(",", ":"))) >> 10
        for _ in range(ROUNDS):
            report.add("list", ab.mean_ms(f"{SPACE}/pods", 30), f"{size} KiB")
            report.add("list-0", ab.mean_ms(f"{SPACE}/pods?resourceVersion=0", 30), f"{size} KiB")


# -- watchers ------------------------------------------------------------------------------------------------------------------------------


class Watcher(asyncio.Protocol):
    """Counts the events of one watch, and tells when it has seen the next."""

    def __init__(self, path: str, seen: asyncio.Queue[float]) -> None:
        self._path, self._seen = path, seen
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if not self._begun and b"200 OK" in data:
            self._begun = True
            self._seen.put_nowait(time.perf_counter())
        if b'"type":"ADDED"' in data:
            self._seen.put_nowait(time.perf_counter())


async def fan_out(lab: BenchLab, count: int, report: Report) -> None:
    """One write at a time; each watcher's connection is its own, as kubectl's are."""
    revision = lab.api.get(f"{SPACE}/secrets")["metadata"]["resourceVersion"]
    seen: asyncio.Queue[float] = asyncio.Queue()
    path = f"{SPACE}/secrets?watch=1&resourceVersion={revision}&timeoutSeconds=60"
    loop, tls, port = asyncio.get_running_loop(), _tls(lab), lab.master["port"]
    transports = [(await loop.create_connection(lambda: Watcher(path, seen), "127.0.0.1", port, ssl=tls))[0] for _ in range(count)]
    try:
        await _all(seen, count)
        pid, taken = lab.master["pid"], []
        before = look_at(pid)[1]
        for number in range(WRITES):
            begun = time.perf_counter()
            lab.api.post(f"{SPACE}/secrets", {"metadata": {"name": f"w{count}-{number}"}, "stringData": {"a": "b"}})
            taken.append((await _all(seen, count) - begun) * 1000)
        cpu_ms = (look_at(pid)[1] - before) / WRITES * 1000
    finally:
        for transport in transports:
            transport.close()
    report.add(f"watch-{count}", taken)
    if count == 100:
        report.add("watch-100-cpu", cpu_ms, "CPU of the master for a write and all its watchers")


async def _all(seen: asyncio.Queue[float], count: int) -> float:
    """When the last of so many saw it."""
    last = 0.0
    for _ in range(count):
        last = max(last, await asyncio.wait_for(seen.get(), 20))
    return last


def _tls(lab: BenchLab) -> ssl.SSLContext:
    pki: Path = lab.folder / ".labctl" / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    context.check_hostname = False
    return context


# -- a thousand replicas -------------------------------------------------------------------------------------------------------------------


def _bind(lab: BenchLab, report: Report) -> None:
    for number in range(FAKE_NODES):
        lab.api.post("/api/v1/nodes", bodies.node(f"fake-{number}"))
        lab.api.patch(f"/api/v1/nodes/fake-{number}/status", bodies.node_status())
    wait(lambda: all(not n["spec"].get("taints") for n in lab.api.get("/api/v1/nodes")["items"]), "fake nodes are Ready")
    for round_number in range(ROUNDS):
        report.add("rc-1000", _bind_once(lab, f"big-{round_number}"))


def _bind_once(lab: BenchLab, name: str) -> float:
    revision = lab.api.get(f"{SPACE}/pods?limit=1")["metadata"]["resourceVersion"]
    events = lab.api.watch(f"{SPACE}/pods?watch=1&resourceVersion={revision}&timeoutSeconds=120", timeout_s=120)
    controller = f"{SPACE}/replicationcontrollers"
    begun = time.monotonic()
    lab.api.post(controller, bodies.controller(name, PODS))
    bound: set[str] = set()
    for event in events:
        if event["object"]["spec"].get("nodeName"):
            bound.add(event["object"]["metadata"]["name"])
        if len(bound) == PODS:
            break
    else:
        raise BenchError(f"only {len(bound)} of {PODS} were bound")
    took = time.monotonic() - begun
    events.close()  # type: ignore[attr-defined]
    lab.api.delete(f"{controller}/{name}", {"propagationPolicy": "Orphan"})
    for _ in itertools.takewhile(lambda _: lab.api.find(f"{controller}/{name}"), range(2000)):
        time.sleep(0.005)
    with emptied(lab, "pods"):
        pass
    return took
