"""Webhooks and policies about what is answered and not kept: requests for tokens, and no reviews of access and of tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.hooks import Hooks
from tests.client.test_admission import binding, configuration, patched, policy
from tests.client.test_kubectl import ok, refused
from tests.client.test_policies import Http
from tests.inprocess import ApiServer

ACCESS = "/apis/authorization.k8s.io/v1"
REVIEWS = {
    "apiGroups": ["authorization.k8s.io", "authentication.k8s.io"],
    "apiVersions": ["v1"],
    "resources": ["*"],
    "operations": ["CREATE"],
}
TOKENS = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["serviceaccounts/token"], "operations": ["CREATE"]}
TOKEN = "/api/v1/namespaces/default/serviceaccounts/mine/token"
MAY = {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        await ok(running, "create", "serviceaccount", "mine")
        yield running


async def asked(api: ApiServer, path: str, spec: dict[str, Any], code: int = 201) -> dict[str, Any]:
    async with api.session() as session:
        said: dict[str, Any] = await Http(session)("POST", path, {"spec": spec}, code)
        return said


async def test_no_webhook_is_shown_reviews_whatever_its_rules_say(api: ApiServer, hooks: Hooks) -> None:
    """Since Kubernetes 1.37: one that fails or refuses could lock everybody out."""
    hooks.answers["/no"] = lambda _request: {"allowed": False}
    hooks.answers["/change"] = lambda _request: patched({"op": "replace", "path": "/spec/groups", "value": ["system:masters"]})
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/no", rules=[REVIEWS, everything]))
    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/change", "Mutating", rules=[REVIEWS]))
    for path, spec in (
        (f"{ACCESS}/subjectaccessreviews", MAY),
        (f"{ACCESS}/selfsubjectaccessreviews", {"resourceAttributes": MAY["resourceAttributes"]}),
        (f"{ACCESS}/selfsubjectrulesreviews", {"namespace": "default"}),
        (f"{ACCESS}/namespaces/default/localsubjectaccessreviews", MAY),
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}),
        ("/apis/authentication.k8s.io/v1/tokenreviews", {"token": "x"}),
    ):
        assert (await asked(api, path, spec)).get("spec", {}) == spec
    assert not hooks.asked.get("/no") and not hooks.asked.get("/change")
    assert "denied the request" in await refused(api, "create", "configmap", "a")


async def test_policies_are_not_about_reviews(api: ApiServer) -> None:
    """As in Kubernetes, where one that refuses them could lock everybody out."""
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}
    await ok(api, "create", "-f", "-", stdin=policy("false", matchConstraints={"resourceRules": [everything]}))
    await ok(api, "create", "-f", "-", stdin=binding())
    assert "denied request: failed expression: false" in await refused(api, "create", "configmap", "a")
    assert (await asked(api, f"{ACCESS}/subjectaccessreviews", MAY))["status"] == {"allowed": False}
    assert not (await asked(api, "/apis/authentication.k8s.io/v1/tokenreviews", {"token": "x"}))["status"].get("authenticated")


async def test_what_a_webhook_makes_of_a_request_for_a_token_counts_and_is_checked(api: ApiServer, hooks: Hooks) -> None:
    def change(spec: dict[str, Any]) -> None:
        hooks.answers["/change"] = lambda _request: patched(*({"op": "add", "path": f"/spec/{k}", "value": v} for k, v in spec.items()))

    await ok(api, "create", "-f", "-", stdin=configuration(hooks, "/change", "Mutating", rules=[TOKENS]))
    change({"audiences": ["them"], "expirationSeconds": 700})
    said = await asked(api, TOKEN, {})
    assert hooks.asked["/change"][0]["name"] == "mine" and hooks.asked["/change"][0]["kind"]["kind"] == "TokenRequest"
    assert said["spec"] == {"audiences": ["them"], "expirationSeconds": 700}
    review = {"token": said["status"]["token"], "audiences": ["them", "us"]}
    assert (await asked(api, "/apis/authentication.k8s.io/v1/tokenreviews", review))["status"]["audiences"] == ["them"]
    change({"expirationSeconds": 1})
    assert "may not specify a duration less than 10 minutes" in (await asked(api, TOKEN, {}, 422))["message"]
    change({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "nothing"}})
    assert (await asked(api, TOKEN, {}, 404))["details"]["name"] == "nothing"
