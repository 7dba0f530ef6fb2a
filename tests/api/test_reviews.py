"""Questions about oneself: who am I, may I, what may I; and being somebody else for one request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inprocess import ApiServer

ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
AS_A_NODE = ("--as", "system:node:minion-1", "--as-group", "system:nodes")


async def may(api: ApiServer, who: str, **spec: Any) -> dict[str, Any]:
    async with api.session(who) as http, http.post(ACCESS, json={"spec": spec}) as answered:
        said = await answered.json()
        assert answered.status == 201 and said["spec"] == spec
        status: dict[str, Any] = said["status"]
        return status


async def test_kubectl_auth(api: ApiServer) -> None:
    whoami = await api.kubectl("auth", "whoami")
    assert "labctl-admin" in whoami.out and "system:masters" in whoami.out
    assert (await api.kubectl("auth", "can-i", "delete", "pods")).out == "yes\n"
    assert (await api.kubectl("auth", "can-i", "get", "/logs")).out == "yes\n"
    assert "*.*" in (await api.kubectl("auth", "can-i", "--list")).out


def _on(node: str) -> dict[str, Any]:
    return {"key": "spec.nodeName", "operator": "In", "values": [node]}


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({"resourceAttributes": {"verb": "list", "resource": "services", "version": "v1"}}, True),
        ({"resourceAttributes": {"verb": "delete", "resource": "services", "version": "v1"}}, False),
        ({"resourceAttributes": {"verb": "list", "resource": "pods"}}, False),
        ({"resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": {"rawSelector": "spec.nodeName=minion-1"}}}, True),
        ({"resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": {"requirements": [_on("minion-1")]}}}, True),
        ({"resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": {"requirements": [_on("minion-2")]}}}, False),
        (
            {
                "resourceAttributes": {
                    "verb": "list",
                    "resource": "pods",
                    "fieldSelector": {"requirements": [_on("x,spec.nodeName=minion-1")]},
                }
            },
            False,
        ),
        ({"resourceAttributes": {"verb": "patch", "resource": "nodes", "subresource": "status", "name": "minion-1"}}, True),
        ({"resourceAttributes": {"verb": "patch", "resource": "nodes", "subresource": "status", "name": "minion-2"}}, False),
        ({"nonResourceAttributes": {"verb": "get", "path": "/version"}}, True),
        ({"nonResourceAttributes": {"verb": "get", "path": "/labctl/v1/why/pods/default/a"}}, False),
    ],
)
async def test_a_node_is_told_what_would_happen(api: ApiServer, spec: dict[str, Any], allowed: bool) -> None:
    assert await may(api, "node:minion-1", **spec) == {"allowed": allowed}


@pytest.mark.parametrize(
    ("path", "spec", "words"),
    [
        (
            ACCESS,
            {},
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (RULES, {}, "spec.namespace: Required value"),
        (
            ACCESS,
            {"resourceAttributes": {"verb": "list", "resource": "pods", "labelSelector": {}}},
            "labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified",
        ),
        (
            ACCESS,
            {
                "resourceAttributes": {
                    "resource": "pods",
                    "fieldSelector": {"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]},
                }
            },
            'fieldSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements',
        ),
    ],
)
async def test_a_question_that_asks_nothing(api: ApiServer, path: str, spec: dict[str, Any], words: str) -> None:
    async with api.session() as http, http.post(path, json={"spec": spec}) as answered:
        assert answered.status == 422 and words in (await answered.json())["message"]


async def test_questions_are_not_kept(api: ApiServer) -> None:
    before = api.resources.store.revision
    await may(api, "admin", resourceAttributes={"verb": "get", "resource": "pods"})
    assert api.resources.store.revision == before
    async with api.session() as http, http.get(ACCESS) as answered:
        assert answered.status == 405


async def test_an_admin_may_speak_as_anybody(api: ApiServer) -> None:
    refused = await api.kubectl("get", "secrets", *AS_A_NODE)
    assert 'User "system:node:minion-1" cannot list resource "secrets"' in refused.err
    assert (await api.kubectl("get", "services", *AS_A_NODE)).code == 0
    assert (await api.kubectl("auth", "can-i", "delete", "pods", *AS_A_NODE)).out == "no\n"


async def test_nobody_else_may(api: ApiServer) -> None:
    async with api.session("node:minion-1") as http, http.get("/api/v1/services", headers={"Impersonate-User": "root"}) as answered:
        assert answered.status == 403
        assert (
            'services is forbidden: User "system:node:minion-1" cannot impersonate-on:user-info:list resource "services"'
            in (await answered.json())["message"]
        )


async def test_a_review_is_no_table(tmp_path):
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        url, spec = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"resourceAttributes": {"verb": "get", "resource": "pods"}}
        table = "application/json;as=Table;v=v1;g=meta.k8s.io"
        for accept, code in ((table, 406), (f"{table},application/json", 201)):
            async with http.post(url, json={"spec": spec}, headers={"Accept": accept}) as answer:
                assert answer.status == code, await answer.text()
