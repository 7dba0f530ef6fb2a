"""Habits of the definitions that operators ship, with the real kubectl: what a real server takes of them, warns of, and refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_custom_kinds import definition, until
from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

LABEL = {"type": "string", "maxLength": 316, "pattern": "^[a-z0-9./-]+$"}
REQUIREMENT = {
    "type": "object",
    "required": ["key", "operator"],
    "properties": {
        "key": {
            **LABEL,
            "x-kubernetes-validations": [{"rule": "!self.find('^([^/]+)').endsWith('k8s.io')", "message": "k8s.io is restricted"}],
        },
        "operator": {"type": "string", "enum": ["In", "Gt"]},
        "values": {"type": "array", "maxItems": 50, "items": {"type": "string", "maxLength": 63}, "x-kubernetes-list-type": "atomic"},
    },
}
SPEC = {
    "type": "object",
    "required": ["requirements"],
    "properties": {
        "paused": {"type": "boolean", "nullable": True},
        "replicas": {"type": "integer", "format": "int32", "minimum": 0, "default": 1},
        "limits": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": "^[0-9]+(Gi|m)?$",
                "x-kubernetes-int-or-string": True,
            },
        },
        "disruption": {
            "type": "object",
            "default": {"policy": "WhenEmpty"},
            "properties": {
                "policy": {"type": "string", "enum": ["WhenEmpty", "Never"], "default": "WhenEmpty"},
                "budgets": {
                    "type": "array",
                    "maxItems": 50,
                    "default": [{"nodes": "10%"}],
                    "items": {"type": "object", "properties": {"nodes": {"type": "string", "default": "10%"}}},
                },
            },
        },
        "requirements": {
            "type": "array",
            "maxItems": 100,
            "items": REQUIREMENT,
            "x-kubernetes-validations": [
                {
                    "rule": "self.all(x, x.operator == 'Gt' ? (x.values.size() == 1 && int(x.values[0]) >= 0) : true)",
                    "messageExpression": "'a number is needed in ' + self.filter(x, x.operator == 'Gt').map(x, x.key).join(', ')",
                    "reason": "FieldValueForbidden",
                }
            ],
        },
        "source": {
            "type": "object",
            "properties": {"claim": {"type": "string"}, "content": {"type": "string"}},
            "oneOf": [{"required": ["claim"]}, {"required": ["content"]}],
        },
    },
}
CONDITION = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
    },
}
STATUS = {
    "type": "object",
    "properties": {
        "replicas": {"type": "integer"},
        "conditions": {"type": "array", "items": CONDITION, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    },
}
COLUMNS = [
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Since", "type": "date", "jsonPath": ".status.conditions[?(@.type=='Ready')].lastTransitionTime"},
    {"name": "Keys", "type": "string", "jsonPath": ".spec.requirements[*].key", "priority": 1},
]


def pools(**version: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"metadata": {"type": "object"}, "spec": SPEC, "status": STATUS}, "required": ["spec"]}
    said = {"schema": {"openAPIV3Schema": schema}, "additionalPrinterColumns": COLUMNS, "selectableFields": [], **version}
    whole = definition("pools", "Pool", **said)
    whole["metadata"] |= {"creationTimestamp": None, "annotations": {"generated-by/version": "v0.17.2"}}
    whole["spec"] |= {"preserveUnknownFields": False}
    return {**whole, "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []}}


def pool(name: str = "p", **spec: Any) -> dict[str, Any]:
    spec = {"requirements": [{"key": "example.com/arch", "operator": "In", "values": ["amd64"]}], **spec}
    return {"apiVersion": "example.com/v1", "kind": "Pool", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


async def made(api: ApiServer, **version: Any) -> None:
    await ok(api, "create", "-f", "-", stdin=pools(**version))
    await ok(api, "wait", "--for=condition=Established", "crd/pools.example.com", "--timeout=5s")


async def test_a_definition_of_an_operator_is_written_in_every_way(api: ApiServer) -> None:
    await made(api)
    for way in (("apply",), ("apply", "--server-side", "--force-conflicts"), ("replace",)):
        ran = await api.kubectl(*way, "-f", "-", stdin=pools())
        assert ran.code == 0 and "unrecognized" not in ran.err, ran.err
    said = await ok(api, "explain", "pools", "--recursive")
    assert "      nodes\t<string>" in said and "  limits\t<map[string]Object>" in said or "limits\t<map[string]" in said, said


async def test_objects_of_an_operator_are_filled_shown_and_judged(api: ApiServer) -> None:
    await made(api)
    await ok(api, "create", "--validate=strict", "-f", "-", stdin=pool(limits={"cpu": 4, "memory": "8Gi"}, paused=None))
    stored = json.loads(await ok(api, "get", "pool", "p", "-o", "json"))["spec"]
    assert stored["disruption"] == {"policy": "WhenEmpty", "budgets": [{"nodes": "10%"}]} and stored["paused"] is None
    now = {
        "conditions": [
            {"type": "Other", "status": "False"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
        ]
    }
    await ok(api, "patch", "pool", "p", "--subresource=status", "--type=merge", "-p", json.dumps({"status": now}))
    _, row = (await ok(api, "get", "pools", "-o", "wide")).splitlines()
    assert row.split()[:2] == ["p", "True"] and row.split()[2].endswith("d") and row.split()[3] == "example.com/arch"
    wrong = pool("q", requirements=[{"key": "x.k8s.io/a", "operator": "Gt", "values": ["1", "2"]}], limits={"cpu": "much"}, source={})
    said = await refused(api, "create", "-f", "-", stdin=wrong)
    assert "spec.limits.cpu: Invalid value: \"much\": spec.limits.cpu in body should match '^[0-9]+(Gi|m)?$'" in said
    assert '* <nil>: Invalid value: "": "spec.source" must validate one and only one schema (oneOf). Found none valid' in said
    assert "* spec.source.claim: Required value" in said and "some validation rules were not checked" in said
    del wrong["spec"]["source"]
    said = await refused(api, "create", "-f", "-", stdin=wrong)
    assert "* spec.requirements: Forbidden: a number is needed in x.k8s.io/a" in said
    assert '* spec.requirements[0].key: Invalid value: "string": k8s.io is restricted' in said


async def test_who_changes_something_else_is_not_asked_about_the_items_of_a_list(api: ApiServer) -> None:
    """Nobody knows which old item of an atomic list was this one. But the list is as it was."""
    await ok(api, "create", "-f", "-", stdin=pools())
    await ok(api, "wait", "--for=condition=Established", "crd/pools.example.com", "--timeout=5s")
    await ok(api, "create", "-f", "-", stdin=pool())
    whole = json.loads(json.dumps(pools()))
    key = whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["requirements"]["items"][
        "properties"
    ]["key"]
    key["x-kubernetes-validations"][0]["rule"] = "!self.endsWith('arch')"
    await ok(api, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=whole)
    await until(lambda: api.resources.registry["pools.example.com"].validate(pool(), None))
    await ok(api, "patch", "pool", "p", "--type=merge", "-p", '{"spec":{"replicas":2}}')
    more = json.dumps({"spec": {"requirements": [*pool()["spec"]["requirements"], {"key": "b", "operator": "In"}]}})
    assert "spec.requirements[0].key: Invalid value" in await refused(api, "patch", "pool", "p", "--type=merge", "-p", more)


async def test_a_format_that_is_not_checked_is_warned_of_once(api: ApiServer) -> None:
    odd = {"type": "object", "properties": {"a": {"type": "string", "format": "cron"}, "b": {"type": "integer", "format": "int64"}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": odd}}}
    version = {"schema": schema, "subresources": {}, "selectableFields": [], "additionalPrinterColumns": []}
    ran = await api.kubectl("create", "-f", "-", stdin=definition(**version))
    assert ran.code == 0 and ran.err.splitlines() == ['Warning: unrecognized format "cron"']
    odd["properties"]["c"] = {"type": "number", "format": "int32"}  # type: ignore[index]
    ran = await api.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=definition(**version))
    assert ran.code == 0 and ran.err.splitlines() == ['Warning: unrecognized format "int32"']


async def test_a_column_that_nobody_understands_leaves_the_usual_ones(api: ApiServer) -> None:
    columns = [{"name": "Odd", "type": "string", "jsonPath": ".spec.requirements[?(@.key in 'a')]"}]
    await made(api, additionalPrinterColumns=columns)
    await ok(api, "create", "-f", "-", stdin=pool())
    header, _ = (await ok(api, "get", "pools")).splitlines()
    assert header.split() == ["NAME", "AGE"]


VERSIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": "{.a}"}]},
        'additionalPrinterColumns[0].JSONPath: Invalid value: "{.a}": must be a simple json path starting with .',
    ),
    ({"subresources": {"scale": {"specReplicasPath": ".spec.replicas"}}}, "subresources.scale.statusReplicasPath: Required value"),
    (
        {"subresources": {"scale": {"specReplicasPath": "replicas", "statusReplicasPath": ".status.n"}}},
        'subresources.scale.specReplicasPath: Invalid value: "replicas": must be a simple json path starting with .',
    ),
    (
        {"subresources": {"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".metadata.l"}}},
        'subresources.scale.labelSelectorPath: Invalid value: ".metadata.l": should be a json path under either .spec or .status',
    ),
    ({"deprecationWarning": "soon"}, 'deprecationWarning: Invalid value: "soon": can only be set for deprecated versions'),
    ({"deprecated": True, "deprecationWarning": ""}, 'deprecationWarning: Invalid value: "": must not be an empty string'),
    (
        {"deprecated": True, "deprecationWarning": "a\nb"},
        "must only contain printable UTF-8 characters; non-printable character found at index 1",
    ),
]


async def test_what_is_wrong_with_a_version_is_said(api: ApiServer) -> None:
    for version, words in VERSIONS:
        assert words in await refused(api, "create", "-f", "-", stdin=pools(**version))


async def test_another_version_is_not_to_be_had_while_its_webhook_is_away(api: ApiServer) -> None:
    await made(api)
    await ok(api, "create", "-f", "-", stdin=pool())
    whole = pools()
    whole["spec"]["versions"].append({**whole["spec"]["versions"][0], "name": "v1beta1", "storage": False})
    service = {"namespace": "default", "name": "hook", "path": "/convert"}
    whole["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1"]},
    }
    await ok(api, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=whole)
    await until(lambda: len(api.resources.registry.versions("pools.example.com")) == 2)
    assert await ok(api, "get", "pools", "-o", "name") == "pool.example.com/p\n"
    away = 'failed: Post "https://hook.default.svc:443/convert?timeout=30s": service "hook" not found'
    assert f"conversion webhook for example.com/v1, Kind=Pool {away}" in await refused(api, "get", "pools.v1beta1.example.com")
    older = {**pool("older"), "apiVersion": "example.com/v1beta1"}
    assert f"conversion webhook for example.com/v1beta1, Kind=Pool {away}" in await refused(api, "create", "-f", "-", stdin=older)


OPEN = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


@pytest.mark.parametrize(("subresources", "with_status"), [({}, 1), ({"status": {}}, 0)])
async def test_each_change_of_what_is_wanted_counts(api: ApiServer, subresources: dict[str, Any], with_status: int) -> None:
    """It is not always in the spec, and a status without a subresource is a field like any other."""
    await made(api, schema=OPEN, subresources=subresources, additionalPrinterColumns=[])
    await ok(api, "create", "-f", "-", stdin=pool())
    counted = []
    for patch in ({"operation": {"sync": True}}, {"status": {"a": 1}}, {"metadata": {"labels": {"a": "b"}}}, {"spec": {"a": 1}}):
        await ok(api, "patch", "pool", "p", "--type=merge", "-p", json.dumps(patch))
        counted.append(int(await ok(api, "get", "pool", "p", "-o", "jsonpath={.metadata.generation}")))
    assert counted == [2, 2 + with_status, 2 + with_status, 3 + with_status]


async def test_a_column_shows_only_what_has_its_type(api: ApiServer) -> None:
    types = {
        "whole": "integer",
        "part": "integer",
        "list": "integer",
        "said": "boolean",
        "one": "boolean",
        "map": "string",
        "text": "number",
    }
    columns = [{"name": name, "type": type_, "jsonPath": f".spec.{name}"} for name, type_ in types.items()]
    await made(api, schema=OPEN, additionalPrinterColumns=columns)
    shown = {"whole": 5, "part": 5.7, "list": [1], "said": "true", "one": 1, "map": {"a": 1}, "text": "7"}
    await ok(api, "create", "-f", "-", stdin={**pool(), "spec": shown})
    async with api.session() as http:
        accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        async with http.get("/apis/example.com/v1/namespaces/default/pools/p", headers=accept) as answer:
            [row] = (await answer.json())["rows"]
    assert row["cells"] == ["p", 5, 5, None, "true", None, '{"a":1}', None]
