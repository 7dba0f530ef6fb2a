"""Custom kinds with the real kubectl: defined, validated, pruned, defaulted, printed, explained, patched, scaled, deleted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

SPEC = {
    "type": "object",
    "description": "What the widget is to be.",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10, "description": "How big it is."},
        "color": {"type": "string", "enum": ["red", "green"], "default": "green"},
        "nick": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "port": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "replicas": {"type": "integer", "default": 1},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["id"],
            "items": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string"}, "count": {"type": "integer", "default": 7}},
            },
        },
        "when": {"type": "string", "format": "date-time"},
    },
}
STATUS = {
    "type": "object",
    "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}, "selector": {"type": "string"}},
}


def definition(plural: str = "widgets", kind: str = "Widget", group: str = "example.com", **version: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}
    first = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "selectableFields": [{"jsonPath": ".spec.color"}],
        **version,
    }
    names = {"plural": plural, "kind": kind, "shortNames": [plural[:3]], "categories": ["all"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [first]},
    }


def widget(name: str = "w", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 3, **spec}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


async def until(look: Callable[[], Any], within_s: float = 10.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return found


async def defined(api: ApiServer, whole: dict[str, Any] | None = None) -> None:
    whole = whole or definition()
    name = whole["metadata"]["name"]
    assert await ok(api, "create", "-f", "-", stdin=whole) == f"customresourcedefinition.apiextensions.k8s.io/{name} created\n"
    await ok(api, "wait", "--for=condition=Established", f"crd/{name}", "--timeout=5s")


async def stored(api: ApiServer, name: str = "w") -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(await ok(api, "get", "widget", name, "-o", "json"))
    return whole


async def test_a_kind_is_defined_and_its_objects_are_made_printed_and_found(api: ApiServer) -> None:
    await defined(api)
    assert await ok(api, "create", "-f", "-", stdin=widget()) == "widget.example.com/w created\n"
    header, row = (await ok(api, "get", "wid")).splitlines()
    assert header.split() == ["NAME", "SIZE", "PHASE", "AGE"] and row.split()[:2] == ["w", "3"]
    assert "widget.example.com/w" in await ok(api, "get", "all", "-o", "name")
    assert "widgets" in await ok(api, "api-resources", "--api-group=example.com")
    whole = await stored(api)
    assert whole["spec"] == {"size": 3, "color": "green", "replicas": 1} and whole["metadata"]["generation"] == 1
    assert await ok(api, "get", "wid", "--field-selector=spec.color=green", "-o", "name") == "widget.example.com/w\n"
    assert await ok(api, "get", "wid", "--field-selector=spec.color=red", "-o", "name") == ""


async def test_explain_tells_of_the_fields_that_every_object_has(api: ApiServer) -> None:
    await defined(api)
    said = await ok(api, "explain", "widget")
    for words in ("apiVersion\t<string>\n    APIVersion defines", "metadata\t<ObjectMeta>\n    Standard object's metadata"):
        assert words in said, said
    said = await ok(api, "explain", "widget.metadata")
    assert "Standard object's metadata" in said and "creationTimestamp\t<string>\n    CreationTimestamp is a timestamp" in said


async def test_explain_tells_types_and_descriptions(api: ApiServer) -> None:
    await defined(api)
    said = await ok(api, "explain", "widget.spec")
    assert "size\t<integer> -required-" in said and "How big it is." in said and "enum: red, green" in said


WRONG = [
    ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
    ({"size": 11}, "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
    ({"size": "big"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
    ({"size": None}, "spec.size: "),
    ({"color": "blue"}, 'spec.color: Unsupported value: "blue": supported values: "red", "green"'),
    ({"nick": "ABC"}, "spec.nick: Invalid value: \"ABC\": spec.nick in body should match '^[a-z]+$'"),
    ({"nick": "abcdef"}, "spec.nick: Too long: may not be more than 5 bytes"),
    ({"port": 1.5}, 'spec.port: Invalid value: "number": spec.port in body must be of type integer,string: "number"'),
    ({"parts": [{"id": "a"}, {"id": "a"}]}, 'spec.parts[1]: Duplicate value: {"id":"a"}'),
    ({"parts": [{"count": 1}]}, "spec.parts[0].id: Required value"),
    ({"when": "yesterday"}, 'spec.when: Invalid value: "yesterday": spec.when in body must be of type date-time: "yesterday"'),
]


async def test_what_is_wrong_is_said_as_kubernetes_says_it(api: ApiServer) -> None:
    await defined(api)
    for spec, words in WRONG:
        said = await refused(api, "create", "--validate=false", "-f", "-", stdin=json.dumps(widget(**spec)))
        assert 'The Widget "w" is invalid' in said and words in said, said
    missing = widget()
    del missing["spec"]["size"]
    assert "spec.size: Required value" in await refused(api, "create", "--validate=false", "-f", "-", stdin=missing)


async def test_unknown_fields_are_an_error_a_warning_or_pruned(api: ApiServer) -> None:
    await defined(api)
    strange = widget(shape="round", free={"any": {"thing": 1}})
    assert 'unknown field "spec.shape"' in await refused(api, "create", "-f", "-", stdin=strange)
    ran = await api.kubectl("create", "--validate=warn", "-f", "-", stdin=strange)
    assert ran.code == 0 and 'unknown field "spec.shape"' in ran.err
    assert (await stored(api))["spec"] == {"size": 3, "color": "green", "replicas": 1, "free": {"any": {"thing": 1}}}


async def test_status_and_scale_are_subresources(api: ApiServer) -> None:
    await defined(api)
    await ok(api, "create", "-f", "-", stdin={**widget(), "status": {"phase": "Lying"}})
    assert "status" not in await stored(api)
    await ok(
        api,
        "patch",
        "widget",
        "w",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status":{"phase":"Ready","replicas":2},"spec":{"size":9}}',
    )
    whole = await stored(api)
    assert whole["status"] == {"phase": "Ready", "replicas": 2} and whole["spec"]["size"] == 3 and whole["metadata"]["generation"] == 1
    assert await ok(api, "scale", "widget/w", "--replicas=4") == "widget.example.com/w scaled\n"
    whole = await stored(api)
    assert whole["spec"]["replicas"] == 4 and whole["metadata"]["generation"] == 2
    assert json.loads(await ok(api, "get", "--raw", "/apis/example.com/v1/namespaces/default/widgets/w/scale"))["status"]["replicas"] == 2


async def test_an_object_without_replicas_has_no_scale_until_somebody_sets_it(api: ApiServer) -> None:
    """Its autoscaler says so, too."""
    paths = {"specReplicasPath": ".spec.free.wanted", "statusReplicasPath": ".status.replicas"}
    await defined(api, definition(subresources={"status": {}, "scale": paths}))
    await ok(api, "create", "-f", "-", stdin=widget())
    path, why = "/apis/example.com/v1/namespaces/default/widgets/w/scale", 'the spec replicas field ".spec.free.wanted" does not exist'
    code, _out, error = await api.kubectl("get", "--raw", path)
    assert (code, error.strip()) == (1, f"Error from server (InternalError): Internal error occurred: {why}")
    await ok(api, "autoscale", "widget/w", "--max=5", "--min=4")
    await ok(api, "wait", "hpa/w", "--for=condition=AbleToScale=false", "--timeout=20s")
    assert why in await ok(api, "get", "hpa", "w", "-o", "jsonpath={.status.conditions[*].message}")
    assert await ok(api, "scale", "widget/w", "--replicas=4") == "widget.example.com/w scaled\n"
    assert json.loads(await ok(api, "get", "--raw", path))["spec"]["replicas"] == 4
    assert (await stored(api))["spec"]["free"] == {"wanted": 4}


async def test_a_disruption_budget_counts_what_a_custom_controller_wants(api: ApiServer) -> None:
    await defined(api)
    await ok(api, "create", "-f", "-", stdin=widget(replicas=6))
    owner = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "name": "w",
        "controller": True,
        "uid": (await stored(api))["metadata"]["uid"],
    }
    budget = {"selector": {"matchLabels": {"app": "w"}}, "maxUnavailable": 1}
    pod = {"labels": {"app": "w"}, "ownerReferences": [owner]}
    made = (
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": budget},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", **pod}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    )
    for each in made:
        await ok(api, "create", "-f", "-", stdin=each)
    await ok(api, "wait", "pdb/b", "--for=jsonpath={.status.expectedPods}=6", "--timeout=10s")
    status = json.loads(await ok(api, "get", "pdb", "b", "-o", "json"))["status"]
    assert status["desiredHealthy"] == 5 and status["conditions"][0]["reason"] == "InsufficientPods"


async def test_patches_and_server_side_apply(api: ApiServer) -> None:
    await defined(api)
    await ok(api, "apply", "--server-side", "--field-manager=one", "-f", "-", stdin=widget(parts=[{"id": "a", "count": 1}]))
    await ok(
        api, "apply", "--server-side", "--field-manager=two", "-f", "-", stdin={**widget(parts=[{"id": "b"}]), "metadata": {"name": "w"}}
    )
    parts = (await stored(api))["spec"]["parts"]
    assert sorted(parts, key=lambda part: part["id"]) == [{"id": "a", "count": 1}, {"id": "b", "count": 7}]
    said = await refused(api, "apply", "--server-side", "--field-manager=two", "-f", "-", stdin=widget(size=5))
    assert "conflict" in said and ".spec.size" in said
    await ok(api, "apply", "-f", "-", stdin=widget("plain"))
    await ok(api, "apply", "-f", "-", stdin=widget("plain", size=4))
    assert (await stored(api, "plain"))["spec"]["size"] == 4
    await ok(api, "patch", "widget", "plain", "--type=json", "-p", '[{"op":"replace","path":"/spec/size","value":5}]')
    said = await refused(api, "patch", "widget", "plain", "-p", '{"spec":{"size":6}}')
    assert "UnsupportedMediaType" in said or "415" in said or "not supported" in said


async def test_a_definition_that_goes_takes_its_objects_along(api: ApiServer) -> None:
    await defined(api)
    await ok(api, "create", "-f", "-", stdin=widget())
    await ok(api, "delete", "crd", "widgets.example.com", "--timeout=10s")
    said = await refused(api, "get", "widgets")
    assert "the server doesn't have a resource type" in said or "could not find the requested resource" in said
    await defined(api)
    assert await ok(api, "get", "widgets", "-o", "name") == "", "what was deleted does not come back"


async def test_a_finalizer_can_be_taken_away_while_the_definition_goes(api: ApiServer) -> None:
    """Or neither the definition nor the namespace would ever go."""
    await defined(api)
    held = widget()
    held["metadata"]["finalizers"] = ["example.com/held"]
    await ok(api, "create", "-f", "-", stdin=held)
    await ok(api, "delete", "crd", "widgets.example.com", "--wait=false")
    await ok(api, "wait", "--for=jsonpath={.metadata.deletionTimestamp}", "widget/w", "--timeout=10s")
    assert "create not allowed while custom resource definition is terminating" in await refused(
        api, "create", "-f", "-", stdin=widget("v")
    )
    assert "create not allowed" in await refused(api, "apply", "--server-side", "-f", "-", stdin=widget("v"))
    async with api.session() as http, http.get("/apis/example.com/v1") as answered:
        verbs = next(each["verbs"] for each in (await answered.json())["resources"] if each["name"] == "widgets")
    assert verbs == ["delete", "deletecollection", "get", "list", "watch"]
    await ok(api, "label", "widget", "w", "still=changes")
    async with api.session() as http:
        path, merge = "/apis/example.com/v1/namespaces/default/widgets/w", {"Content-Type": "application/merge-patch+json"}
        async with http.patch(f"{path}/status", json={"status": {"phase": "Going"}}, headers=merge) as answered:
            assert answered.status == 200
        async with http.get(path) as answered:
            whole = await answered.json()
        whole["metadata"].pop("finalizers")
        async with http.put(path, json=whole) as answered:
            assert answered.status == 200
    await ok(api, "wait", "--for=delete", "crd/widgets.example.com", "--timeout=10s")


async def test_names_that_are_taken_are_not_accepted(api: ApiServer) -> None:
    await defined(api)
    other = definition("gadgets", "Widget")
    await ok(api, "create", "-f", "-", stdin=other)
    whole = json.loads(
        await ok(api, "wait", "--for=condition=NamesAccepted=false", "crd/gadgets.example.com", "-o", "json", "--timeout=5s")
    )
    said = next(c for c in whole["status"]["conditions"] if c["type"] == "NamesAccepted")
    assert said["reason"] == "ListKindConflict" and said["message"] == '"WidgetList" is already in use'
    assert "the server doesn't have a resource type" in await refused(api, "get", "gadgets")
    await ok(api, "delete", "crd", "widgets.example.com")
    await ok(api, "wait", "--for=condition=Established", "crd/gadgets.example.com", "--timeout=5s")


async def test_versions_differ_in_name_only(api: ApiServer) -> None:
    whole = definition()
    second = json.loads(json.dumps(whole["spec"]["versions"][0])) | {"name": "v1beta1", "storage": False, "deprecated": True}
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["old"] = {"type": "string"}
    whole["spec"]["versions"].append(second)
    await defined(api, whole)
    await ok(api, "create", "-f", "-", stdin=widget())
    seen = json.loads(await ok(api, "get", "widgets.v1beta1.example.com", "w", "-o", "json"))
    assert seen["apiVersion"] == "example.com/v1beta1" and seen["spec"]["size"] == 3
    ran = await api.kubectl("get", "widgets.v1beta1.example.com")
    assert "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget" in ran.err


async def test_a_default_that_comes_later_is_read_from_old_objects(api: ApiServer) -> None:
    await defined(api)
    await ok(api, "create", "-f", "-", stdin=widget())
    patch = '[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/late","value":{"type":"string","default":"yes"}}]'
    await ok(api, "patch", "crd", "widgets.example.com", "--type=json", "-p", patch)
    for _ in range(100):
        if (await stored(api))["spec"].get("late") == "yes":
            break
        await asyncio.sleep(0.05)
    assert (await stored(api))["spec"]["late"] == "yes"


NOT_STRUCTURAL = [
    (
        {"type": "object", "properties": {"spec": {"properties": {"a": {"type": "string"}}}}},
        "properties[spec].type: Required value: must not be empty for specified object fields",
    ),
    ({"type": "array", "items": {"type": "string"}}, 'openAPIV3Schema.type: Invalid value: "array": must be object at the root'),
    (
        {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}}},
        "must be a valid regular expression",
    ),
    ({"type": "object", "properties": {"spec": {"type": "string", "default": 5}}}, "properties[spec].default"),
    (
        {"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}},
        "must not specify anything other than name and generateName",
    ),
    (
        {"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}}},
        "x-kubernetes-list-map-keys: Required value",
    ),
    ({"type": "object", "anyOf": [{"properties": {"x": {"type": "string"}}}]}, "Required value: because it is defined in"),
]


async def test_a_schema_that_is_not_structural_is_refused(api: ApiServer) -> None:
    for schema, words in NOT_STRUCTURAL:
        said = await refused(
            api, "create", "-f", "-", stdin=definition(schema={"openAPIV3Schema": schema}, subresources={}, selectableFields=[])
        )
        assert words in said, said
    wrong = definition()
    wrong["metadata"]["name"] = "other.example.com"
    assert 'must be spec.names.plural+"."+spec.group' in await refused(api, "create", "-f", "-", stdin=wrong)


async def test_two_hundred_definitions_stay_quick(api: ApiServer) -> None:
    for number in range(200):
        whole = definition(f"things{number}", f"Thing{number}")
        whole["spec"]["names"]["shortNames"] = []
        await api.resources.create(api.resources.registry["customresourcedefinitions.apiextensions.k8s.io"], "", whole)
    await until(lambda: api.resources.registry.get("things199.example.com"))
    assert "things199" in await ok(api, "api-resources", "--api-group=example.com")


async def test_a_restart_serves_what_was_defined(api: ApiServer, tmp_path: Path) -> None:
    await defined(api)
    await ok(api, "create", "-f", "-", stdin=widget())
    snapshot = tmp_path / "again"
    snapshot.mkdir()
    from labctl.store.log import LogStore
    from labctl.store.sqlite import SqliteEngine

    await api.resources.store.snapshot(snapshot / "store.db")
    async with ApiServer.running(snapshot, store=LogStore(SqliteEngine(snapshot / "store.db")), controllers=True) as again:
        await until(lambda: again.resources.registry.get("widgets.example.com"))
        assert await ok(again, "get", "widgets", "-o", "name") == "widget.example.com/w\n"
        await ok(again, "delete", "widget", "w")


async def test_rules_in_cel_are_checked_on_writes_and_with_their_definition(api: ApiServer) -> None:
    whole = definition()
    rules = [
        {"rule": "self.replicas <= self.size", "message": "no more replicas than size", "fieldPath": ".replicas"},
        {"rule": "self.size >= oldSelf.size", "messageExpression": "'was ' + string(oldSelf.size)"},
    ]
    whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = {**SPEC, "x-kubernetes-validations": rules}
    await defined(api, whole)
    said = await refused(api, "create", "-f", "-", stdin=widget(replicas=4))
    assert 'The Widget "w" is invalid: spec.replicas: Invalid value: "object": no more replicas than size' in said
    await ok(api, "create", "-f", "-", stdin=widget())
    said = await refused(api, "patch", "widget", "w", "--type=merge", "-p", '{"spec":{"size":2}}')
    assert 'spec: Invalid value: "object": was 3' in said
    await ok(api, "patch", "widget", "w", "--type=merge", "-p", '{"spec":{"size":4}}')
    rules[0]["rule"] = "self.nope > 1"
    said = await refused(api, "apply", "-f", "-", stdin=whole)
    assert "x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule" in said and "undefined field 'nope'" in said


async def test_a_status_is_judged_by_its_schema_too(api: ApiServer) -> None:
    await defined(api)
    await ok(api, "create", "-f", "-", stdin=widget())
    said = await refused(api, "patch", "widget", "w", "--subresource=status", "--type=merge", "-p", '{"status":{"replicas":"many"}}')
    assert 'status.replicas: Invalid value: "string": status.replicas in body must be of type integer: "string"' in said


async def test_what_an_older_schema_allowed_is_no_trouble_until_it_changes(api: ApiServer) -> None:
    await defined(api)
    await ok(api, "create", "-f", "-", stdin=widget(size=9, nick="abc"))
    patch = '[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum","value":5}]'
    await ok(api, "patch", "crd", "widgets.example.com", "--type=json", "-p", patch)
    await until(lambda: api.resources.registry["widgets.example.com"].validate(widget(size=9), None))
    await ok(api, "patch", "widget", "w", "--type=merge", "-p", '{"spec":{"nick":"abd"}}')
    said = await refused(api, "patch", "widget", "w", "--type=merge", "-p", '{"spec":{"size":8}}')
    assert "spec.size in body should be less than or equal to 5" in said


async def test_a_group_of_kubernetes_itself_needs_an_approval(api: ApiServer) -> None:
    whole = definition(group="things.k8s.io")
    said = await refused(api, "create", "-f", "-", stdin=whole)
    assert "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation" in said
    whole["metadata"]["annotations"] = {"api-approved.kubernetes.io": "perhaps"}
    assert 'with either a URL or a reason starting with "unapproved"' in await refused(api, "create", "-f", "-", stdin=whole)
    whole["metadata"]["annotations"] = {"api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/1"}
    await ok(api, "create", "-f", "-", stdin=whole)
    await ok(api, "wait", "--for=condition=KubernetesAPIApprovalPolicyConformant", "crd/widgets.things.k8s.io", "--timeout=5s")


async def test_sets_and_atomic_lists_and_maps_in_server_side_apply(api: ApiServer) -> None:
    text = {"type": "string"}
    whole = definition()
    spec = {
        "type": "object",
        "properties": {
            "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
            "atomic": {"type": "array", "items": text},
            "granular": {"type": "object", "additionalProperties": text},
            "whole": {"type": "object", "properties": {"a": text, "b": text}, "x-kubernetes-map-type": "atomic"},
        },
    }
    whole["spec"]["versions"][0] |= {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}, "subresources": {}}
    whole["spec"]["versions"][0] |= {"selectableFields": [], "additionalPrinterColumns": []}
    await defined(api, whole)

    def applied(**spec: Any) -> dict[str, Any]:
        return {**widget(), "spec": spec}

    await ok(api, "apply", "--server-side", "--field-manager=one", "-f", "-", stdin=applied(set=["a"], granular={"a": "1"}))
    await ok(
        api,
        "apply",
        "--server-side",
        "--field-manager=two",
        "-f",
        "-",
        stdin=applied(set=["b"], granular={"b": "2"}, atomic=["x"], whole={"a": "1"}),
    )
    found = (await stored(api))["spec"]
    assert sorted(found["set"]) == ["a", "b"] and found["granular"] == {"a": "1", "b": "2"}
    for spec, path in (({"atomic": ["z"]}, ".spec.atomic"), ({"whole": {"b": "2"}}, ".spec.whole")):
        said = await refused(api, "apply", "--server-side", "--field-manager=three", "-f", "-", stdin=applied(**spec))
        assert "conflict" in said and path in said
    await ok(api, "apply", "--server-side", "--field-manager=one", "-f", "-", stdin=applied(granular={"a": "1"}))
    assert (await stored(api))["spec"]["set"] == ["b"], "what its only owner leaves out goes"


async def test_an_object_has_the_default_of_its_status_at_once(api: ApiServer) -> None:
    waiting = {"conditions": [{"type": "Accepted", "status": "Unknown"}]}
    status = {"type": "object", "default": waiting, "x-kubernetes-preserve-unknown-fields": True}
    whole = {"type": "object", "properties": {"spec": {"type": "object"}, "status": status}}
    version = {"schema": {"openAPIV3Schema": whole}, "subresources": {"status": {}}, "selectableFields": [], "additionalPrinterColumns": []}
    await defined(api, definition(**version))
    path = "/apis/example.com/v1/namespaces/default/widgets"
    async with api.session() as session:
        async with session.post(path, json={"metadata": {"name": "w"}, "status": {"conditions": []}}) as answer:
            made = await answer.json()
        assert made["status"] == waiting
        async with session.put(f"{path}/w", json={**made, "status": {}}) as answer:
            assert await answer.json() == made
        async with session.put(f"{path}/w/status", json={**made, "status": {"ready": True}}) as answer:
            assert (await answer.json())["status"] == {"ready": True}


async def test_a_finalizer_that_another_program_might_name_so_too_is_warned_of_once(api: ApiServer) -> None:
    await ok(api, "create", "-f", "-", stdin=definition())
    await ok(api, "wait", "--for=condition=Established", "crd/widgets.example.com")
    one = widget(size=1)
    one["metadata"]["finalizers"] = ["tidy", "example.com/tidy", "foregroundDeletion"]
    told = (
        'Warning: metadata.finalizers: "tidy": prefer a domain-qualified finalizer name including a path (/)'
        " to avoid accidental conflicts with other finalizer writers"
    )
    assert (await api.kubectl("create", "-f", "-", stdin=one)).err.splitlines() == [told]
    assert (await api.kubectl("label", "widget", "w", "a=b")).err == ""
    await ok(api, "patch", "widget", "w", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


async def test_endpoints_are_out_of_use(api: ApiServer) -> None:
    told = "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    assert told in (await api.kubectl("get", "endpoints")).err
