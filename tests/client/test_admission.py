"""Admission that people add, with the real kubectl: policies in CEL, and webhooks on a small server with a certificate of its own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from labctl.resources.client import Client
from labctl.store.interface import Compare, Put
from tests.api import minions
from tests.client.hooks import Hooks
from tests.client.test_custom_kinds import definition, until, widget
from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer

Answer = Callable[[dict[str, Any]], dict[str, Any]]
NAMESPACED = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


def configuration(hooks: Hooks, path: str, kind: str = "Validating", called: str = "", **more: Any) -> dict[str, Any]:
    webhook = {
        "name": f"{path.strip('/')}.example.com",
        "clientConfig": hooks.client(path),
        "rules": [NAMESPACED],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": f"{kind}WebhookConfiguration"}
    return {**head, "metadata": {"name": called or path.strip("/")}, "webhooks": [webhook]}


def patched(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}


async def test_a_validating_webhook_is_shown_the_write_and_may_refuse_it(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/no"] = lambda request: {"allowed": request["operation"] != "CREATE", "status": {"message": "not today"}, "warnings": ["look out"]}  # fmt: skip
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/no"))
    said = await api.kubectl("create", "configmap", "a", "--from-literal=k=v")
    assert said.code == 1 and 'admission webhook "no.example.com" denied the request: not today' in said.err
    assert "Warning: look out" in said.err, "who is refused is warned, too"
    [request] = hooks.asked["/no"]
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["name"], request["namespace"], request["operation"], request["dryRun"]) == ("a", "default", "CREATE", False)
    assert request["object"]["data"] == {"k": "v"} and request["oldObject"] is None and "system:masters" in request["userInfo"]["groups"]
    await ok(api, "create", "secret", "generic", "s"), "what no rule matches is not asked about"
    hooks.answers["/no"] = lambda _request: {"allowed": False, "status": {"message": "my own code", "code": 555}}
    async with api.session() as http, http.post("/api/v1/namespaces/default/configmaps", json={"metadata": {"name": "a"}}) as answer:
        assert answer.status == 555 and (await answer.json())["code"] == 555
    hooks.answers["/no"] = lambda _request: {"allowed": True, "warnings": ["look out"]}
    ran = await api.kubectl("create", "configmap", "a")
    assert ran.code == 0 and "Warning: look out" in ran.err
    await ok(api, "delete", "configmap", "a")
    last = hooks.asked["/no"][-1]
    assert last["operation"] == "DELETE" and last["object"] is None and last["oldObject"]["metadata"]["name"] == "a"


async def test_a_webhook_may_speak_the_older_version_which_says_less(api: ApiServer, hooks: Hooks) -> None:
    async def old(request: web.Request) -> web.StreamResponse:
        review = await request.json()
        assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1beta1", "AdmissionReview")
        patch = patched({"op": "add", "path": "/data", "value": {"x": "y"}})["patch"]
        return web.json_response({"response": {"allowed": True, "patch": patch}})

    hooks.routes["/old"] = old
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/old", "Mutating", admissionReviewVersions=["v1beta1", "v1"]))
    await ok(api, "create", "configmap", "a")
    assert await ok(api, "get", "configmap", "a", "-o", "jsonpath={.data.x}") == "y"


async def test_mutating_webhooks_see_each_others_changes_and_one_is_asked_again(api: ApiServer, hooks: Hooks) -> None:
    def label(request: dict[str, Any]) -> dict[str, Any]:
        if "labels" in request["object"]["metadata"]:
            return {"allowed": True}
        return patched({"op": "add", "path": "/metadata/labels", "value": {"by": "first"}})

    hooks.answers["/first"] = label
    hooks.answers["/second"] = lambda _request: patched({"op": "add", "path": "/data/x", "value": "y"})
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/first", "Mutating", "a", reinvocationPolicy="IfNeeded"))
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/second", "Mutating", "b"))
    await ok(api, "create", "configmap", "a", "--from-literal=k=v")
    whole = json.loads(await ok(api, "get", "configmap", "a", "-o", "json"))
    assert whole["metadata"]["labels"] == {"by": "first"} and whole["data"] == {"k": "v", "x": "y"}
    assert [request["object"]["data"] for request in hooks.asked["/first"]] == [{"k": "v"}, {"k": "v", "x": "y"}]
    assert hooks.asked["/second"][0]["object"]["metadata"]["labels"] == {"by": "first"}


async def test_one_that_fails_refuses_or_is_passed_over_as_its_policy_says(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/slow"] = None
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/slow", timeoutSeconds=1))
    said = await refused(api, "create", "configmap", "a")
    url = f"https://127.0.0.1:{hooks.port}/slow?timeout=1s"
    assert (
        f'Internal error occurred: failed calling webhook "slow.example.com": failed to call webhook: Post "{url}": context deadline exceeded'
        in said
    )
    for answer, words in (
        (web.Response(status=404), "the server could not find the requested resource"),
        (web.Response(status=500, text="oh"), 'an error on the server ("oh") has prevented the request from succeeding'),
        (lambda _request: {"uid": "other", "allowed": True}, 'got "other"'),
    ):
        hooks.answers["/slow"] = answer
        assert words in await refused(api, "create", "configmap", "a")
    await ok(api, "patch", "validatingwebhookconfiguration", "slow", "--type=json", "-p", '[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]')  # fmt: skip
    await ok(api, "create", "configmap", "a")
    configured = configuration(hooks, "/stranger")
    configured["webhooks"][0]["clientConfig"]["url"] = "https://203.0.113.1/x"
    await ok(api, "create", "-f", "-", stdin=configured)
    assert "203.0.113.1 is no address of the lab or of loopback" in await refused(api, "create", "configmap", "b")
    configured = configuration(hooks, "/wrong")
    configured["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(api.authority.certificate_pem).decode()
    await ok(api, "delete", "validatingwebhookconfiguration", "stranger")
    await ok(api, "create", "-f", "-", stdin=configured)
    said = await refused(api, "create", "configmap", "b")
    assert '/wrong?timeout=10s": tls: failed to verify certificate: x509: certificate signed by unknown authority' in said
    await ok(api, "delete", "validatingwebhookconfiguration", "wrong")
    configured = configuration(hooks, "/gone")
    configured["webhooks"][0]["clientConfig"]["url"] = "https://127.0.0.1:1/gone"
    await ok(api, "create", "-f", "-", stdin=configured)
    said = await refused(api, "create", "configmap", "b")
    assert 'Post "https://127.0.0.1:1/gone?timeout=10s": dial tcp 127.0.0.1:1: connect: connection refused' in said


async def test_a_refusal_goes_to_the_client_with_its_details(api: ApiServer, hooks: Hooks) -> None:
    causes = [{"reason": "FieldValueInvalid", "message": "too blue", "field": "data.color"}]
    status = {"code": 422, "reason": "Invalid", "message": "bad", "details": {"name": "a", "kind": "ConfigMap", "causes": causes}}
    hooks.answers["/no"] = lambda _request: {"allowed": False, "status": status}
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/no"))
    async with api.session() as http, http.post("/api/v1/namespaces/default/configmaps", json={"metadata": {"name": "a"}}) as answer:
        said = await answer.json()
    assert (answer.status, said["reason"], said["details"]) == (422, "Invalid", status["details"])


async def test_a_webhook_is_told_the_options_of_the_request(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/see"] = lambda _request: {"allowed": True}
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/see"))
    maps, head = "/api/v1/namespaces/default/configmaps", {"apiVersion": "meta.k8s.io/v1"}
    async with api.session() as http:
        async with http.post(f"{maps}?dryRun=All&fieldManager=me&fieldValidation=Strict", json={"metadata": {"name": "a"}}):
            wanted = {**head, "kind": "CreateOptions", "dryRun": ["All"], "fieldManager": "me", "fieldValidation": "Strict"}
            assert hooks.asked["/see"][-1]["options"] == wanted
        async with http.post(maps, json={"metadata": {"name": "a"}}) as answer:
            uid = (await answer.json())["metadata"]["uid"]
            assert hooks.asked["/see"][-1]["options"] == {**head, "kind": "CreateOptions"}
        said = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        async with http.delete(f"{maps}/a", json=said) as answer:
            assert answer.status == 200 and hooks.asked["/see"][-1]["options"] == {**head, "kind": "DeleteOptions", **said}


async def test_a_dry_run_reaches_only_webhooks_that_are_free_of_side_effects(api: ApiServer, hooks: Hooks) -> None:
    for kind in ("Validating", "Mutating"):
        hooks.answers["/see"] = lambda _request: {"allowed": True}
        await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/see", kind, sideEffects="NoneOnDryRun"))
        await ok(api, "create", "configmap", "a", "--dry-run=server")
        assert hooks.asked.pop("/see")[0]["dryRun"] is True
        resource = f"{kind.lower()}webhookconfigurations.admissionregistration.k8s.io"
        key = api.resources.registry[resource].key("", "see")
        entry = api.resources.store.get(key)  # v1 refuses "Some"; an object that v1beta1 stored long ago may have it
        assert entry is not None and b'"NoneOnDryRun"' in entry.value
        await api.resources.store.commit([Put(key, entry.value.replace(b'"NoneOnDryRun"', b'"Some"'))], [Compare(key, entry.revision)])
        said = await refused(api, "create", "configmap", "a", "--dry-run=server")
        assert 'admission webhook "see.example.com" does not support dry run' in said
        assert "/see" not in hooks.asked
        await ok(api, "create", "configmap", f"{kind.lower()}-real")
        assert hooks.asked.pop("/see")[0]["dryRun"] is False
        await ok(api, "delete", f"{kind}WebhookConfiguration", "see")


async def test_a_patch_of_what_is_deleted_and_a_wrong_answer_are_errors(api: ApiServer, hooks: Hooks) -> None:
    await ok(api, "create", "configmap", "a")
    hooks.answers["/odd"] = lambda _request: patched({"op": "add", "path": "/data", "value": {"a": "b"}})
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/odd", "Mutating"))
    words = 'admission webhook "odd.example.com" attempted to modify the object, which is not supported for this operation'
    assert words in await refused(api, "delete", "configmap", "a")
    hooks.answers["/odd"] = lambda _request: {"uid": "other", "allowed": True}
    words = 'failed calling webhook "odd.example.com": received invalid webhook response: expected response.uid='
    assert words in await refused(api, "delete", "configmap", "a")


async def test_selectors_conditions_and_exemptions(api: ApiServer, hooks: Hooks) -> None:
    hooks.answers["/no"] = lambda _request: {"allowed": False}
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}
    labels = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    conditions = [{"name": "not-me", "expression": "request.operation == 'CREATE' && object.metadata.name != 'me'"}]
    more = {
        "rules": [everything],
        "namespaceSelector": labels,
        "objectSelector": {"matchLabels": {"on": "yes"}},
        "matchConditions": conditions,
    }
    await ok(api, "label", "namespace", "default", "kubernetes.io/metadata.name=default", "--overwrite")
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/no", **more))

    def labelled(name: str, namespace: str = "default", **labels: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, "labels": labels}}

    assert "denied the request without explanation" in await refused(api, "create", "-f", "-", stdin=labelled("a", on="yes"))
    for fine in (labelled("b"), labelled("me", on="yes"), labelled("c", "kube-system", on="yes")):
        await ok(api, "create", "-f", "-", stdin=fine)
    await ok(api, "delete", "validatingwebhookconfiguration", "no"), "what configures admission is never judged by it"
    await ok(api, "create", "-f", "-", stdin=labelled("a", on="yes"))


async def test_a_configuration_that_makes_no_sense_is_refused(api: ApiServer, hooks: Hooks) -> None:
    for more, words in (
        ({"sideEffects": "Some"}, 'webhooks[0].sideEffects: Unsupported value: "Some"'),
        ({"timeoutSeconds": 31}, "the timeout value must be between 1 and 30 seconds"),
        ({"clientConfig": {"url": "http://127.0.0.1/x"}}, "'https' is the only allowed URL scheme; desired format: https://host[/path]"),
        ({"clientConfig": {}}, "exactly one of url or service is required"),
        ({"matchConditions": [{"name": "a", "expression": "object.x +"}]}, "compilation failed: ERROR: <input>:1:11: Syntax error"),
        (
            {"matchConditions": [{"name": "-bad-", "expression": "true"}]},
            'matchConditions[0].name: Invalid value: "-bad-": name part must consist',
        ),
        ({"name": "short"}, "should be a domain with at least three segments separated by dots"),
    ):
        assert words in await refused(api, "create", "-f", "-", stdin=configuration(hooks, "/x", **more))


def policy(*validations: Any, **spec: Any) -> dict[str, Any]:
    said = [each if isinstance(each, dict) else {"expression": each} for each in validations]
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}}
    return {**head, "spec": {"matchConstraints": {"resourceRules": [NAMESPACED]}, "validations": said, **spec}}


def binding(*actions: str, **spec: Any) -> dict[str, Any]:
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"}}
    return {**head, "spec": {"policyName": "p", "validationActions": list(actions) or ["Deny"], **spec}}


async def test_a_policy_refuses_warns_and_reads_variables(api: ApiServer) -> None:
    variables = [
        {"name": "keys", "expression": "has(object.data) ? object.data.map(k, k) : []"},
        {"name": "many", "expression": "variables.keys.size() > 1"},
    ]
    rule = {"expression": "!variables.many", "messageExpression": "'too many keys: ' + string(variables.keys.size())"}
    await ok(api, "create", "-f", "-", stdin=policy(rule, variables=variables))
    await ok(api, "create", "configmap", "free", "--from-literal=a=1", "--from-literal=b=2"), "without a binding it does not count"
    await ok(api, "create", "-f", "-", stdin=binding())
    said = await refused(api, "create", "configmap", "x", "--from-literal=a=1", "--from-literal=b=2")
    assert "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too many keys: 2" in said
    await ok(api, "create", "configmap", "x", "--from-literal=a=1")
    await ok(api, "apply", "-f", "-", stdin=binding("Warn", "Audit"))
    ran = await api.kubectl("create", "configmap", "y", "--from-literal=a=1", "--from-literal=b=2")
    assert ran.code == 0 and "Warning: Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': too many keys: 2" in ran.err


async def test_a_policy_has_parameters_conditions_and_a_reason(api: ApiServer) -> None:
    rule = {"expression": "object.data.size() <= int(params.data.most)", "message": "too many", "reason": "Forbidden"}
    spec = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "named", "expression": "object.metadata.name != 'limit'"}],
    }
    await ok(api, "create", "-f", "-", stdin=policy(rule, **spec))
    await ok(api, "create", "-f", "-", stdin=binding("Deny", paramRef={"name": "limit", "parameterNotFoundAction": "Deny"}))
    said = await refused(api, "create", "configmap", "x", "--from-literal=a=1")
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in said
    await api.resources.delete(api.resources.registry["validatingadmissionpolicybindings.admissionregistration.k8s.io"], "", "b")
    await ok(api, "create", "configmap", "limit", "--from-literal=most=1")
    await ok(api, "create", "-f", "-", stdin=binding("Deny", paramRef={"name": "limit", "parameterNotFoundAction": "Deny"}))
    await ok(api, "create", "configmap", "x", "--from-literal=a=1")
    said = await refused(api, "create", "configmap", "y", "--from-literal=a=1", "--from-literal=b=2")
    assert "is forbidden: ValidatingAdmissionPolicy" in said and "denied request: too many" in said
    ran = await refused(api, "patch", "configmap", "x", "--type=merge", "-p", '{"data":null}')
    assert "resulted in error: no such key: data" in ran


async def test_a_policy_that_can_not_work_is_refused(api: ApiServer) -> None:
    for whole, words in (
        (policy("object.x +"), "spec.validations[0].expression: Invalid value"),
        (policy("nobody == 1"), "undeclared reference to 'nobody'"),
        (policy("1"), "must evaluate to bool"),
        (policy(), "validations or auditAnnotations must contain at least one item"),
        (policy("true", matchConstraints=None), "spec.matchConstraints: Required value"),
    ):
        assert words in await refused(api, "create", "-f", "-", stdin=whole)
    said = await refused(api, "create", "-f", "-", stdin=binding("Deny", "Warn"))
    assert "must not contain both Deny and Warn" in said


async def test_a_conversion_webhook_turns_versions_into_each_other(api: ApiServer, hooks: Hooks) -> None:
    def convert(request: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for obj in request["objects"]:
            new = {**obj, "apiVersion": request["desiredAPIVersion"], "spec": dict(obj["spec"])}
            old_name, new_name = ("size", "width") if new["apiVersion"].endswith("v2") else ("width", "size")
            new["spec"][new_name] = new["spec"].pop(old_name)
            objects.append(new)
        return {"result": {"status": "Success"}, "convertedObjects": objects}

    hooks.answers["/convert"] = convert
    whole = definition()
    second = json.loads(json.dumps(whole["spec"]["versions"][0])) | {"name": "v2", "storage": False}
    spec = second["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["width"] = spec["properties"].pop("size")
    spec["required"] = ["width"]
    second["additionalPrinterColumns"][0]["jsonPath"] = ".spec.width"
    whole["spec"]["versions"].append(second)
    whole["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": hooks.client("/convert"), "conversionReviewVersions": ["v1"]},
    }
    await ok(api, "create", "-f", "-", stdin=whole)
    await ok(api, "wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=5s")
    await ok(api, "create", "-f", "-", stdin=widget())
    seen = json.loads(await ok(api, "get", "widgets.v2.example.com", "w", "-o", "json"))
    assert seen["spec"]["width"] == 3 and "size" not in seen["spec"]
    await ok(api, "patch", "widgets.v2.example.com", "w", "--type=merge", "-p", '{"spec":{"width":5}}')
    assert json.loads(await ok(api, "get", "widgets.v1.example.com", "w", "-o", "json"))["spec"]["size"] == 5
    hooks.answers["/convert"] = lambda _request: {"result": {"status": "Failed", "message": "never"}}
    said = await refused(api, "get", "widgets.v2.example.com", "w")
    assert "conversion webhook for example.com/v1, Kind=Widget failed: never" in said
    await until(lambda: api.resources.registry.get("widgets.example.com"))


async def test_a_service_is_called_through_the_minion_of_its_pod(tmp_path: Path, hooks: Hooks) -> None:
    async with minions.lab(tmp_path / "lab") as (api, host, _):
        hooks.answers["/no"] = lambda _request: {"allowed": False, "status": {"message": "not today"}}
        service = {"name": "hook", "namespace": "default", "path": "/no"}
        configured = configuration(hooks, "/no")
        configured["webhooks"][0]["clientConfig"] = {"service": service, "caBundle": hooks.client("/no")["caBundle"]}
        await ok(api, "create", "-f", "-", stdin=configured)
        said = await refused(api, "create", "configmap", "a")
        assert 'Post "https://hook.default.svc:443/no?timeout=10s": service "hook" not found' in said
        await minions.create(api, "services", {"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "s", "port": 443}]}})
        assert 'no endpoints available for service "hook"' in await refused(api, "create", "configmap", "a")
        subset = {"addresses": [{"ip": minions.POD_IP, "nodeName": "minion-1"}], "ports": [{"name": "s", "port": 8443}]}
        await minions.create(api, "endpoints", {"metadata": {"name": "hook"}, "subsets": [subset]})
        host.ports[minions.POD_IP, 8443] = minions.to_loopback(hooks.port)
        assert "denied the request: not today" in await refused(api, "create", "configmap", "a")
        configured["webhooks"][0]["clientConfig"]["service"]["name"] = "other"
        await minions.create(api, "services", {"metadata": {"name": "other"}, "spec": {"ports": [{"name": "s", "port": 443}]}})
        await minions.create(api, "endpoints", {"metadata": {"name": "other"}, "subsets": [subset]})
        await ok(api, "apply", "-f", "-", stdin=configured)
        said = await refused(api, "create", "configmap", "a")
        assert "x509: certificate is not valid for other.default.svc" in said, "the certificate is another Service's"


async def test_who_asks_for_an_answer_within_a_time_gets_one_and_the_write_still_happens(api: ApiServer, hooks: Hooks) -> None:
    go_on = hooks.answers["/slow"] = asyncio.Event()
    maps = "/api/v1/namespaces/default/configmaps"
    async with api.session() as http:
        await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/slow"))
        async with http.post(f"{maps}?timeout=200ms", json={"metadata": {"name": "late"}}) as answer:
            said = await answer.json()
            assert (answer.status, said["reason"]) == (504, "Timeout")
            assert said["message"] == "Timeout: request did not complete within requested timeout - context deadline exceeded"
        async with http.get(f"{maps}/late?timeout=5s") as answer:
            assert answer.status == 404, "its webhook has not answered yet"
        go_on.set()
        await until(lambda: Client(api.resources).get("configmaps", "default/late"))
