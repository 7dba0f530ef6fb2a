"""Admission policies in CEL as Kubernetes' own end-to-end tests use them: a plain HTTP client, the controllers, no machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.inprocess import ApiServer

GROUP = "admissionregistration.k8s.io"
BASE = f"/apis/{GROUP}/v1"
POLICIES, BINDINGS = f"{BASE}/validatingadmissionpolicies", f"{BASE}/validatingadmissionpolicybindings"
DEPLOYMENTS, REPLICASETS = "/apis/apps/v1/namespaces/marked/deployments", "/apis/apps/v1/namespaces/marked/replicasets"
MERGE = {"Content-Type": "application/merge-patch+json"}
Object = dict[str, Any]


async def eventually(holds: Callable[[], Awaitable[bool]], deadline_s: float = 10) -> None:
    async with asyncio.timeout(deadline_s):
        while not await holds():
            await asyncio.sleep(0.02)


class Http:
    """Requests as the admin; each must be answered with the expected code."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def __call__(self, method: str, path: str, body: Object | None = None, code: int = 200, **headers: Any) -> Object:
        async with self.session.request(method, path, json=body, **headers) as answer:
            said: Object = await answer.json()
            assert answer.status == code, said
            return said

    async def create(self, path: str, body: Object) -> Object:
        return await self("POST", path, body, 201)


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    async with ApiServer.running(tmp_path, controllers=True) as api, api.session() as session:
        http = Http(session)
        await http.create("/api/v1/namespaces", {"metadata": {"name": "marked", "labels": {"unique": "true"}}})
        yield http


def workload(name: str, replicas: int) -> Object:
    labels = {"app": "nginx"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def policy(name: str, *validations: Object, rule: Object | None = None, **spec: Any) -> Object:
    rule = rule or {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    rules = [{"operations": ["CREATE", "UPDATE"], **rule}]
    match = {"namespaceSelector": {"matchLabels": {"unique": "true"}}, "resourceRules": rules}
    return {"metadata": {"name": name}, "spec": {"matchConstraints": match, "validations": list(validations), **spec}}


def binding(policy: str) -> Object:
    match = {"namespaceSelector": {"matchLabels": {"unique": "true"}}}
    return {
        "metadata": {"name": f"{policy}-binding"},
        "spec": {"policyName": policy, "matchResources": match, "validationActions": ["Deny"]},
    }


async def checked(http: Http, name: str) -> Object:
    """Returns the policy's status once its types were checked."""
    found: Object = {}

    async def is_checked() -> bool:
        found.update(await http("GET", f"{POLICIES}/{name}"))
        status = found.get("status") or {}
        return "typeChecking" in status and status["observedGeneration"] == found["metadata"]["generation"]

    await eventually(is_checked)
    status: Object = found["status"]
    return status


async def test_a_policy_validates_deployments_of_a_marked_namespace(http: Http) -> None:
    rule = {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"}
    await http.create(POLICIES, policy("p", rule))
    await http.create(BINDINGS, binding("p"))
    refused = await http("POST", DEPLOYMENTS, workload("marker", 1), 422)
    assert refused["reason"] == "Invalid" and "failed expression: object.spec.replicas > 1" in refused["message"]
    await http.create(DEPLOYMENTS, workload("replicated", 2))
    await http.create(REPLICASETS, workload("single", 1))
    await http.create(DEPLOYMENTS.replace("marked", "default"), workload("elsewhere", 1))


async def test_expressions_refer_to_variables(http: Http) -> None:
    variables = [
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
    ]
    rules = [{"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"}]
    await http.create(POLICIES, policy("p", *rules, variables=variables))
    await http.create(BINDINGS, binding("p"))
    for replicas, code in ((1, 422), (2, 422), (3, 201)):
        await http("POST", DEPLOYMENTS, workload(f"of-{replicas}", replicas), code)
    assert (await checked(http, "p"))["typeChecking"] == {}


async def test_variables_that_double_each_other_end_at_what_a_request_may_have(http: Http) -> None:
    """Thirty of them were a thousand gigabytes."""
    doubled = [{"name": f"v{n + 1}", "expression": f"variables.v{n} + variables.v{n}"} for n in range(30)]
    variables = [{"name": "v0", "expression": "'" + "x" * 1000 + "'"}, *doubled]
    await http.create(POLICIES, policy("p", {"expression": "variables.v30.size() > 0"}, variables=variables))
    await http.create(BINDINGS, binding("p"))
    await http("POST", DEPLOYMENTS, workload("web", 1), 422)


async def test_types_are_checked_against_the_kinds_of_the_rules(http: Http) -> None:
    await http.create(POLICIES, policy("right", {"expression": "object.spec.replicas > 1"}))
    assert (await checked(http, "right"))["typeChecking"] == {}
    confused = {"expression": "object.spec.replicas > '1'", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"}
    await http.create(POLICIES, policy("confused", confused))
    first, second = (await checked(http, "confused"))["typeChecking"]["expressionWarnings"]
    assert first["fieldRef"] == "spec.validations[0].expression"
    assert first["warning"].startswith(
        "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"
    )
    assert second["fieldRef"] == "spec.validations[0].messageExpression"
    assert "found no matching overload for '_+_' applied to '(string, int)'" in second["warning"]
    mended = policy("confused", {"expression": "object.spec.replicas > 1"})
    await http("PATCH", f"{POLICIES}/confused", {"spec": {"validations": mended["spec"]["validations"]}}, headers=MERGE)

    async def is_mended() -> bool:
        status = (await http("GET", f"{POLICIES}/confused"))["status"]
        return status == {"observedGeneration": 2, "typeChecking": {}}

    await eventually(is_mended)


RIGHT = [
    "object.metadata.namespace == 'a' || object.metadata.__namespace__ == 'a'",
    "has(object.metadata.labels) && object.metadata.labels['a'] == 'b'",
    "object.spec.template.spec.containers.all(c, c.resources.limits['cpu'] != '1' && c.ports.exists(p, p.containerPort > 80))",
    "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '25%'",
    "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z') && object != null && oldObject == null",
    "params.data['a'] == 'b' && request.operation == 'CREATE' && authorizer.path('/x').check('get').allowed() && variables.nobody",
]
WRONG = {
    "object.spec.nope == 1": "undefined field 'nope'",
    "object.spec.template.spec.containers.all(c, c.image > 1)": "found no matching overload for '_>_' applied to '(string, int)'",
    "params.data['a'] == 1": "found no matching overload for '_==_' applied to '(string, int)'",
    "oldObject.status.replicas": "",
    "object.metadata.labels.all(k, k == 1)": "found no matching overload for '_==_' applied to '(string, int)'",
}


async def test_what_fits_a_kind_and_what_does_not(http: Http) -> None:
    rules = [{"expression": text} for text in (*RIGHT, *WRONG) if WRONG.get(text, "x")]
    params = {"apiVersion": "v1", "kind": "ConfigMap"}
    await http.create(POLICIES, policy("p", *rules, paramKind=params))
    warnings = (await checked(http, "p"))["typeChecking"]["expressionWarnings"]
    told = {rules[int(each["fieldRef"].split("[")[1].split("]")[0])]["expression"]: each["warning"] for each in warnings}
    assert told.keys() == {text for text, words in WRONG.items() if words}
    assert all(WRONG[text] in warning for text, warning in told.items())


async def test_types_of_a_custom_kind_are_checked(http: Http) -> None:
    spec = {
        "type": "object",
        "properties": {"replicas": {"type": "integer"}, "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    names = {"kind": "Widget", "plural": "widgets"}
    definition = {
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    await http.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)

    async def is_served() -> bool:
        async with http.session.get("/apis/example.com/v1/widgets") as answer:
            return answer.status == 200

    await eventually(is_served)
    rule = {"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"]}
    rules = [
        {"expression": text}
        for text in ("object.spec.replicas > 1 && object.spec.any.thing == 1", "object.spec.replicas > '1'", "object.spec.nope")
    ]
    await http.create(POLICIES, policy("p", *rules[:2], rule=rule))
    [warning] = (await checked(http, "p"))["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[1].expression" and warning["warning"].startswith("example.com/v1, Kind=Widget: ERROR")
    await http.create(POLICIES, policy("everything", rules[1], rule={"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}))
    assert (await checked(http, "everything"))["typeChecking"] == {}


@pytest.mark.parametrize("path", [POLICIES, BINDINGS])
async def test_every_verb_of_policies_and_bindings(http: Http, path: str) -> None:
    plural = path.rpartition("/")[2]
    assert any(group["name"] == GROUP for group in (await http("GET", "/apis"))["groups"])
    assert {plural} <= {resource["name"] for resource in (await http("GET", BASE))["resources"]}
    body = policy("", {"expression": "object.spec.replicas <= 100"}) if path == POLICIES else binding("missing")
    body["metadata"] = {"generateName": "e2e-", "labels": {"for": "this"}}
    *_, made = [await http.create(path, body) for _ in range(3)]
    one = f"{path}/{made['metadata']['name']}"
    assert (await http("GET", one))["metadata"]["uid"] == made["metadata"]["uid"]
    assert len((await http("GET", f"{path}?labelSelector=for=this"))["items"]) == 3
    changed = {"failurePolicy": "Ignore"} if path == POLICIES else {"validationActions": ["Warn"]}
    patched = await http("PATCH", one, {"metadata": {"annotations": {"patched": "true"}}, "spec": changed}, headers=MERGE)
    assert patched["metadata"]["annotations"] == {"patched": "true"} and changed.items() <= patched["spec"].items()
    if path == POLICIES:
        await _status(http, one)
    latest = await http("GET", one)
    latest["metadata"]["annotations"]["updated"] = "true"
    assert (await http("PUT", one, latest))["metadata"]["annotations"]["updated"] == "true"
    await http("DELETE", one)
    await http("GET", one, code=404)
    assert len((await http("GET", f"{path}?labelSelector=for=this"))["items"]) == 2
    await http("DELETE", f"{path}?labelSelector=for=this")
    assert (await http("GET", f"{path}?labelSelector=for=this"))["items"] == []


async def _status(http: Http, one: str) -> None:
    """The subresource of a policy: it is read, patched and replaced, and the controller lets others' conditions alone."""
    await checked(http, one.rpartition("/")[2])
    assert (await http("GET", f"{one}/status"))["kind"] == "ValidatingAdmissionPolicy"
    said = {"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"conditions": [said]}}
    patched = await http("PATCH", f"{one}/status", patch, headers=MERGE)
    assert patched["status"]["conditions"] == [said]
    patched["status"]["conditions"] = [said, {**said, "type": "StatusUpdate"}]
    updated = await http("PUT", f"{one}/status", patched)
    assert [each["type"] for each in updated["status"]["conditions"]] == ["StatusPatched", "StatusUpdate"]


async def test_the_authorizer_knows_what_a_node_may_list_of_its_own(tmp_path: Path) -> None:
    leases = {"apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1"], "resources": ["leases"], "operations": ["CREATE"]}
    pods = "authorizer.group('').resource('pods')"
    rules = {
        "own": f"{pods}.fieldSelector('spec.nodeName=minion-1').check('list').allowed()",
        "labelled": f"{pods}.labelSelector('a=b').fieldSelector('spec.nodeName=minion-1,status.phase=Running').check('watch').allowed()",
        "others": f"!{pods}.fieldSelector('spec.nodeName=minion-2').check('list').allowed()",
        "all": f"!{pods}.check('list').allowed()",
    }
    async with ApiServer.running(tmp_path) as api, api.session() as session, api.session("node:minion-1") as node:
        admin, agent = Http(session), Http(node)
        validations = [{"expression": text, "message": name} for name, text in rules.items()]
        spec = {"matchConstraints": {"resourceRules": [leases]}, "validations": validations}
        await admin.create(f"{BASE}/validatingadmissionpolicies", {"metadata": {"name": "p"}, "spec": spec})
        await admin.create(f"{BASE}/validatingadmissionpolicybindings", {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}})  # fmt: skip
        await agent.create("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", {"metadata": {"name": "minion-1"}})


@pytest.mark.parametrize("plural", ["validatingadmissionpolicies", "mutatingwebhookconfigurations", "mutatingadmissionpolicybindings"])
async def test_a_name_that_is_kept_for_files_is_said_so(http: Http, plural: str) -> None:
    """Kubernetes reads such objects from files, where that is switched on; elsewhere who makes one by the API is warned."""
    spec: Object = {"spec": policy("p", {"expression": "true"})["spec"]}
    if plural == "mutatingwebhookconfigurations":
        spec = {"webhooks": []}
    elif plural == "mutatingadmissionpolicybindings":
        spec = {"spec": {"policyName": "p"}}
    warned = []
    for name in ("mine.static.k8s.io", "mine.k8s.io"):
        async with http.session.post(f"{BASE}/{plural}", json={"metadata": {"name": name}, **spec}) as answer:
            assert answer.status == 201, await answer.text()
            warned.append([each for each in answer.headers.getall("Warning", []) if "reserved" in each])
    [said], none = warned
    assert (
        'metadata.name: names ending with \\".static.k8s.io\\" are reserved for static manifest-based configurations' in said and not none
    )
