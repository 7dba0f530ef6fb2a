"""The audit log: who asked what of the API, and what came of it, as Kubernetes' audit events of level Metadata (audit.k8s.io/v1), one JSON line each.

    server ─► note ─► lines in memory ─► every half second into `.labctl/log/audit.jsonl`

It is off unless the setting `audit` is true. A request never waits for it: lines that the disk does not take are dropped, and a later line says how many.
The file is bounded like the master's own log: at most MOST_BYTES, and as much of what was before in FILE.1. Bodies are never written: they hold secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web

from labctl import logfiles
from labctl.api.call import Call
from labctl.api.route import Target
from labctl.clock import Clock, rfc3339_micro
from labctl.resources.service import User

EVERY_S = 0.5
WAITING_MOST_BYTES = 4 << 20
TEXT_MAX = 4096  # characters of a URI or of a program's name
_encode = msgspec.json.Encoder().encode


class Record:
    """What the server learns of a request on its way. `caller` is who the certificate or the token says; the call's user may be impersonated."""

    __slots__ = ("begun_s", "call", "caller", "constraint", "verb")

    def __init__(self, begun_s: float) -> None:
        self.begun_s = begun_s
        self.caller: User | None = None
        self.call: Call | None = None
        self.verb = ""
        self.constraint = ""  # the verb of a constrained impersonation


class AuditLog:
    """`note` is called by the server for each request; `run` writes until it is cancelled; `close` writes what is left."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lines: list[bytes] = []
        self._bytes = 0
        self._dropped = 0

    def begin(self) -> float:
        """Returns the time at which a request came."""
        return self._clock.wall()

    def note(self, request: web.BaseRequest, record: Record, code: int) -> None:
        """Adds the line of a request that is over."""
        caller, call = record.caller, record.call
        user = call.user if call else caller
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": str(uuid4()),
            "stage": "ResponseComplete",
            "requestURI": request.raw_path[:TEXT_MAX],
            "verb": record.verb or request.method.lower(),
            "user": caller.info if caller else {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
            "sourceIPs": [request.remote or ""],
            "userAgent": request.headers.get("User-Agent", "")[:TEXT_MAX],
            "responseStatus": {"code": code},
            "requestReceivedTimestamp": rfc3339_micro(record.begun_s),
            "stageTimestamp": rfc3339_micro(self._clock.wall()),
        }
        if user is not caller and user is not None:
            event["impersonatedUser"] = user.info
            if record.constraint:
                event["authenticationMetadata"] = {"impersonationConstraint": record.constraint}
        if call is not None and (target := getattr(call, "target", None)) is not None:
            event["objectRef"] = _reference(target)
        self._add(_encode(event) + b"\n")

    def _add(self, line: bytes) -> None:
        if self._bytes + len(line) > WAITING_MOST_BYTES:
            self._dropped += 1
            return
        if self._dropped:
            line = b'{"dropped":%d}\n' % self._dropped + line
            self._dropped = 0
        self._lines.append(line)
        self._bytes += len(line)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.close()

    async def close(self) -> None:
        """Writes what is waiting."""
        lines, self._lines, self._bytes = self._lines, [], 0
        if lines:
            await asyncio.to_thread(self._write, b"".join(lines))

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk: the API goes on
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with open(descriptor, "ab") as file:
                file.write(data)
            logfiles.bound(self._path)


def _reference(target: Target) -> dict[str, str]:
    said = {
        "resource": target.resource,
        "namespace": target.namespace,
        "name": target.name,
        "apiGroup": target.group,
        "apiVersion": target.version,
        "subresource": target.subresource,
    }
    return {key: value for key, value in said.items() if value}
