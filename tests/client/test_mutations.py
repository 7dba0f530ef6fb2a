"""MutatingAdmissionPolicies as Kubernetes' own end-to-end tests use them, and what its documentation says: a plain HTTP client, no machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.hooks import Hooks
from tests.client.test_admission import configuration, patched
from tests.client.test_policies import BASE, DEPLOYMENTS, GROUP, MERGE, Http, Object, workload
from tests.inprocess import ApiServer

POLICIES, BINDINGS = f"{BASE}/mutatingadmissionpolicies", f"{BASE}/mutatingadmissionpolicybindings"
MAPS = "/api/v1/namespaces/marked/configmaps"
CONFIG_MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
ANNOTATED = 'Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}'


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as running:
        yield running


@pytest.fixture
async def http(api: ApiServer) -> AsyncIterator[Http]:
    async with api.session() as session:
        http = Http(session)
        await http.create("/api/v1/namespaces", {"metadata": {"name": "marked", "labels": {"unique": "true"}}})
        yield http


def applying(text: str) -> Object:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}


def patching(text: str) -> Object:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": text}}


def policy(name: str, *mutations: Object, rule: Object | None = None, **spec: Any) -> Object:
    rules = [{"operations": ["CREATE", "UPDATE"], **(rule or {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]})}]
    match = {"namespaceSelector": {"matchLabels": {"unique": "true"}}, "resourceRules": rules}
    return {
        "metadata": {"name": name},
        "spec": {"matchConstraints": match, "mutations": list(mutations), "reinvocationPolicy": "Never", **spec},
    }


async def bound(http: Http, name: str, *mutations: Object, param: Object | None = None, **spec: Any) -> None:
    """Makes a policy and its binding."""
    await http.create(POLICIES, policy(name, *mutations, **spec))
    ref = {"paramRef": param} if param else {}
    await http.create(BINDINGS, {"metadata": {"name": f"{name}-binding"}, "spec": {"policyName": name, **ref}})


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


async def test_a_deployment_is_annotated(http: Http) -> None:
    await bound(http, "p", applying(ANNOTATED))
    made = await http.create(DEPLOYMENTS, workload("web", 2))
    assert made["metadata"]["annotations"] == {"mutated-by": "admission-policy"} and made["spec"]["replicas"] == 2
    changed = await http("PATCH", f"{DEPLOYMENTS}/web", {"metadata": {"annotations": None}}, headers=MERGE)
    assert changed["metadata"]["annotations"] == {"mutated-by": "admission-policy"}, "an update is mutated, too"
    elsewhere = await http.create(DEPLOYMENTS.replace("marked", "default"), workload("web", 1))
    assert "annotations" not in elsewhere["metadata"]


async def test_a_sidecar_is_merged_and_one_that_is_there_is_left(http: Http) -> None:
    sidecar = """
        Object{spec: Object.spec{
          initContainers: [Object.spec.initContainers{name: "mesh-proxy", image: "mesh/proxy:v1.0.0", restartPolicy: "Always"}]
        }}"""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    conditions = [{"name": "no-proxy-yet", "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'mesh-proxy')"}]
    await bound(http, "p", applying(sidecar), rule=rule, matchConditions=conditions, failurePolicy="Fail")
    await http.create("/api/v1/namespaces/marked/serviceaccounts", {"metadata": {"name": "default"}})
    containers = {"containers": [{"name": "a", "image": "a"}]}
    pod = {"metadata": {"name": "one"}, "spec": {**containers, "initContainers": [{"name": "first", "image": "b"}]}}
    made = await http.create("/api/v1/namespaces/marked/pods", pod)
    assert {each["name"]: each["image"] for each in made["spec"]["initContainers"]} == {"first": "b", "mesh-proxy": "mesh/proxy:v1.0.0"}
    own = {"metadata": {"name": "two"}, "spec": {**containers, "initContainers": [{"name": "mesh-proxy", "image": "mine"}]}}
    assert [each["image"] for each in (await http.create("/api/v1/namespaces/marked/pods", own))["spec"]["initContainers"]] == ["mine"]


async def test_a_json_patch_has_tests_values_and_escaped_keys(http: Http) -> None:
    patch = """[
        JSONPatch{op: "test", path: "/data/color", value: "red"},
        JSONPatch{op: "replace", path: "/data/color", value: "blue"},
        JSONPatch{op: "add", path: "/metadata/labels", value: {}},
        JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("example.com/environment"), value: "test"}
    ]"""
    tall = "variables.tall ? [JSONPatch{op: 'add', path: '/data/n', value: string(object.data.size())}] : []"
    variables = [{"name": "tall", "expression": "has(object.data.tall)"}]
    await bound(http, "p", patching(patch), patching(tall), rule=CONFIG_MAPS, variables=variables)
    made = await http.create(MAPS, config_map("a", color="red", tall="yes"))
    assert made["data"] == {"color": "blue", "tall": "yes", "n": "2"} and made["metadata"]["labels"] == {"example.com/environment": "test"}
    assert (await http.create(MAPS, config_map("b", color="green")))["data"] == {"color": "green"}, (
        "a test that fails makes the patch nothing"
    )


async def test_parameters_and_policies_see_what_those_before_them_did(http: Http) -> None:
    await http.create(MAPS, config_map("values", suffix="-x"))
    params = {"apiVersion": "v1", "kind": "ConfigMap"}
    append = "[JSONPatch{op: 'add', path: '/data/chain', value: object.data.?chain.orValue('') + params.data.suffix}]"
    names = [{"name": "not-the-values", "expression": "object.metadata.name != 'values'"}]
    await bound(http, "a", patching(append), rule=CONFIG_MAPS, paramKind=params, matchConditions=names, param={"name": "values", "parameterNotFoundAction": "Deny"})  # fmt: skip
    second = "[JSONPatch{op: 'add', path: '/data/chain', value: object.data.chain + '+b'}]"
    await bound(http, "b", patching(second), rule=CONFIG_MAPS, matchConditions=names)
    assert (await http.create(MAPS, config_map("one", k="v")))["data"] == {"k": "v", "chain": "-x+b"}
    await http("DELETE", f"{MAPS}/values")
    refused = await http("POST", MAPS, config_map("two"), 422)
    assert "policy 'a' with binding 'a-binding' denied request: no params found" in refused["message"]


COUNT = "[JSONPatch{op: 'add', path: '/data/count', value: object.data.?count.orValue('') + '%s'}]"


async def test_a_policy_is_asked_again_if_a_later_one_changed_the_object(http: Http) -> None:
    await bound(http, "a", patching(COUNT % "a"), rule=CONFIG_MAPS, reinvocationPolicy="IfNeeded")
    await bound(http, "b", patching(COUNT % "b"), rule=CONFIG_MAPS, reinvocationPolicy="Never")
    assert (await http.create(MAPS, config_map("one", k="v")))["data"]["count"] == "aba"


async def test_a_policy_is_asked_again_if_a_webhook_changed_the_object_and_the_other_way_round(http: Http, hooks: Hooks) -> None:
    hooks.answers["/add"] = lambda _request: patched({"op": "add", "path": "/data/count", "value": "hook"})
    await bound(http, "a", patching(COUNT % "a"), rule=CONFIG_MAPS, reinvocationPolicy="IfNeeded")
    await bound(http, "b", patching(COUNT % "b"), rule=CONFIG_MAPS)
    await http.create(f"{BASE}/mutatingwebhookconfigurations", configuration(hooks, "/add", kind="Mutating"))
    assert (await http.create(MAPS, config_map("one", k="v")))["data"]["count"] == "hooka"
    assert [asked["object"]["data"]["count"] for asked in hooks.asked["/add"]] == ["ab"], "policies come first; Never is Never"
    hooks.asked.clear()
    again = configuration(hooks, "/add", kind="Mutating", reinvocationPolicy="IfNeeded")
    await http("DELETE", f"{BASE}/mutatingwebhookconfigurations/add")
    await http.create(f"{BASE}/mutatingwebhookconfigurations", again)
    assert (await http.create(MAPS, config_map("two", k="v")))["data"]["count"] == "hook"
    assert [asked["object"]["data"]["count"] for asked in hooks.asked["/add"]] == ["ab", "hooka"], "a policy changed it after the webhook"


async def test_a_container_that_a_webhook_adds_gets_what_built_in_steps_give(http: Http, hooks: Hooks) -> None:
    added = {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "y"}}
    hooks.answers["/add"] = lambda _request: patched(added)
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    await http.create(f"{BASE}/mutatingwebhookconfigurations", configuration(hooks, "/add", kind="Mutating", rules=[pods]))
    await http.create("/api/v1/namespaces/marked/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "one"}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
    spec = (await http.create("/api/v1/namespaces/marked/pods", pod))["spec"]
    (volume,) = spec["volumes"]
    mounts = [(each["name"], [mount["name"] for mount in each["volumeMounts"]]) for each in spec["containers"]]
    assert mounts == [("main", [volume["name"]]), ("side", [volume["name"]])] and len(hooks.asked["/add"]) == 1


async def test_a_webhook_is_not_asked_again_if_nothing_changed_after_it(http: Http, hooks: Hooks) -> None:
    hooks.answers["/add"] = lambda _request: patched({"op": "add", "path": "/data/hook", "value": "yes"})
    await bound(
        http, "a", patching("[JSONPatch{op: 'add', path: '/data/policy', value: 'yes'}]"), rule=CONFIG_MAPS, reinvocationPolicy="IfNeeded"
    )
    await http.create(f"{BASE}/mutatingwebhookconfigurations", configuration(hooks, "/add", kind="Mutating", reinvocationPolicy="IfNeeded"))
    assert (await http.create(MAPS, config_map("one", k="v")))["data"] == {"k": "v", "policy": "yes", "hook": "yes"}
    assert len(hooks.asked["/add"]) == 1, "the policy was asked again and changed nothing"


FAILS = [
    (applying("Object{data: Object.wrong{a: 'b'}}"), 'unexpected type name "Object.wrong", expected "Object.data"'),
    (applying("Object{nope: 1}"), ".nope: field not declared in schema"),
    (applying("Object{data: {'a': object.data.nope}}"), "no such key: nope"),
    (applying("Object{metadata: Object.metadata{finalizers: 1}}"), "expected list"),
    (patching("[JSONPatch{op: 'remove', path: '/data/nope'}]"), "JSONPath: error in remove for path: '/data/nope'"),
    (patching("[JSONPatch{op: 'add', path: '/data/a', value: 1}]"), "ConfigMap.data of type string"),
]


@pytest.mark.parametrize(("mutation", "words"), FAILS)
async def test_a_mutation_that_fails_refuses_the_write_or_is_passed_over(http: Http, mutation: Object, words: str) -> None:
    await bound(http, "p", mutation, applying("Object{data: {'other': 'yes'}}"), rule=CONFIG_MAPS)
    refused = await http("POST", MAPS, config_map("one", k="v"), 422)
    assert refused["reason"] == "Invalid" and "policy 'p' with binding 'p-binding' denied request: " in refused["message"]
    assert words in refused["message"]
    await http("PATCH", f"{POLICIES}/p", {"spec": {"failurePolicy": "Ignore"}}, headers=MERGE)
    assert (await http.create(MAPS, config_map("one", k="v")))["data"] == {"k": "v", "other": "yes"}


async def test_what_is_replaced_as_a_whole_is_not_applied(http: Http) -> None:
    pod = "Object.spec.template.spec"
    text = f"{pod}{{containers: [{pod}.containers{{name: 'nginx', command: ['x']}}]}}"
    await bound(http, "p", applying(f"Object{{spec: Object.spec{{template: Object.spec.template{{spec: {text}}}}}}}"))
    refused = await http("POST", DEPLOYMENTS, workload("web", 1), 422)
    assert "may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].command" in refused["message"]


REFUSED = [
    ([], {}, "spec.mutations: Required value"),
    ([{"patchType": "Other"}], {}, 'spec.mutations[0].patchType: Unsupported value: "Other"'),
    ([{"patchType": "JSONPatch"}], {}, "spec.mutations[0].jsonPatch: Required value"),
    ([{**applying(ANNOTATED), "jsonPatch": {"expression": "[]"}}], {}, "spec.mutations[0].jsonPatch: Forbidden"),
    ([applying("1")], {}, "must evaluate to Object"),
    ([patching("Object{}")], {}, "must evaluate to list(JSONPatch)"),
    ([applying("Object{a: nobody}")], {}, "undeclared reference to 'nobody'"),
    ([applying(ANNOTATED)], {"reinvocationPolicy": ""}, "spec.reinvocationPolicy: Required value"),
    ([applying(ANNOTATED)], {"reinvocationPolicy": "Often"}, 'Unsupported value: "Often"'),
    ([applying(ANNOTATED)], {"matchConstraints": None}, "spec.matchConstraints: Required value"),
]


async def test_a_policy_that_can_not_work_is_refused(http: Http) -> None:
    for mutations, spec, words in REFUSED:
        said = await http("POST", POLICIES, policy("p", *mutations, **spec), 422)
        assert words in said["message"], said


@pytest.mark.parametrize("path", [POLICIES, BINDINGS])
async def test_every_verb_of_policies_and_bindings(http: Http, path: str) -> None:
    plural = path.rpartition("/")[2]
    assert any(group["name"] == GROUP for group in (await http("GET", "/apis"))["groups"])
    assert {plural} <= {resource["name"] for resource in (await http("GET", BASE))["resources"]}
    body = policy("", applying(ANNOTATED)) if path == POLICIES else {"spec": {"policyName": "missing"}}
    body["metadata"] = {"generateName": "e2e-", "labels": {"for": "this"}}
    *_, made = [await http.create(path, body) for _ in range(3)]
    one = f"{path}/{made['metadata']['name']}"
    assert (await http("GET", one))["metadata"]["uid"] == made["metadata"]["uid"]
    changed = {"failurePolicy": "Ignore"} if path == POLICIES else {"policyName": "other"}
    patched = await http("PATCH", one, {"metadata": {"annotations": {"patched": "true"}}, "spec": changed}, headers=MERGE)
    assert patched["metadata"]["annotations"] == {"patched": "true"} and changed.items() <= patched["spec"].items()
    latest = await http("GET", one)
    latest["metadata"]["annotations"]["updated"] = "true"
    assert (await http("PUT", one, latest))["metadata"]["annotations"]["updated"] == "true"
    await http("DELETE", one)
    await http("GET", one, code=404)
    assert len((await http("GET", f"{path}?labelSelector=for=this"))["items"]) == 2
    await http("DELETE", f"{path}?labelSelector=for=this")
    assert (await http("GET", f"{path}?labelSelector=for=this"))["items"] == []
