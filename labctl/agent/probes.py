"""Readiness, liveness and startup probes of one running container, with the kubelet's periods, thresholds and words.

A prober belongs to one container id: a restarted container gets new ones. It asks (exec through the Runtime, HTTP, TCP) and tells its worker; it kills nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Dict, List, Optional, Sequence, Tuple
from urllib.parse import quote, urljoin, urlsplit

from . import grpc
from .deadlines import connect
from .http import Http, Unreachable
from .runtime.interface import NoSuchContainer, Ran

log = logging.getLogger(__name__)

Object = Dict[str, Any]
Exec = Callable[[List[str], float], Awaitable[Ran]]
KINDS = ("startup", "liveness", "readiness")
OUTPUT_SHOWN = 512
REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MAX = 10
HEAD_LIMIT_BYTES = 64 << 10
"""The most of an answer's head, which a pod's server may make as long as it likes, for each of its probes at the same time."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
STOOD_STILL_S = 2.0
"""An answer later than its timeout by more: this machine stood still, frozen or asleep, and that says nothing of the container."""


@dataclass(frozen=True)
class Settings:
    initial_delay_s: float
    timeout_s: float
    period_s: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: Object) -> "Settings":
        return cls(
            probe.get("initialDelaySeconds") or 0,
            probe.get("timeoutSeconds") or 1,
            probe.get("periodSeconds") or 10,
            probe.get("successThreshold") or 1,
            probe.get("failureThreshold") or 3,
        )


class Verdict:
    """Results in, a verdict out when a threshold is reached: `failed` or `passed` times in a row. Pure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: Optional[bool] = None
        self._row = 0

    def after(self, good: bool) -> Optional[bool]:
        """Take in a result. Return the new verdict, or None if no threshold is reached yet."""
        self._row = self._row + 1 if good == self._last else 1
        self._last = good
        return good if self._row >= (self._settings.successes if good else self._settings.failures) else None


async def ask(probe: Object, container: Object, address: str, run: Exec, timeout_s: float) -> Tuple[bool, str]:
    """Run one probe. Return whether it succeeded, and if not, why."""
    if probe.get("exec"):
        return await _exec(probe["exec"].get("command") or [], run, timeout_s)
    if probe.get("tcpSocket"):
        return await _tcp(probe["tcpSocket"].get("host") or address, port_of(probe["tcpSocket"]["port"], container), timeout_s)
    if probe.get("httpGet"):
        return await http_get(probe["httpGet"], container, address, timeout_s)
    if probe.get("grpc"):
        return await grpc.check(address, int(probe["grpc"]["port"]), probe["grpc"].get("service") or "", timeout_s)
    return False, "this kind of probe is not supported"


async def _exec(command: List[str], run: Exec, timeout_s: float) -> Tuple[bool, str]:
    try:
        ran = await run(command, timeout_s)
    except NoSuchContainer as error:
        return False, str(error)
    if ran.status == -1:
        return False, f'command timed out: "{" ".join(command)}" timed out after {timeout_s:g}s'
    return ran.status == 0, "" if ran.status == 0 else ran.output.decode(errors="replace")[:OUTPUT_SHOWN]


async def _tcp(host: str, port: int, timeout_s: float) -> Tuple[bool, str]:
    try:
        _, writer = await connect(host, port, timeout_s)
    except asyncio.TimeoutError:
        return False, f"dial tcp {host}:{port}: i/o timeout"
    except OSError as error:
        return False, f"dial tcp {host}:{port}: connect: {_words(error)}"
    writer.close()
    return True, ""


async def http_get(action: Object, container: Object, address: str, timeout_s: float, program: str = "kube-probe") -> Tuple[bool, str]:
    """Ask for a page. Redirects to the same host are followed; one to another host is good enough, and why it was not followed is told."""
    host, port = action.get("host") or address, port_of(action["port"], container)
    scheme, path = (action.get("scheme") or "HTTP").lower(), _visible(action.get("path") or "/")
    url = f"{scheme}://{host}:{port}"
    target = url + (path if path.startswith("/") else "/" + path)
    try:
        headers = headers_of(action.get("httpHeaders") or (), program)
    except ValueError as error:
        return False, f'Get "{target[:OUTPUT_SHOWN]}": {error}'
    ends_s = time.monotonic() + timeout_s
    for _ in range(REDIRECTS_MAX):
        try:
            parts = urlsplit(target)
            context = _trust_anybody() if parts.scheme == "https" else None
            http = Http(f"{parts.scheme}://{parts.netloc}", context, limit_bytes=HEAD_LIMIT_BYTES)
        except ValueError as error:
            return False, f'Get "{target[:OUTPUT_SHOWN]}": {error}'
        page = _visible((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        try:
            response = await http.request("GET", page, headers=headers, timeout_s=max(0.0, ends_s - time.monotonic()))
        except Unreachable as error:
            cause = error.__cause__
            why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            if isinstance(cause, OSError):
                why = f"dial tcp {parts.netloc}: connect: {_words(cause)}"
            return False, f'Get "{target}": {why}'
        response.close()
        location = response.headers.get("location", "")
        if response.status not in REDIRECTS or not location:
            good = 200 <= response.status < 400
            return good, "" if good else f"HTTP probe failed with statuscode: {response.status}"
        try:
            target = urljoin(target, location)
            after = urlsplit(target)
        except ValueError as error:
            return False, f'Get "{target[:OUTPUT_SHOWN]}": failed to parse Location header "{location[:OUTPUT_SHOWN]}": {error}'
        if after.scheme not in ("http", "https") or after.hostname != parts.hostname:
            return True, f"Probe terminated redirects: {target[:OUTPUT_SHOWN]}"
    return False, f'Get "{target[:OUTPUT_SHOWN]}": stopped after {REDIRECTS_MAX} redirects'


def headers_of(said: Sequence[Object], program: str) -> Dict[str, str]:
    """Return the headers of a request: those that the pod's author wrote, and the kubelet's where they say nothing else. Raises ValueError for a value
    with control characters: it would be further headers, or another request, sent by the machine.
    """
    headers: Dict[str, str] = {}
    for each in said:
        name, value = each["name"].title(), (each.get("value") or "").strip(" \t")
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise ValueError(f'net/http: invalid header field value for "{_CONTROL.sub("?", name)}"')
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    headers = {"User-Agent": f"{program}/1.37", "Accept": "*/*", **headers, "Connection": "close"}
    return {name: value for name, value in headers.items() if value or name not in ("Accept", "Host", "User-Agent")}


def _visible(path: str) -> str:
    """Return a path and query in which what would end the request's first line, or is no ASCII, is percent-encoded."""
    return quote(path, safe=_VISIBLE)


def _trust_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: OSError) -> str:
    """Return Go's words, "connection refused", not Python's "Connect call failed ..."."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def port_of(port: Any, container: Object) -> int:
    """Return a port from a number or the name of one of the container's ports."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for each in container.get("ports") or ():
        if each.get("name") == port:
            return int(each["containerPort"])
    return 0


@dataclass(frozen=True)
class Result:
    """What a prober tells: whether it `passed`, and whether that reached a threshold: `good` True or False; None: not yet.

    A `message` of one that passed is a warning.
    """

    kind: str
    passed: bool
    good: Optional[bool]
    message: str = ""


class Prober:
    """All probes of one running container. `tell` is called on the loop; with `started` the startup probe is over already."""

    def __init__(self, container: Object, started_s: float, address: str, run: Exec, tell: Callable[[Result], None], started: bool) -> None:
        self._container, self._began_s, self._address, self._run, self._tell = container, started_s, address, run, tell
        self._started = asyncio.Event()
        if started or not container.get("startupProbe"):
            self._started.set()
        self._tasks = [
            asyncio.ensure_future(self._loop(kind, container[kind + "Probe"]))
            for kind in KINDS
            if container.get(kind + "Probe") and not (kind == "startup" and self._started.is_set())
        ]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _loop(self, kind: str, probe: Object) -> None:
        settings = Settings.of(probe)
        verdict = Verdict(settings)
        if kind != "startup":
            await self._started.wait()
        await asyncio.sleep(max(0.0, self._began_s + settings.initial_delay_s - time.time()))
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while True:
            asked_s = clock()
            try:
                good, message = await ask(probe, self._container, self._address, self._run, settings.timeout_s)
            except Exception as error:  # our mistake: the probe has failed, and the next is asked all the same
                log.exception("the %s probe of %s", kind, self._container.get("name"))
                good, message = False, f"probe errored and resulted in {type(error).__name__}: {error}"
            if not good and clock() - asked_s > settings.timeout_s + STOOD_STILL_S:
                continue
            reached = verdict.after(good)
            if reached is not None or not good or message:
                self._tell(Result(kind, good, reached, message))
            if kind == "startup" and reached:
                self._started.set()
                return
            due_s = next_due(due_s, settings.period_s, clock())
            await asyncio.sleep(max(0.0, due_s - clock()))


def next_due(due_s: float, period_s: float, now_s: float) -> float:
    """Returns when to ask after an answer that was due at `due_s` and came at `now_s`. Periods count from beginning to beginning, as a Go ticker's do:
    an answer that took longer is followed by the next question at once, and one that took several periods by one question, not by several.
    """
    return due_s + period_s * max(1, int((now_s - due_s) / period_s))
