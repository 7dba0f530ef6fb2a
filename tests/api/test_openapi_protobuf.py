"""OpenAPI v2 as protobuf says what the JSON document says: read back here, and read by kubectl itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from labctl.api import protobuf
from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import builtin_schema
from labctl.resources.schema.openapi import Documents
from tests.inprocess import ApiServer

Message = dict[int, list[Any]]


def message(raw: bytes) -> Message:
    found: Message = {}
    for number, value in protobuf._wire(raw):
        found.setdefault(number, []).append(value)
    return found


def named(raws: list[bytes]) -> Iterator[tuple[str, Message]]:
    for raw in raws:
        name, value = message(raw)[1][0], message(raw)[2][0]
        yield name.decode(), message(value)


def schema(said: Message) -> dict[str, Any]:
    """A gnostic Schema as JSON has it."""
    node: dict[str, Any] = {}
    for number, key in ((1, "$ref"), (2, "format"), (3, "title"), (4, "description"), (13, "pattern")):
        if number in said:
            node[key] = said[number][0].decode()
    if 5 in said:
        node["default"] = any_(said[5][0])
    if 19 in said:
        node["required"] = [name.decode() for name in said[19]]
    if 20 in said:
        node["enum"] = [any_(raw) for raw in said[20]]
    if 21 in said:
        more = message(said[21][0])
        node["additionalProperties"] = schema(message(more[1][0])) if 1 in more else bool(more.get(2, [0])[0])
    if 22 in said:
        node["type"] = message(said[22][0])[1][0].decode()
    if 23 in said:
        node["items"] = schema(message(message(said[23][0])[1][0]))
    if 24 in said:
        node["allOf"] = [schema(message(raw)) for raw in said[24]]
    if 25 in said:
        node["properties"] = {name: schema(value) for name, value in named(message(said[25][0])[1])}
    return node | extensions(said.get(31, []))


def extensions(raws: list[bytes]) -> dict[str, Any]:
    return {name: json.loads(value[2][0]) for name, value in named(raws)}


def any_(raw: bytes) -> Any:
    return json.loads(message(raw)[2][0])


def test_it_says_what_the_json_document_says() -> None:
    documents = Documents(builtin_schema(), builtin_registry().all_served())
    document = json.loads(documents.v2().body)
    said = message(documents.v2(protobuf=True).body)
    assert {name: schema(value) for name, value in named(message(said[9][0])[1])} == document["definitions"]
    paths = dict(named(message(said[8][0])[2]))
    assert list(paths) == list(document["paths"])
    methods = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            read = message(paths[path][methods[method]][0])
            assert read[5][0].decode() == operation["operationId"]
            assert extensions(read[13])["x-kubernetes-group-version-kind"] == operation["x-kubernetes-group-version-kind"]
            assert [name_of(raw) for raw in read.get(8, [])] == [parameter["name"] for parameter in operation["parameters"]]


def name_of(raw: bytes) -> str:
    parameter = message(message(raw)[1][0])
    if 1 in parameter:
        return message(parameter[1][0])[2][0].decode()  # type: ignore[no-any-return]
    other = message(parameter[2][0])
    return message((other.get(3) or other[4])[0])[4][0].decode()  # type: ignore[no-any-return]


async def test_kubectl_reads_it(api: ApiServer) -> None:
    explained = await api.kubectl("explain", "pod.spec.containers.resources", "--output=plaintext-openapiv2")
    assert explained.code == 0 and "limits\t<map[string]string>" in explained.out, explained.err
