"""OpenAPI: well-formed documents, and the real kubectl reads them (explain, create, apply) from a server that has nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import builtin_schema
from labctl.resources.schema.openapi import Documents

KINDS = list(builtin_registry())
DOCUMENTS = Documents(builtin_schema(), KINDS)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


@pytest.mark.parametrize("path", DOCUMENTS.paths())
def test_v3_is_closed(path: str) -> None:
    document = DOCUMENTS.v3(path)
    assert document is not None
    content = json.loads(document.body)
    assert content["openapi"] == "3.0.0"
    for reference in references(content):
        assert reference.removeprefix("#/components/schemas/") in content["components"]["schemas"]


def test_v2_is_closed() -> None:
    content = json.loads(DOCUMENTS.v2().body)
    assert content["swagger"] == "2.0"
    for reference in references(content):
        assert reference.removeprefix("#/definitions/") in content["definitions"]
    assert {"/api/v1/pods", "/api/v1/namespaces/{namespace}/pods/{name}/status"} <= content["paths"].keys()


def test_operation_names_are_unique() -> None:
    content = json.loads(DOCUMENTS.v2().body)
    names = [operation["operationId"] for item in content["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


def test_writes_say_that_the_server_validates_fields() -> None:
    document = DOCUMENTS.v3("api/v1")
    assert document is not None
    item = json.loads(document.body)["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]
    for method in ("put", "patch"):
        assert "fieldValidation" in {parameter["name"] for parameter in item[method]["parameters"]}
        assert item[method]["x-kubernetes-group-version-kind"] == {"group": "", "kind": "Pod", "version": "v1"}
    assert "application/apply-patch+yaml" in item["patch"]["requestBody"]["content"]


def test_the_index_names_each_document_with_its_hash() -> None:
    index = json.loads(DOCUMENTS.index().body)["paths"]
    assert index.keys() == set(DOCUMENTS.paths())
    for path, entry in index.items():
        document = DOCUMENTS.v3(path)
        assert document is not None and entry["serverRelativeURL"] == f"/openapi/v3/{path}?hash={document.hash}"
    assert DOCUMENTS.v3("apis/apps/v0") is None


def test_documents_are_the_same_every_time_and_kept() -> None:
    again = Documents(builtin_schema(), reversed(KINDS))
    assert again.index() == DOCUMENTS.index() and again.v2() == DOCUMENTS.v2()
    assert again.v2().body is again.v2().body


# ---- the real kubectl


class _Handler(BaseHTTPRequestHandler):
    """Discovery, the documents, and an echo for writes."""

    asked: list[str] = []

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {self.path}")
        content = self.content(path) if self.command == "GET" else json.loads(body)
        code = 200 if content is not None else 404
        raw = json.dumps(content or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PATCH = answer

    def content(self, path: str) -> Any:
        groups = sorted({(kind.group, kind.version) for kind in KINDS if kind.group})
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*group) for group in groups]}
        if path == "/api/v1" or (path.startswith("/apis/") and path.count("/") == 3):
            return _resources(path.removeprefix("/apis/").removeprefix("/api/"))
        if path == "/openapi/v3":
            return json.loads(DOCUMENTS.index().body)
        document = DOCUMENTS.v3(path.removeprefix("/openapi/v3/"))
        return json.loads(document.body) if document else None

    def log_message(self, *_args: Any) -> None:
        pass


def _group(group: str, version: str) -> dict[str, Any]:
    named = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [named], "preferredVersion": named}


def _resources(group_version: str) -> dict[str, Any]:
    served = [kind for kind in KINDS if kind.api_version == group_version]
    resources = [
        {"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": list(kind.verbs), "shortNames": list(kind.short_names)}
        for kind in served
    ]  # fmt: skip
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")


class Kubectl:
    def __init__(self, port: int, home: Path, asked: list[str]) -> None:
        self.port, self.home, self.asked = port, home, asked

    def __call__(self, *argv: str, stdin: str = "") -> str:
        command = [str(KUBECTL), "--kubeconfig=/dev/null", f"--server=http://127.0.0.1:{self.port}", *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30, env={"HOME": str(self.home)})
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def kubectl(tmp_path: Path) -> Iterator[Kubectl]:
    if not KUBECTL:
        pytest.skip("no kubectl")
    handler = type("Handler", (_Handler,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Kubectl(server.server_address[1], tmp_path, handler.asked)  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def test_kubectl_explains(kubectl: Kubectl) -> None:
    assert "containers\t<[]Container> -required-" in kubectl("explain", "pod.spec")
    assert "targetPort\t<IntOrString>" in kubectl("explain", "svc.spec.ports")
    assert "enum: On, Off" in kubectl("explain", "machines.spec")


def test_kubectl_leaves_validation_to_the_server(kubectl: Kubectl) -> None:
    manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: default}, data: {a: b}}"
    assert kubectl("create", "-f", "-", stdin=manifest) == "configmap/a created\n"
    assert kubectl("apply", "--server-side", "-f", "-", stdin=manifest) == "configmap/a serverside-applied\n"
    writes = [line for line in kubectl.asked if not line.startswith("GET")]
    assert len(writes) == 2 and all("fieldValidation=Strict" in line for line in writes)
