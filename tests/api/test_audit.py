"""The audit log: a line for each request, with who asked and what came of it, and no secret in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labctl import logfiles
from labctl.api import audit
from labctl.api.audit import AuditLog
from labctl.clock import SystemClock
from tests.inprocess import ApiServer

SECRETS = "/api/v1/namespaces/default/secrets"


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_who_asked_what_and_what_came_of_it(tmp_path: Path) -> None:
    path = tmp_path / "log" / "audit.jsonl"
    log = AuditLog(path, SystemClock())
    async with ApiServer.running(tmp_path, audit=log) as api:
        async with api.session() as http:
            body = {"metadata": {"name": "s"}, "stringData": {"word": "sesame"}}
            async with http.post(SECRETS, json=body) as answered:
                assert answered.status == 201
            async with http.get(SECRETS, headers={"Impersonate-User": "bob"}) as answered:
                assert answered.status == 403
        async with api.session(None) as http, http.get(SECRETS) as answered:
            assert answered.status == 401
        await log.close()
    made, refused, nobody = written(path)
    assert made["verb"] == "create" and made["user"]["username"] == "labctl-admin" and made["responseStatus"]["code"] == 201
    assert made["objectRef"] == {"resource": "secrets", "namespace": "default", "apiVersion": "v1"}
    assert refused["user"]["username"] == "labctl-admin" and refused["impersonatedUser"]["username"] == "bob"
    assert refused["verb"] == "list" and refused["responseStatus"]["code"] == 403
    assert nobody["user"]["username"] == "system:anonymous" and nobody["responseStatus"]["code"] == 401
    assert "sesame" not in path.read_text() and path.stat().st_mode & 0o077 == 0


async def test_it_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, SystemClock())
    log._add(b'{"n":1}\n')
    log._bytes = audit.WAITING_MOST_BYTES
    log._add(b'{"n":2}\n')
    log._bytes = 0
    log._add(b'{"n":3}\n')
    await log.close()
    assert written(path) == [{"n": 1}, {"dropped": 1}, {"n": 3}]
    path.write_bytes(b"x" * (logfiles.MOST_BYTES + 1))
    log._add(b"{}\n")
    await log.close()
    assert path.stat().st_size == 0 and path.with_name("audit.jsonl.1").stat().st_size == logfiles.MOST_BYTES
