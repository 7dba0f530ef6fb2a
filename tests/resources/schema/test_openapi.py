"""OpenAPI: well-formed documents, and the real kubectl reads them (explain, create, apply) from a server that has nothing else."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labctl.resources.custom.make import kinds_of
from labctl.resources.custom.openapi import definitions
from labctl.resources.kind import Kind
from labctl.resources.kinds.apiextensions_v1.customresourcedefinition import CustomResourceDefinition
from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import builtin_schema
from labctl.resources.schema.openapi import Documents
from labctl.resources.schema.openapi_json import v2_node
from labctl.resources.schema.pieces import Document

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


KEEPS = "x-kubernetes-preserve-unknown-fields"
TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        ({"type": "object", KEEPS: True, "properties": {"a": TEXT}, "required": ["a"]}, {"type": "object"}),
        ({"type": "object", "properties": {"a": {"type": "object", KEEPS: True, "properties": {"b": TEXT}}}}, {"type": "object", "properties": {"a": {KEEPS: True}}}),
        ({"type": "object", "properties": {"a": {KEEPS: True}}}, {"type": "object", "properties": {"a": {KEEPS: True}}}),
        ({"properties": {"a": {"type": "array", KEEPS: True, "items": TEXT}}}, {"properties": {"a": {KEEPS: True}}}),
        (
            {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string", "nullable": True, "description": "x"}, "b": TEXT}},
            {"type": "object", "required": ["b"], "properties": {"a": {"description": "x"}, "b": TEXT}},
        ),
        ({"properties": {"nullable": TEXT, "type": TEXT, "properties": TEXT}}, {"properties": {"nullable": TEXT, "type": TEXT, "properties": TEXT}}),
    ],
)  # fmt: skip
def test_v2_leaves_out_what_old_kubectl_would_take_for_a_whole(node: dict[str, Any], shown: dict[str, Any]) -> None:
    assert v2_node(node) == shown


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
    assert again.index().body == DOCUMENTS.index().body and again.v2().body == DOCUMENTS.v2().body
    assert again.v2().hash == DOCUMENTS.v2().hash and again.v2() is again.v2()


def custom_kind(name: str, /, **properties: Any) -> Kind:
    [kind] = kinds_of(definition_of(name, **properties), 0)
    return kind


def definition_of(name: str, /, **properties: Any) -> CustomResourceDefinition:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    names = {"kind": name, "plural": name.lower() + "s", "singular": name.lower(), "listKind": name + "List"}
    whole = {
        "metadata": {"name": f"{name.lower()}s.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    body = msgspec.json.encode({**whole, "status": {"acceptedNames": names}})
    return msgspec.json.decode(body, type=CustomResourceDefinition)


def shown(kind: Kind) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the spec of a custom kind as OpenAPI v3 and v2 show it."""
    documents = served(kind)
    v3 = documents.v3("apis/example.com/v1")
    assert v3 is not None
    name = f"com.example.v1.{kind.kind}"
    third, second = json.loads(v3.body)["components"]["schemas"][name], json.loads(documents.v2().body)["definitions"][name]
    assert documents.v2(protobuf=True).body
    return third["properties"]["spec"], second["properties"]["spec"]


def test_alternatives_are_published_in_v3_and_left_out_in_v2() -> None:
    """apiextensions' ToKubeOpenAPI and ToStructuralOpenAPIV2."""
    one = {"properties": {"a": {"enum": ["x"], "not": {"pattern": "^y"}}}, "required": ["a"]}
    junctors = {"allOf": [{"minProperties": 1}], "anyOf": [one, {"required": ["not"]}], "oneOf": [one], "not": {"required": ["c"]}}
    fields = {"a": TEXT, "not": {"type": "object", "properties": {"allOf": TEXT}}}
    kind = custom_kind("Choice", part={"type": "object", "title": "T", "properties": fields, **junctors})
    v3, v2 = shown(kind)
    assert v3["properties"]["part"] == {"type": "object", "title": "T", "properties": fields, **junctors}
    assert v2["properties"]["part"] == {"type": "object", "title": "T", "properties": fields}


EITHER = [{"type": "integer"}, {"type": "string"}]


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ({}, {"anyOf": EITHER}),
        ({"anyOf": EITHER}, {"anyOf": EITHER}),
        ({"allOf": [{"anyOf": EITHER}]}, {"allOf": [{"anyOf": EITHER}]}),
        (
            {"anyOf": [{"minimum": 0}, {"pattern": "%$"}], "allOf": [{"maximum": 9}]},
            {"anyOf": [{"minimum": 0}, {"pattern": "%$"}], "allOf": [{"anyOf": EITHER}, {"maximum": 9}]},
        ),
    ],
)
def test_an_integer_or_string_is_said_in_words_of_openapi(said: dict[str, Any], more: dict[str, Any]) -> None:
    mark = {"x-kubernetes-int-or-string": True, "description": "d"}
    v3, v2 = shown(custom_kind("Either", a={**mark, **said}))
    assert v3["properties"]["a"] == {**mark, **more} and v2["properties"]["a"] == mark


def test_a_default_is_a_value_whatever_its_keys_are_called() -> None:
    default = {"$ref": "#/definitions/x", "nullable": True, "type": "a", KEEPS: True, "items": {"$ref": "y"}, "not": {}}
    for held in ({"default": default}, {"enum": [default]}):
        v3, v2 = shown(custom_kind("Odd", a={"type": "object", KEEPS: True, **held}))
        assert v3["properties"]["a"] == {"type": "object", KEEPS: True, **held} and v2["properties"]["a"] == {KEEPS: True, **held}


def test_what_is_said_of_a_whole_object_is_published_and_what_is_empty_is_not() -> None:
    """Go's types don't tell an empty list or text from one that is absent, and keep these four apart."""
    empty = {"type": "object", "properties": {}, "required": [], "title": "", "nullable": False, "additionalProperties": {}, "default": {}}
    v3, v2 = shown(custom_kind("Bare", a=empty, b={"type": "array", "items": {}}, c={"type": "boolean", "default": False}))
    assert v3["properties"]["a"] == v2["properties"]["a"] == {"type": "object", "additionalProperties": {}, "default": {}}
    assert v3["properties"]["b"] == {"type": "array", "items": {}} and v3["properties"]["c"] == {"type": "boolean", "default": False}
    rules = [{"rule": "size(self.metadata.name) < 9"}]
    schema = {"type": "object", "description": "d", "title": "T", "x-kubernetes-validations": rules, "oneOf": [{"required": ["spec"]}]}
    whole = definitions("example.com", "v1", "Whole", schema)["com.example.v1.Whole"]
    assert {key: whole[key] for key in schema} == schema


def test_the_head_of_an_object_inside_is_required() -> None:
    inside = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"x": TEXT}, "required": ["x"]}
    for part in (part["properties"]["a"] for part in shown(custom_kind("Outer", a=inside))):
        assert part["required"] == ["x", "kind", "apiVersion"] and set(part["properties"]) == {"x", "kind", "apiVersion", "metadata"}


def served(*more: Kind, before: Documents | None = None) -> Documents:
    registry = builtin_registry()
    schema = builtin_schema(registry)
    for kind in more:
        registry.add(kind)
    return Documents(schema, registry.all_served(), before=before)


def every_document(documents: Documents) -> list[Document]:
    v3 = [documents.v3(path) for path in documents.paths()]
    return [documents.v2(), documents.v2(protobuf=True), documents.index(), *(one for one in v3 if one is not None)]


def test_what_is_made_of_older_pieces_is_what_would_be_made_anew() -> None:
    text, number = {"type": "string"}, {"type": "integer"}
    cat, dog = custom_kind("Cat", name=text), custom_kind("Dog", name=text)
    before = served(cat, dog)
    for kinds in ([custom_kind("Cat", lives=number), dog], [dog], [dog, custom_kind("Eel", name=text)]):
        every_document(before)
        after = served(*kinds, before=before)
        assert [one.body for one in every_document(after)] == [one.body for one in every_document(served(*kinds))]
        before = after


def test_one_more_kind_writes_its_own_pieces_only() -> None:
    cat, dog = custom_kind("Cat"), custom_kind("Dog")
    before = served(cat)
    every_document(before)
    after = served(cat, dog, before=before)
    for old, new in ((before.v2(), after.v2()), (before.v2(protobuf=True), after.v2(protobuf=True))):
        assert old.hash != new.hash
        written = [piece for piece in new.pieces if piece not in old.pieces and piece.raw not in {known.raw for known in old.pieces}]
        assert 0 < sum(len(piece.raw) for piece in written) < min(30_000, new.size / 20)


def test_a_document_is_the_same_compressed_and_in_chunks() -> None:
    for document in (DOCUMENTS.v2(), DOCUMENTS.v2(protobuf=True), DOCUMENTS.index()):
        assert gzip.decompress(document.gzipped()) == document.body == b"".join(document.chunks(10_000))
        assert len(document.body) == document.size


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
