"""Random requests over HTTP: each is answered in time, with a Status where it is refused, and none of them is our mistake."""

from __future__ import annotations

import json
import logging
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
import yarl

from tests.inprocess import ApiServer

KINDS = ("pods", "services", "configmaps", "replicationcontrollers", "nodes", "namespaces", "events", "nothing")
SUBRESOURCES = ("", "", "", "", "status", "scale", "binding", "eviction", "proxy", "proxy/x", "finalize", "log", "nothing")
NAMES = ("a", "b", "web", "x" * 300, "%00", "..", "a/b", "é")
NAMESPACES = ("default",) * 8 + ("nowhere", "", "A")
TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain", "")
PATCHES = tuple(f"application/{name}" for name in ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"))
ACCEPTS = ("*/*", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/yaml", "text/html", ";;;")
QUERIES = (
    "limit=-1", "limit=x", "continue=x", "resourceVersion=x", "resourceVersion=99999999", "labelSelector=a in (", "labelSelector=é=1", "force=1",
    "fieldSelector=spec.x=1", "fieldSelector=\\", "dryRun=x", "dryRun=All", "fieldManager=me", "fieldValidation=Strict", "pretty=1",
    "gracePeriodSeconds=x", "gracePeriodSeconds=-1", "propagationPolicy=x", "includeObject=x", "watch=1&timeoutSeconds=-1",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    "",
    "a",
    "\0",
    "x" * 300,
    [],
    {},
    [None],
    [[]],
    {"": 1},
    "None",
    "2026-01-01T00:00:00Z",
)
FIELDS = (
    "metadata",
    "spec",
    "status",
    "data",
    "name",
    "labels",
    "ports",
    "containers",
    "replicas",
    "selector",
    "template",
    "finalizers",
    "target",
)


def body(rng: Random, depth: int = 0) -> Any:
    """Something that looks a little like an object."""
    if depth > 3 or rng.random() < 0.2:
        return rng.choice(VALUES)
    if rng.random() < 0.15:
        return [body(rng, depth + 1) for _ in range(rng.randrange(3))]
    said = {rng.choice(FIELDS): body(rng, depth + 1) for _ in range(rng.randrange(4))}
    return {"metadata": {"name": "a"}, **said} if depth == 0 and rng.random() < 0.8 else said


def operations(rng: Random) -> Any:
    return [
        {"op": rng.choice(("add", "remove", "replace", "test", "move", "fly")), "path": f"/{rng.choice(FIELDS)}", "value": body(rng)}
        for _ in range(rng.randrange(3))
    ]


def request(rng: Random) -> tuple[str, str, dict[str, str], bytes | None]:
    method = rng.choice(("GET", "POST", "POST", "PUT", "PATCH", "PATCH", "DELETE", "HEAD", "OPTIONS"))
    kind, namespace = rng.choice(KINDS), rng.choice(NAMESPACES)
    path = f"/api/v1/{kind}" if kind in ("nodes", "namespaces") else f"/api/v1/namespaces/{namespace}/{kind}"
    subresource = rng.choice(SUBRESOURCES)
    if method not in ("GET", "POST") or subresource or rng.random() < 0.3:
        path += f"/{quote(rng.choice(NAMES), safe='%')}"
        path += f"/{subresource}" if subresource else ""
    asked = "&".join(rng.sample(QUERIES, rng.choice((0, 0, 1, 2))))
    headers = {"Accept": rng.choice(ACCEPTS)}
    if method not in ("POST", "PUT", "PATCH"):
        return method, f"{path}?{quote(asked, safe='=&')}", headers, None
    headers["Content-Type"] = rng.choice(PATCHES if method == "PATCH" else TYPES)
    said = operations(rng) if "json-patch" in headers["Content-Type"] else body(rng)
    return method, f"{path}?{quote(asked, safe='=&')}", headers, json.dumps(said).encode()


@pytest.mark.parametrize("seed", range(3))
async def test_any_request_is_answered_and_none_is_our_mistake(api: ApiServer, caplog: pytest.LogCaptureFixture, seed: int) -> None:
    rng = Random(seed)
    async with api.session() as http:
        for _ in range(400):
            method, path, headers, data = request(rng)
            async with http.request(method, yarl.URL(path, encoded=True), headers=headers, data=data) as answered:
                text = await answered.read()
                assert answered.status not in (500, 502), (method, path, headers, data, text)
    mistakes = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not mistakes
