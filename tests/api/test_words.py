"""Errors as a real API server says them: code, reason and words, because other people's programs read them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from labctl.api.settings import ApiSettings
from labctl.api.streaming import STREAMS
from tests.inprocess import ApiServer

PODS = "/api/v1/namespaces/default/pods"
JSON = {"Content-Type": "application/json"}


async def ask(api: ApiServer, method: str, path: str, who: Any = "admin", **more: Any) -> tuple[int, dict[str, Any]]:
    async with api.session(who) as http, http.request(method, path, **more) as answered:
        return answered.status, json.loads(await answered.read())


async def test_nobody_is_unauthorized(api: ApiServer) -> None:
    assert await ask(api, "GET", PODS, who=None) == (
        401,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": "Unauthorized",
            "reason": "Unauthorized",
            "code": 401,
        },
    )


async def test_nobody_may_know_that_it_lives(api: ApiServer) -> None:
    async with api.session(None) as http:
        for path in ("/healthz", "/livez", "/readyz"):
            async with http.get(path) as answered:
                assert (answered.status, await answered.text()) == (200, "ok")
        async with http.get("/version") as answered:
            assert (await answered.json())["minor"] == "37"


@pytest.mark.parametrize(
    ("method", "path", "code", "reason", "message"),
    [
        ("GET", f"{PODS}/x", 404, "NotFound", 'pods "x" not found'),
        ("GET", "/api/v1/wombats", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", f"{PODS}/x/nothing", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound", "the server could not find the requested resource"),
        ("POST", f"{PODS}/x", 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
        ("POST", "/api/v1/pods", 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
        ("DELETE", "/api/v1/pods", 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
        ("GET", "/api/v1/pods/x", 404, "NotFound", "the server could not find the requested resource"),
        ("PUT", PODS, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
        ("GET", f"{PODS}?limit=many", 400, "BadRequest", 'invalid query parameter limit: strconv.ParseInt: parsing "many": invalid syntax'),
        (
            "GET",
            f"{PODS}?watch=1&timeoutSeconds={'9' * 400}",
            400,
            "BadRequest",
            f'invalid query parameter timeoutSeconds: strconv.ParseInt: parsing "{"9" * 400}": value out of range',
        ),
        ("GET", "/labctl/v1/nothing", 404, "NotFound", "the server could not find the requested resource"),
    ],
)
async def test_refusals(api: ApiServer, method: str, path: str, code: int, reason: str, message: str) -> None:
    got, status = await ask(api, method, path)
    assert (got, status["code"], status["reason"], status["message"]) == (code, code, reason, message)
    assert status["kind"] == "Status"


@pytest.mark.parametrize("path", ["/apis/nothing.example/v1/things", "/nothing", "/api/v2", "/apis/nothing.example"])
async def test_where_nothing_listens_it_is_plain_text(api: ApiServer, path: str) -> None:
    async with api.session() as http, http.get(path) as answered:
        assert (answered.status, await answered.text()) == (404, "404 page not found\n")


async def test_protobuf_alone_is_not_acceptable(api: ApiServer) -> None:
    code, status = await ask(api, "GET", PODS, headers={"Accept": "application/vnd.kubernetes.protobuf"})
    assert (code, status["reason"]) == (406, "NotAcceptable")
    code, listed = await ask(api, "GET", PODS, headers={"Accept": "application/vnd.kubernetes.protobuf,application/json"})
    assert (code, listed["kind"]) == (200, "PodList")


async def test_media_types_of_bodies(api: ApiServer) -> None:
    code, status = await ask(api, "POST", PODS, data=b"x", headers={"Content-Type": "application/cbor"})
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")
    code, status = await ask(api, "PATCH", f"{PODS}/x", data=b"{}", headers={"Content-Type": "application/json"})
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")
    assert "application/strategic-merge-patch+json" in status["message"]


async def test_a_body_is_bounded(tmp_path: Any) -> None:
    async with ApiServer.running(tmp_path, settings=ApiSettings(body_limit_bytes=1000)) as api:
        code, status = await ask(api, "POST", PODS, data=b"x" * 2000, headers=JSON)
        assert (code, status["reason"], status["message"]) == (413, "RequestEntityTooLarge", "Request entity too large: limit is 1000")

        async def pieces() -> Any:
            for _ in range(4):
                yield b"y" * 500

        code, status = await ask(api, "POST", PODS, data=pieces(), headers=JSON)
        assert (code, status["message"]) == (413, "Request entity too large: limit is 1000")


async def test_yaml_is_understood_and_complained_about(api: ApiServer) -> None:
    yaml = {"Content-Type": "application/yaml"}
    good = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n"
    code, made = await ask(api, "POST", "/api/v1/namespaces/default/configmaps", data=good, headers=yaml)
    assert (code, made["data"]) == (201, {"k": "v"})
    code, status = await ask(api, "POST", "/api/v1/namespaces/default/configmaps", data="a: b: c", headers=yaml)
    assert (code, status["message"]) == (400, "error converting YAML to JSON: yaml: line 1: mapping values are not allowed in this context")
    code, status = await ask(api, "POST", "/api/v1/namespaces/default/configmaps", data="- a", headers=yaml)
    assert (code, status["reason"]) == (400, "BadRequest")
    async with (
        api.session() as http,
        http.get("/api/v1/namespaces/default/configmaps/a", headers={"Accept": "application/yaml"}) as answered,
    ):
        assert answered.headers["Content-Type"] == "application/yaml"
        assert "name: a\n" in await answered.text()


async def test_pretty_for_people_and_gzip_for_who_asks(tmp_path: Any) -> None:
    async with ApiServer.running(tmp_path, settings=ApiSettings(gzip_above_bytes=100)) as api, api.session() as http:
        async with http.get("/api/v1/namespaces/default?pretty=true", headers={"Accept-Encoding": "identity"}) as answered:
            assert (await answered.text()).startswith('{\n  "')
        async with http.get("/api/v1/namespaces/default", headers={"Accept-Encoding": "gzip"}) as answered:
            assert answered.headers["Content-Encoding"] == "gzip"
            assert (await answered.json())["kind"] == "Namespace"
        async with http.get("/api/v1/namespaces/default", headers={"Accept-Encoding": "identity"}) as answered:
            assert "Content-Encoding" not in answered.headers


async def test_a_deletion_answers_what_is_gone(api: ApiServer) -> None:
    _, made = await ask(api, "POST", "/api/v1/namespaces/default/configmaps", json={"metadata": {"name": "a"}})
    code, status = await ask(api, "DELETE", "/api/v1/namespaces/default/configmaps/a")
    details = {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    assert (code, status["status"], status["details"]) == (200, "Success", details)


@pytest.mark.parametrize("body", ['{"gracePeriodSeconds": "soon"}', "{nothing"])
async def test_a_deletion_with_a_body_that_is_wrong(api: ApiServer, body: str) -> None:
    await ask(api, "POST", "/api/v1/namespaces/default/configmaps", json={"metadata": {"name": "a"}})
    code, status = await ask(api, "DELETE", "/api/v1/namespaces/default/configmaps/a", data=body, headers=JSON)
    assert (code, status["reason"]) == (400, "BadRequest")


async def test_a_client_that_waits_to_be_asked_for_its_body(api: ApiServer) -> None:
    async with api.session() as http, http.post("/api/v1/namespaces", json={"metadata": {"name": "a"}}, expect100=True) as answered:
        assert answered.status == 201


async def test_head_answers_without_a_body(api: ApiServer) -> None:
    async with api.session() as http, http.head("/api/v1/namespaces/default") as answered:
        assert answered.status == 200 and int(answered.headers["Content-Length"]) > 100
        assert await answered.read() == b""


async def test_what_is_no_http_is_told_and_leaves_no_trace(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(api.authority.admin()))
    writer.write(b"GET /api\r\nHost\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 400 " in head and json.loads(body)["reason"] == "BadRequest"
    assert not caplog.records


@pytest.mark.parametrize(
    ("method", "query", "words"),
    [
        ("POST", "dryRun=some", 'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["some"]: supported values: "All"'),
        (
            "PUT",
            f"fieldManager={'x' * 129}",
            'UpdateOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes',
        ),
        (
            "PUT",
            "fieldValidation=Loud",
            'UpdateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Loud": supported values: "Ignore", "Strict", "Warn"',
        ),
        ("DELETE", "dryRun=some", 'DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["some"]: supported values: "All"'),
        (
            "DELETE",
            "propagationPolicy=Up",
            'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Up": '
            'supported values: "Background", "Foreground", "Orphan", "nil"',
        ),
    ],
)
async def test_options_that_are_wrong(api: ApiServer, method: str, query: str, words: str) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    made = {"metadata": {"name": "a"}}
    await ask(api, "POST", path, json=made)
    code, status = await ask(api, method, f"{path if method == 'POST' else path + '/a'}?{query}", json=made if method != "DELETE" else None)
    assert (code, status["message"]) == (422, words)


async def test_what_a_dry_run_would_create_has_no_resource_version(api: ApiServer) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    code, made = await ask(api, "POST", f"{path}?dryRun=All", json={"metadata": {"name": "a"}})
    assert (code, made["metadata"]["name"]) == (201, "a") and "resourceVersion" not in made["metadata"]
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    apply = {"Content-Type": "application/apply-patch+yaml"}
    code, made = await ask(api, "PATCH", f"{path}/a?dryRun=All&fieldManager=me&force=true", json=applied, headers=apply)
    assert code == 201 and "resourceVersion" not in made["metadata"]


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":"\xff"}', b"\xff", b"", b"null", b'"x"', b"NaN"])
@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        ("POST", "application/json"),
        ("POST", "application/yaml"),
        ("PUT", "application/json"),
        ("DELETE", "application/json"),
        ("PATCH", "application/json-patch+json"),
        ("PATCH", "application/merge-patch+json"),
        ("PATCH", "application/strategic-merge-patch+json"),
        ("PATCH", "application/apply-patch+yaml"),
    ],
)
async def test_a_body_that_is_no_object(api: ApiServer, method: str, content_type: str, body: bytes) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    await ask(api, "POST", path, json={"metadata": {"name": "a"}})
    target = f"{path}?fieldManager=me" if method == "POST" else f"{path}/a?fieldManager=me"
    code, status = await ask(api, method, target, data=body, headers={"Content-Type": content_type})
    allowed = (200, 400) if method == "DELETE" else (400, 422)  # a deletion may say nothing
    assert code in allowed and status["kind"] == "Status"


async def test_a_subresource_is_a_stream_or_has_a_meaning(api: ApiServer) -> None:
    """What discovery lists, but nobody carries out, would be an ordinary write of the whole object."""
    meant = {"status", "scale", "binding", "eviction", "finalize", "token", "approval"}
    for kind in api.resources.registry:
        for subresource in kind.subresources:
            assert subresource.name in meant or subresource.merge or (kind.plural, subresource.name) in STREAMS, (
                kind.plural,
                subresource.name,
            )


async def test_details_have_their_fields_in_order(api: ApiServer) -> None:
    """The Python client's error about a manifest is the body as it came, so programs that compare it know Go's order of fields."""
    named = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}
    async with api.session("admin") as http:
        async with http.get("/apis/apps/v1/namespaces/default/deployments/x") as answered:
            assert b'"details":{"name":"x","group":"apps","kind":"deployments"}' in await answered.read()
        async with http.post("/apis/apps/v1/namespaces/default/deployments", json=named) as answered:
            assert list(json.loads(await answered.read())["details"]) == ["name", "group", "kind", "causes"]
