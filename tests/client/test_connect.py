"""Webhooks and policies about connections (exec, attach, port-forward, proxy), Bindings and Evictions: a fake minion behind a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labctl.sim.remote import FakeHost, FakeRemote
from tests.api import minions
from tests.client.hooks import Hooks
from tests.client.test_admission import binding, configuration, patched, policy
from tests.client.test_kubectl import ok, refused
from tests.client.test_mutations import patching
from tests.client.test_policies import BASE, Http
from tests.inprocess import ApiServer

Lab = tuple[ApiServer, FakeHost, FakeRemote]
POD = "/api/v1/namespaces/default/pods/web"
CORE = {"apiGroups": [""], "apiVersions": ["v1"]}
STREAMS = {**CORE, "resources": ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy"], "operations": ["CONNECT"]}
PROTOCOLS = ("v5.channel.k8s.io",)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with minions.lab(tmp_path / "lab") as made:
        yield made


def asked_kind(request: dict[str, Any]) -> tuple[str, str, str, str]:
    return request["kind"]["kind"], request["subResource"], request["name"], request["operation"]


async def test_a_webhook_may_refuse_exec_and_attach_and_sees_their_options(lab: Lab, hooks: Hooks) -> None:
    api, host, _ = lab
    hooks.answers["/no"] = lambda request: {
        "allowed": request["object"].get("command") == ["echo", "fine"],
        "status": {"message": "attaching to pod is not allowed"},
    }
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/no", rules=[STREAMS]))
    assert (await api.kubectl("exec", "-i", "web", "-c", "nginx", "--", "echo", "fine")).out == "fine\n"
    seen = hooks.asked["/no"].pop()
    assert asked_kind(seen) == ("PodExecOptions", "exec", "web", "CONNECT") and seen["namespace"] == "default"
    assert seen["resource"]["resource"] == "pods" and seen["oldObject"] is None and seen["options"] is None and seen["dryRun"] is False
    flags = {"stdin": True, "stdout": True, "stderr": True, "container": "nginx"}
    assert seen["object"] == {"kind": "PodExecOptions", "apiVersion": "v1", **flags, "command": ["echo", "fine"]}
    ran = len(host.ran)
    words = 'admission webhook "no.example.com" denied the request: attaching to pod is not allowed'
    assert words in await refused(api, "exec", "web", "--", "echo", "no")
    assert words in await refused(api, "attach", "web", "-c", "nginx", "-i")
    assert asked_kind(hooks.asked["/no"][-1])[:2] == ("PodAttachOptions", "attach") and "command" not in hooks.asked["/no"][-1]["object"]
    assert len(host.ran) == ran, "nothing was started on the machine"
    async with api.session() as http, http.get(f"{POD}/exec?command=echo&dryRun=All") as answered:
        assert (answered.status, (await answered.json())["message"]) == (400, "dryRun is not supported")


async def test_port_forward_and_proxies_are_asked_about_too(lab: Lab, hooks: Hooks) -> None:
    api, host, _ = lab
    hooks.answers["/see"] = lambda _request: {"allowed": True, "warnings": ["look out"]}
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/see", rules=[STREAMS]))
    host.ports[minions.POD_IP, 80] = minions.http(lambda line, _headers, _body: ("200 OK", line.encode()))
    async with api.session() as http:
        async with http.get(f"{POD}:80/proxy/a%20b/?x=1") as answered:
            assert await answered.text() == "GET /a%20b/?x=1 HTTP/1.1" and answered.headers["Warning"] == '299 - "look out"'
        async with http.ws_connect(f"{POD}/portforward?ports=80", protocols=("v4.channel.k8s.io",)) as socket:
            await socket.receive(5)
        async with http.get("/api/v1/namespaces/default/services/gone/proxy/") as answered:
            assert answered.status == 404
        async with http.get(f"{POD}/log") as answered:
            assert answered.status == 200
    kinds = [asked_kind(each)[:3] for each in hooks.asked["/see"]]
    assert kinds == [("PodProxyOptions", "proxy", "web:80"), ("PodPortForwardOptions", "portforward", "web"), ("ServiceProxyOptions", "proxy", "gone")]  # fmt: skip
    assert [each["object"].get("path") for each in hooks.asked["/see"]] == ["/a b/", None, "/"]
    assert hooks.asked["/see"][1]["object"]["ports"] == [80]


async def test_a_mutating_webhook_and_a_policy_change_what_is_run(lab: Lab, hooks: Hooks) -> None:
    api, host, _ = lab
    hooks.answers["/more"] = lambda request: patched({"op": "add", "path": "/command/-", "value": "hook"}) if "command" in request["object"] else {"allowed": True}  # fmt: skip
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/more", "Mutating", rules=[STREAMS]))
    async with api.session() as session:
        http = Http(session)
        text = "[JSONPatch{op: 'add', path: '/command/-', value: 'policy'}, JSONPatch{op: 'add', path: '/container', value: 'nginx'}]"
        rule = {**STREAMS, "resources": ["pods/exec"]}
        spec = {"matchConstraints": {"resourceRules": [rule]}, "mutations": [patching(text)], "reinvocationPolicy": "Never"}
        await http.create(f"{BASE}/mutatingadmissionpolicies", {"metadata": {"name": "m"}, "spec": spec})
        await http.create(f"{BASE}/mutatingadmissionpolicybindings", {"metadata": {"name": "m"}, "spec": {"policyName": "m"}})
    assert (await api.kubectl("exec", "web", "--", "echo", "a")).out == "a policy hook\n"
    assert host.ran[-1][-4:] == ["echo", "a", "policy", "hook"]


async def test_a_validating_policy_about_connect(lab: Lab) -> None:
    api, _, _ = lab
    rule = {**STREAMS, "resources": ["pods/exec"]}
    said = policy("object.kind != 'PodExecOptions' || !('sh' in object.command)", matchConstraints={"resourceRules": [rule]})
    await ok(api, "create", "-f", "-", stdin=said)
    await ok(api, "create", "-f", "-", stdin=binding())
    assert (await api.kubectl("exec", "web", "--", "echo", "a")).out == "a\n"
    words = await refused(api, "exec", "web", "--", "sh", "-c", "ls")
    assert "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression" in words


async def test_options_have_no_labels_that_a_selector_could_match(lab: Lab, hooks: Hooks) -> None:
    api, _, _ = lab
    hooks.answers["/no"] = lambda _request: {"allowed": False}
    unless = {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods/*"], "operations": ["*"]}
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/no", rules=[everything], objectSelector=unless))
    await ok(api, "exec", "web", "--", "echo", "a")
    assert not hooks.asked


async def test_bindings_and_evictions_are_shown_as_what_they_are(lab: Lab, hooks: Hooks) -> None:
    api, _, _ = lab
    await minions.make_pod(api, "free", "a", node="")
    hooks.answers["/see"] = lambda request: {"allowed": request["name"] == "free", "warnings": ["look out"]}
    rules = [{**CORE, "resources": ["pods/binding", "pods/eviction", "pods"], "operations": ["CREATE", "DELETE"]}]
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/see", rules=rules))
    async with api.session() as session:
        http = Http(session)
        await http.create(
            f"{POD.replace('web', 'free')}/binding", {"metadata": {"name": "free"}, "target": {"kind": "Node", "name": "minion-1"}}
        )
        await http.create(f"{POD.replace('web', 'free')}/eviction", {"metadata": {"name": "free", "namespace": "default"}})
        refusal = await http("POST", f"{POD}/eviction", {"metadata": {"name": "web", "namespace": "default"}}, 400)
    assert "denied the request without explanation" in refusal["message"]
    asked = [asked_kind(each) for each in hooks.asked["/see"]]
    assert asked == [("Binding", "binding", "free", "CREATE"), ("Eviction", "eviction", "free", "CREATE"), ("Eviction", "eviction", "web", "CREATE")]  # fmt: skip
    assert hooks.asked["/see"][0]["object"]["target"]["name"] == "minion-1" and hooks.asked["/see"][1]["kind"]["group"] == "policy"


async def test_to_run_something_in_a_pod_needs_create_whatever_the_method(lab: Lab) -> None:
    api, host, _ = lab
    reads = {"apiGroups": [""], "resources": ["pods", "pods/exec", "pods/attach", "pods/portforward"], "verbs": ["get"]}
    async with api.session() as session:
        http = Http(session)
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        await http.create(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": [reads]})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
        subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]
        await http.create(f"{rbac}/rolebindings", {"metadata": {"name": "reader"}, "roleRef": role, "subjects": subjects})
        async with api.session(api.authority.issue("alice")) as alice:
            for path in ("exec?command=echo", "attach", "portforward?ports=80"):
                async with alice.get(f"{POD}/{path}", headers={"Connection": "Upgrade", "Upgrade": "websocket"}) as answered:
                    said = (await answered.json())["message"]
                words = f'User "alice" cannot create resource "pods/{path.partition("?")[0]}" in API group "" in the namespace "default"'
                assert (answered.status, said) == (403, f'pods "web" is forbidden: {words}')
            changed = {"rules": [{**reads, "verbs": ["get", "create"]}]}
            await http("PATCH", f"{rbac}/roles/reader", changed, headers={"Content-Type": "application/merge-patch+json"})
            async with alice.ws_connect(f"{POD}/exec?command=echo&command=a&stdout=true", protocols=PROTOCOLS) as socket:
                assert (await socket.receive(5)).data == b"\x01a\n"
    assert host.ran[-1][-2:] == ["echo", "a"]
