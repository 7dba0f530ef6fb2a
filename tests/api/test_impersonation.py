"""`kubectl --as`: what the older `impersonate` allows, and what the constrained verbs of KEP-5284 allow."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labctl.api.audit import AuditLog
from labctl.clock import SystemClock
from tests.api.test_rbac import ALICE, CLUSTER_BINDINGS, CLUSTER_ROLES, PODS, made, refers_to, rule, send
from tests.inprocess import ApiServer

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
GROUP = "authentication.k8s.io"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as api:
        await janes(api)
        yield api


async def janes(api: ApiServer) -> None:
    """Let jane list pods."""
    await allowed(api, "janes", [rule("list", "pods")], {**ALICE, "name": "jane"})


async def allowed(api: ApiServer, name: str, rules: list[dict[str, Any]], subject: dict[str, Any] = ALICE) -> None:
    assert (await made(api, CLUSTER_ROLES, name, rules=rules))[0] == 201
    assert (await made(api, CLUSTER_BINDINGS, name, roleRef=refers_to(name, "ClusterRole"), subjects=[subject]))[0] == 201


async def asked(api: ApiServer, path: str, user: str, *more: tuple[str, str], token: str = "", method: str = "GET") -> tuple[int, Any]:
    headers = [("Impersonate-User", user), *more, *([("Authorization", f"Bearer {token}")] if token else [])]
    session = api.session(None) if token else api.session(api.authority.issue("alice"))
    body = {} if method == "POST" else None
    async with session as http, http.request(method, path, headers=headers, json=body) as answered:
        said = await answered.json(content_type=None)
        return answered.status, said if answered.status < 400 else said["message"]


async def test_a_user_may_be_impersonated_for_some_actions_only(api: ApiServer) -> None:
    refused = 'cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "default"'
    code, said = await asked(api, PODS, "jane")
    assert code == 403 and refused in said, "the first refusal is told"
    await allowed(api, "on", [rule("impersonate-on:user-info:list", "pods"), rule("impersonate-on:user-info:get", "nodes")])
    code, said = await asked(api, PODS, "jane")
    assert code == 403 and 'cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope' in said
    await allowed(api, "be", [rule("impersonate:user-info", "users", GROUP, resourceNames=["jane", "joe"])])
    assert (await asked(api, PODS, "jane"))[0] == 200
    code, said = await asked(api, PODS, "joe")
    assert code == 403 and 'User "joe" cannot list' in said, "what the other may not do is not allowed"
    code, said = await asked(api, "/api/v1/nodes/n", "jane")
    assert code == 403 and 'User "jane" cannot get' in said
    for path, verb in ((f"{PODS}/a", "get"), ("/version", "get")):
        code, said = await asked(api, path, "jane")
        assert code == 403 and f'User "alice" cannot impersonate-on:user-info:{verb}' in said
    assert (await asked(api, PODS, "jack"))[0] == 403


async def test_groups_uids_and_extra_have_to_be_allowed_too(api: ApiServer) -> None:
    await allowed(api, "be", [rule("impersonate:user-info", "users", GROUP), rule("impersonate-on:user-info:list", "pods")])
    more = (("Impersonate-Group", "devs"), ("Impersonate-Uid", "7"), ("Impersonate-Extra-example.com%2fscope", "view"))
    for each in more:
        assert (await asked(api, PODS, "jane", each))[0] == 403
    await allowed(
        api,
        "more",
        [
            rule("impersonate:user-info", "groups uids", GROUP, resourceNames=["devs", "7"]),
            rule("impersonate:user-info", "userextras/example.com/scope userextras/plain", GROUP),
        ],
    )
    assert (await asked(api, PODS, "jane", *more))[0] == 200
    for wrong in (("Impersonate-Group", "ops"), ("Impersonate-Extra-plain", "x"), ("Impersonate-Group", "system:masters")):
        assert (await asked(api, PODS, "jane", wrong))[0] == 403, wrong
    many = [("Impersonate-Group", f"g{number}") for number in range(4)]
    assert (await asked(api, PODS, "jane", *many))[0] == 403
    await allowed(api, "every", [rule("impersonate:user-info", "groups", GROUP)])
    assert (await asked(api, PODS, "jane", *many))[0] == 200
    code, said = await asked(api, PODS, "jane", ("Impersonate-Group", "system:masters"))
    assert code == 403 and "system:masters" in said, "not in this way"


async def test_accounts_and_nodes_have_modes_of_their_own(api: ApiServer) -> None:
    everybody = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts:default"}
    await allowed(api, "robots", [rule("list", "pods")], everybody)
    info = [rule("impersonate:user-info", "users serviceaccounts nodes", GROUP), rule("impersonate-on:user-info:list", "pods")]
    await allowed(api, "info", info)
    robot, node = "system:serviceaccount:default:robot", "system:node:minion-1"
    for name in (robot, node):
        assert (await asked(api, PODS, name))[0] == 403
    await allowed(api, "sa", [rule("impersonate:serviceaccount", "serviceaccounts", GROUP, resourceNames=["robot"])])
    await allowed(api, "sa-on", [rule("impersonate-on:serviceaccount:list", "pods")])
    assert (await asked(api, PODS, robot))[0] == 200, "its groups are its own"
    assert (await asked(api, PODS, robot, ("Impersonate-Group", "devs")))[0] == 403, "and no others can be given"
    await allowed(api, "node", [rule("impersonate:arbitrary-node", "nodes", GROUP), rule("impersonate-on:arbitrary-node:list", "pods")])
    assert (await asked(api, f"{PODS}?fieldSelector=spec.nodeName=minion-1", node))[0] == 200, "what the node's agent may"
    assert (await asked(api, PODS, node))[0] == 403


async def test_a_token_bound_to_a_node_impersonates_that_node_alone(api: ApiServer) -> None:
    assert (await made(api, ACCOUNTS, "agent"))[0] == 201
    spec = {"serviceAccountName": "agent", "nodeName": "minion-1", "containers": [{"name": "c", "image": "x"}]}
    assert (await send(api, "POST", PODS, {"metadata": {"name": "p"}, "spec": spec}))[0] == 201
    assert (await send(api, "POST", "/api/v1/nodes", {"metadata": {"name": "minion-1"}}))[0] == 201
    bound = {"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}}
    code, said = await send(api, "POST", f"{ACCOUNTS}/agent/token", bound)
    assert code == 201, said
    token = said["status"]["token"]
    subject = {"kind": "ServiceAccount", "name": "agent", "namespace": "default"}
    rules = [rule("impersonate:associated-node", "nodes", GROUP), rule("impersonate-on:associated-node:list", "pods")]
    await allowed(api, "associated", rules, subject)
    assert (await asked(api, f"{PODS}?fieldSelector=spec.nodeName=minion-1", "system:node:minion-1", token=token))[0] == 200
    assert (await asked(api, f"{PODS}?fieldSelector=spec.nodeName=minion-2", "system:node:minion-2", token=token))[0] == 403


async def test_the_older_verb_allows_all_that_the_other_may_and_the_audit_log_tells_them_apart(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", SystemClock())
    async with ApiServer.running(tmp_path, audit=log) as api:
        await janes(api)
        await allowed(api, "old", [rule("impersonate", "users")])
        assert (await asked(api, PODS, "jane"))[0] == 200
        answered = (await asked(api, WHO, "jane", method="POST"))[1]
        assert answered["status"]["userInfo"]["groups"] == ["system:authenticated"]
        await allowed(api, "be", [rule("impersonate:user-info", "users", GROUP), rule("impersonate-on:user-info:list", "pods")])
        assert (await asked(api, PODS, "jane"))[0] == 200
        await log.close()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    told = [each.get("authenticationMetadata") for each in lines if each.get("impersonatedUser")]
    assert told == [None, None, {"impersonationConstraint": "impersonate:user-info"}]


async def test_extra_without_a_name_is_a_bad_request(api: ApiServer) -> None:
    async with api.session() as http:
        for header in ("Impersonate-Group", "Impersonate-Uid"):
            async with http.get(PODS, headers={header: "x"}) as answered:
                assert answered.status == 400
