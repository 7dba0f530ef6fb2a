"""Server-side apply of custom kinds that keep fields they do not name, of configurations that name a field twice, and through several versions of a kind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.client.test_custom_kinds import defined, definition
from tests.inprocess import ApiServer

URL = "/apis/example.com/v1/namespaces/default/widgets/w"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
PORTS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["port"],
    "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}},
}
OPEN = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "foo": {"type": "string"},
        "ports": PORTS,
        "template": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}}}, "spec": {"type": "object"}},
        },
    },
}
HEAD = "\napiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: w\n"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, aiohttp.ClientSession]]:
    async with ApiServer.running(tmp_path, controllers=True) as api, api.session() as session:
        yield api, session


async def with_schema(api: ApiServer, schema: dict[str, Any]) -> None:
    await defined(api, definition(schema={"openAPIV3Schema": schema}, subresources={}, selectableFields=[], additionalPrinterColumns=[]))


async def applied(
    session: aiohttp.ClientSession, body: str, validation: str = "Strict", manager: str = "me"
) -> tuple[int, dict[str, Any], list[str]]:
    query = {"fieldManager": manager, "fieldValidation": validation}
    async with session.patch(URL, data=body, params=query, headers=APPLY) as answer:
        return answer.status, await answer.json(), answer.headers.getall("Warning", [])


async def test_a_kind_without_a_schema_takes_any_field(http: tuple[ApiServer, aiohttp.ClientSession]) -> None:
    api, session = http
    await with_schema(api, {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    code, made, _ = await applied(session, HEAD + "spec:\n  unknown: uk1\n  ports:\n  - port: 80\n")
    assert code == 201 and made["spec"] == {"unknown": "uk1", "ports": [{"port": 80}]}
    code, made, _ = await applied(session, HEAD + "spec:\n  unknown: uk2\nmore: {a: b}\n")
    assert code == 200 and made["spec"] == {"unknown": "uk2"} and made["more"] == {"a": "b"}  # what it no longer says is gone


async def test_fields_that_a_schema_names_merge_beside_those_that_it_only_keeps(http: tuple[ApiServer, aiohttp.ClientSession]) -> None:
    api, session = http
    await with_schema(api, {"type": "object", "properties": {"spec": OPEN}})
    assert (await applied(session, HEAD + "spec:\n  other: 1\n  ports:\n  - {port: 80, name: a}\n"))[0] == 201
    code, made, _ = await applied(session, HEAD + "spec:\n  another: 2\n  ports:\n  - {port: 81, name: b}\n", manager="you")
    assert code == 200 and made["spec"]["other"] == 1 and made["spec"]["another"] == 2
    assert {each["port"] for each in made["spec"]["ports"]} == {80, 81}
    code, said, _ = await applied(session, HEAD + "spec:\n  other: 7\n", manager="you")
    assert code == 409 and ".spec.other" in said["message"]
    code, said, _ = await applied(session, HEAD + "spec:\n  foo: [1]\n")
    assert code == 400 and ".spec.foo: expected string" in said["message"]
    code, said, _ = await applied(session, HEAD + "spec:\n  template:\n    metadata: {name: x, wrong: y}\n")
    assert code == 400 and ".spec.template.metadata.wrong: field not declared in schema" in said["message"]


@pytest.mark.parametrize("form", ["yaml", "json"])
async def test_a_field_that_is_named_twice_is_said_with_its_line(http: tuple[ApiServer, aiohttp.ClientSession], form: str) -> None:
    api, session = http
    await with_schema(api, {"type": "object", "properties": {"spec": OPEN}})
    if form == "yaml":
        body, line = HEAD + "spec:\n  foo: one\n  foo: two\n", 8
    else:
        whole = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"foo": "two"}}
        body, line = json.dumps(whole).replace('"foo"', '"foo": "one", "foo"'), 1
    code, said, _ = await applied(session, body)
    assert code == 400 and f'line {line}: key "foo" already set in map' in said["message"]
    code, _, warnings = await applied(session, body, "Warn")
    assert code == 201 and f'line {line}: key \\"foo\\" already set in map' in warnings[0]
    code, made, warnings = await applied(session, body, "Ignore")
    assert code == 200 and not warnings and made["spec"]["foo"] == "two"
    told = f'line {line}: key \\"foo\\" already set in map' if form == "yaml" else 'duplicate field \\"spec.foo\\"'
    headers = {"Content-Type": f"application/{form}"}
    for validation, wanted in (("Strict", 400), ("Warn", 200), ("Ignore", 200)):
        async with session.put(URL, data=body, params={"fieldValidation": validation}, headers=headers) as answer:
            assert answer.status == wanted
            assert (told in answer.headers.get("Warning", "")) == (validation == "Warn")
            said = await answer.json()
            assert told.replace("\\", "") in said["message"] if wanted == 400 else said["spec"]["foo"] == "two"


async def test_the_older_openapi_tells_nothing_below_a_field_that_keeps_others(http: tuple[ApiServer, aiohttp.ClientSession]) -> None:
    api, session = http
    await with_schema(api, {"type": "object", "properties": {"spec": OPEN}})
    async with session.get("/openapi/v2") as answer:
        spec = (await answer.json(content_type=None))["definitions"]["com.example.v1.Widget"]["properties"]["spec"]
    assert spec == {"x-kubernetes-preserve-unknown-fields": True}
    async with session.get("/openapi/v3/apis/example.com/v1") as answer:
        spec = (await answer.json())["components"]["schemas"]["com.example.v1.Widget"]["properties"]["spec"]
    assert "ports" in spec["properties"]


async def test_numbers_are_as_large_as_their_format(http: tuple[ApiServer, aiohttp.ClientSession]) -> None:
    """What may be a number or a text may be a number of bytes. Since Kubernetes 1.36 a number of format int32 is one, and so are the bounds beside it."""
    api, session = http
    either = {"x-kubernetes-int-or-string": True}
    number, narrow = (
        {"type": "integer", "format": "int64", "maximum": 4294967295},
        {"type": "integer", "format": "int32", "maximum": 4294967295},
    )
    await with_schema(api, {"type": "object", "properties": {"asn": number, "narrow": narrow, "memory": either}})
    code, made, _ = await applied(session, HEAD + "asn: 4200000000\nmemory: 8589934592\n")
    assert (code, made.get("asn"), made.get("memory")) == (201, 4200000000, 8589934592), made
    code, said, _ = await applied(session, HEAD + "asn: 4294967296\n")
    assert code == 422 and "asn in body should be less than or equal to 4294967295" in said["message"]
    code, said, _ = await applied(session, HEAD + "narrow: 5\n")
    assert code == 422 and "Maximum boundary value must be of type integer with format int32 in narrow" in said["message"]
    code, said, _ = await applied(session, HEAD + "asn: much\n")
    assert code == 400 and ".asn: expected numeric (int or float), got &value.valueUnstructured" in said["message"]


async def test_a_key_with_a_default_may_be_left_out(http: tuple[ApiServer, aiohttp.ClientSession]) -> None:
    """The default is the schema's: `protocol` means TCP in Kubernetes' own kinds only."""
    api, session = http
    file = {"type": "object", "properties": {"arch": {"type": "string", "default": "any"}, "content": {"type": "string"}}}
    files = {"type": "array", "items": file, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["arch"]}
    port = {"type": "object", "required": ["protocol"], "properties": {"protocol": {"type": "string"}}}
    ports = {"type": "array", "items": port, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["protocol"]}
    await with_schema(api, {"type": "object", "properties": {"files": files, "ports": ports}})
    code, made, _ = await applied(session, HEAD + "files: [{content: a}, {arch: arm, content: b}]\n")
    assert code == 201, made
    assert made["files"] == [{"arch": "any", "content": "a"}, {"arch": "arm", "content": "b"}]
    code, made, _ = await applied(session, HEAD + "files: [{content: c}]\n")
    assert (code, made["files"]) == (200, [{"arch": "any", "content": "c"}])
    code, said, _ = await applied(session, HEAD + "files: [{content: c}, {arch: any, content: d}]\n")
    assert code == 400 and '.files: duplicate entries for key [arch="any"]' in said["message"]
    code, said, _ = await applied(session, HEAD + "ports: [{}]\n")
    assert code == 400 and 'omits key field "protocol" (and doesn\'t have default value)' in said["message"]


AUTOSCALER = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers/web"


async def test_an_applier_is_the_same_through_every_version(http: tuple[ApiServer, aiohttp.ClientSession]) -> None:
    """A chart goes from autoscaling/v1 to v2: helm does not conflict with itself, and what it names no more is gone."""
    _, session = http
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}

    async def applied_through(version: str, **more: Any) -> tuple[int, dict[str, Any]]:
        body = {"apiVersion": f"autoscaling/{version}", "kind": "HorizontalPodAutoscaler", **more}
        url, query = AUTOSCALER.format(version), {"fieldManager": "helm"}
        async with session.patch(url, data=json.dumps(body), params=query, headers=APPLY) as answer:
            return answer.status, await answer.json()

    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    assert (await applied_through("v1", metadata={"name": "web", "labels": {"old": "yes"}}, spec=spec))[0] == 201
    status, changed = await applied_through("v2", metadata={"name": "web"}, spec={"scaleTargetRef": target, "maxReplicas": 5})
    assert status == 200, changed
    assert (changed["spec"]["maxReplicas"], changed["spec"]["minReplicas"]) == (5, 1) and "labels" not in changed["metadata"]
    [entry] = [each for each in changed["metadata"]["managedFields"] if each["operation"] == "Apply"]  # the controller has one of its own
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("helm", "Apply", "autoscaling/v2")
