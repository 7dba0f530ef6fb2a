"""ServiceAccounts' tokens: asked for, accepted, and refused as soon as what they were made for is gone."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from labctl.tokens import KEYS_MAX, TokenKeys
from tests.inprocess import ApiServer

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
PODS = "/api/v1/namespaces/default/pods"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ISSUER = "https://kubernetes.default.svc.cluster.local"

Send = Callable[..., Any]


async def send(api: ApiServer, method: str, path: str, body: Any = None, who: Any = "admin", token: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with api.session(None if token else who) as http, http.request(method, path, json=body, headers=headers) as answered:
        return answered.status, await answered.json(content_type=None)


async def account(api: ApiServer, name: str = "robot") -> dict[str, Any]:
    code, made = await send(api, "POST", ACCOUNTS, {"metadata": {"name": name}})
    assert code == 201, made
    return made


async def pod(api: ApiServer, name: str = "p", node: str = "minion-1", **spec: Any) -> dict[str, Any]:
    wanted = {"nodeName": node, "containers": [{"name": "c", "image": "x"}], **spec}
    code, made = await send(api, "POST", PODS, {"metadata": {"name": name}, "spec": wanted})
    assert code == 201, made
    return made


async def token_of(api: ApiServer, name: str = "robot", **spec: Any) -> str:
    code, made = await send(api, "POST", f"{ACCOUNTS}/{name}/token", {"spec": spec})
    assert code == 201, made
    return str(made["status"]["token"])


def bound_to(made: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Pod", "apiVersion": "v1", "name": made["metadata"]["name"], "uid": made["metadata"]["uid"]}


async def user_of(api: ApiServer, token: str) -> tuple[int, dict[str, Any]]:
    code, said = await send(api, "POST", WHOAMI, {}, token=token)
    return code, said["status"]["userInfo"] if code == 201 else {}


async def test_a_token_speaks_for_its_service_account(api: ApiServer) -> None:
    made = await account(api)
    code, user = await user_of(api, await token_of(api))
    assert code == 201
    assert user["username"] == "system:serviceaccount:default:robot" and user["uid"] == made["metadata"]["uid"]
    assert user["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]


async def test_what_a_token_says(api: ApiServer) -> None:
    made = await account(api)
    code, answered = await send(api, "POST", f"{ACCOUNTS}/robot/token", {"spec": {"expirationSeconds": 700}})
    assert code == 201 and answered["metadata"]["name"] == "robot" and answered["spec"]["audiences"] == [ISSUER]
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in answered["status"]["token"].split(".")[:2])
    assert header["alg"] == "ES256"
    assert claims["exp"] - claims["iat"] == 700 and claims["aud"] == [ISSUER] and claims["iss"] == ISSUER
    assert claims["kubernetes.io"] == {"namespace": "default", "serviceaccount": {"name": "robot", "uid": made["metadata"]["uid"]}}
    _, keys = await send(api, "GET", "/openid/v1/jwks")
    assert header["kid"] in [key["kid"] for key in keys["keys"]]
    _, configuration = await send(api, "GET", "/.well-known/openid-configuration")
    assert configuration["issuer"] == ISSUER


@pytest.mark.parametrize(
    "bearer",
    ["", "x", "a.b.c", "x" * 20_000, "[" * 5000, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "é"],
)
async def test_what_is_no_token_is_nobody(api: ApiServer, bearer: str) -> None:
    async with api.session(None) as http, http.get("/api", headers={"Authorization": f"Bearer {bearer}"}) as answered:
        assert answered.status == 401
        assert (await answered.json())["message"] == "Unauthorized"


async def test_a_changed_token_is_nobodys(api: ApiServer) -> None:
    await account(api)
    head, body, signature = (await token_of(api)).split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    said["sub"] = said["kubernetes.io"]["serviceaccount"]["name"] = "admin"
    other = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    assert (await user_of(api, f"{head}.{other}.{signature}"))[0] == 401
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","kid":"x"}').rstrip(b"=").decode()
    assert (await user_of(api, f"{unsigned}.{body}."))[0] == 401


async def test_a_token_ends_with_its_account(api: ApiServer) -> None:
    await account(api)
    token = await token_of(api)
    assert (await user_of(api, token))[0] == 201
    await send(api, "DELETE", f"{ACCOUNTS}/robot")
    assert (await user_of(api, token))[0] == 401
    await account(api)  # another one of that name
    assert (await user_of(api, token))[0] == 401


async def test_a_token_ends_with_its_pod(api: ApiServer) -> None:
    await account(api)
    made = await pod(api, serviceAccountName="robot")
    token = await token_of(api, boundObjectRef=bound_to(made))
    code, user = await user_of(api, token)
    assert code == 201 and user["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    await send(api, "DELETE", f"{PODS}/p?gracePeriodSeconds=0")
    assert (await user_of(api, token))[0] == 401


async def test_a_token_for_somebody_else_is_none_here(api: ApiServer) -> None:
    await account(api)
    token = await token_of(api, audiences=["vault"])
    assert (await user_of(api, token))[0] == 401
    code, review = await send(api, "POST", REVIEWS, {"spec": {"token": token, "audiences": ["vault", "other"]}})
    assert code == 201 and review["status"]["authenticated"] and review["status"]["audiences"] == ["vault"]
    assert review["status"]["user"]["username"] == "system:serviceaccount:default:robot"
    _, review = await send(api, "POST", REVIEWS, {"spec": {"token": token}})
    assert "authenticated" not in review["status"] and review["status"]["error"]


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"expirationSeconds": 599}, 422, "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": (1 << 32) + 1}, 422, "may not specify a duration larger than 2^32 seconds"),
        ({"boundObjectRef": {"kind": "Pod", "name": "none"}}, 404, 'pods "none" not found'),
        ({"boundObjectRef": {"kind": "Pod", "name": "others"}}, 400, "to pod running with different serviceaccount name"),
        ({"boundObjectRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}, 400, "cannot bind token to object of type"),
    ],
)
async def test_what_no_token_is_made_for(api: ApiServer, spec: dict[str, Any], code: int, words: str) -> None:
    await account(api)
    await pod(api, "others")
    answered, said = await send(api, "POST", f"{ACCOUNTS}/robot/token", {"spec": spec})
    assert answered == code and words in said["message"]


async def test_a_request_for_an_account_that_was_there_before_is_a_conflict(api: ApiServer) -> None:
    made = await account(api)
    uid = made["metadata"]["uid"]
    assert (await send(api, "POST", f"{ACCOUNTS}/robot/token", {"metadata": {"uid": uid}}))[0] == 201
    code, said = await send(api, "POST", f"{ACCOUNTS}/robot/token", {"metadata": {"uid": "old"}})
    words = 'Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "robot": the UID in the token request (old) does not match'
    assert code == 409 and said["message"] == f"{words} the UID of the service account ({uid})"


async def test_only_a_post_makes_one(api: ApiServer) -> None:
    await account(api)
    assert (await send(api, "GET", f"{ACCOUNTS}/robot/token"))[0] == 405
    assert (await send(api, "POST", f"{ACCOUNTS}/nobody/token", {}))[0] == 404


# -- nodes


async def as_node(api: ApiServer, name: str, **spec: Any) -> tuple[int, dict[str, Any]]:
    return await send(api, "POST", f"{ACCOUNTS}/{name}/token", {"spec": spec}, who="node:minion-1")


async def test_a_node_asks_for_its_own_pods_only(api: ApiServer) -> None:
    await account(api)
    mine = await pod(api, "mine", serviceAccountName="robot")
    other = await pod(api, "other", "minion-2", serviceAccountName="robot")
    assert (await as_node(api, "robot", boundObjectRef=bound_to(mine)))[0] == 201
    for spec, words in (
        ({}, "node requested token not bound to a pod"),
        ({"boundObjectRef": {**bound_to(mine), "uid": ""}}, "node requested token with a pod binding without a uid"),
        ({"boundObjectRef": bound_to(other)}, "node requested token bound to a pod scheduled on a different node"),
        ({"boundObjectRef": bound_to(mine), "audiences": ["vault"]}, 'audience "vault" not found in pod spec volume'),
    ):
        code, said = await as_node(api, "robot", **spec)
        assert code == 403 and words in said["message"], said
    await account(api, "unused")
    assert (await as_node(api, "unused", boundObjectRef=bound_to(mine)))[0] == 403


async def test_a_node_may_ask_for_the_audiences_of_the_pods_volumes(api: ApiServer) -> None:
    sources = [{"serviceAccountToken": {"audience": "vault", "path": "vault"}}]
    mine = await pod(api, "mine", volumes=[{"name": "v", "projected": {"sources": sources}}])
    await account(api, "default")
    assert (await as_node(api, "default", boundObjectRef=bound_to(mine), audiences=["vault"]))[0] == 201


# -- keys


async def test_a_rotation_breaks_no_token_and_a_revocation_all(api: ApiServer) -> None:
    keys = TokenKeys(api.directory / "pki" / "others")
    before = keys.sign({"sub": "x"})
    keys.rotate()
    after = keys.sign({"sub": "x"})
    assert keys.verify(before) == keys.verify(after) == {"sub": "x"}
    again = TokenKeys(api.directory / "pki" / "others")
    assert again.verify(before) and again.sign({"sub": "y"}).split(".")[0] == after.split(".")[0], (
        "the newest key signs after a restart too"
    )
    keys.rotate(revoke=True)
    assert keys.verify(before) is None and keys.verify(after) is None
    assert TokenKeys(api.directory / "pki" / "others").verify(after) is None
    for _ in range(KEYS_MAX + 3):
        keys.rotate()
    assert len(keys.public()) == KEYS_MAX


async def test_a_token_of_another_lab_is_nobodys(api: ApiServer) -> None:
    made = await account(api)
    claims = {"iss": ISSUER, "aud": [ISSUER], "exp": 1 << 40, "sub": "system:serviceaccount:default:robot"}
    named = {"name": "robot", "uid": made["metadata"]["uid"]}
    other = TokenKeys(api.directory / "pki" / "others").sign({**claims, "kubernetes.io": {"namespace": "default", "serviceaccount": named}})
    assert (await user_of(api, other))[0] == 401


async def test_a_certificate_comes_before_a_token(api: ApiServer) -> None:
    async with api.session() as http:
        headers = {"Authorization": "Bearer nonsense"}
        async with http.post(WHOAMI, json={}, headers=headers) as answered:
            assert (await answered.json())["status"]["userInfo"]["username"] == "labctl-admin"


async def test_kubectl_makes_tokens(api: ApiServer) -> None:
    await account(api)
    made = await api.kubectl("create", "token", "robot", "--duration=20m")
    assert made.code == 0, made.err
    assert (await user_of(api, made.out.strip()))[0] == 201
