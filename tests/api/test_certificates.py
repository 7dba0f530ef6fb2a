"""CertificateSigningRequests, as kubectl and programs use them: asked, approved or denied, signed by the lab's CA or refused with the reason."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from labctl.certificates import Issued
from tests.inprocess import ApiServer

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING = "kubernetes.io/kubelet-serving"
SIGNS = "digital signature"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as api:
        yield api


class Asked:
    """A key, and the request for a certificate for it."""

    def __init__(self, name: str = "jane", *groups: str, hosts: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        parts += [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in names or (name,)]
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts))
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        self.request = base64.b64encode(builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)).decode()

    def with_certificate(self, encoded: str) -> Issued:
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Issued(base64.b64decode(encoded), key)


async def send(api: ApiServer, method: str, path: str, body: Any = None, who: Any = "admin") -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
    async with api.session(who) as http, http.request(method, path, json=body, headers=headers) as answered:
        return answered.status, await answered.json(content_type=None)


async def make(api: ApiServer, asked: Asked, who: Any = "admin", **spec: Any) -> tuple[int, dict[str, Any]]:
    wanted = {"request": asked.request, "signerName": CLIENT, "usages": ["client auth", SIGNS], **spec}
    return await send(api, "POST", PATH, {"metadata": {"name": "r"}, "spec": wanted}, who)


async def approved(api: ApiServer) -> dict[str, Any]:
    """The request after its approval, when the signer has spoken."""
    ran = await api.kubectl("certificate", "approve", "r")
    assert ran.code == 0, ran.err
    watching = api.resources.watch(api.resources.registry["certificatesigningrequests.certificates.k8s.io"], "")
    try:
        while True:
            _, found = await send(api, "GET", f"{PATH}/r")
            status = found["status"]
            if "certificate" in status or any(each["type"] == "Failed" for each in status["conditions"]):
                return found
            await anext(watching)
    finally:
        await watching.aclose()


async def test_a_person_gets_a_certificate_and_is_known_by_it(api: ApiServer) -> None:
    asked = Asked("jane", "developers")
    code, made = await make(api, asked, expirationSeconds=3600, username="somebody else")
    assert code == 201 and made["spec"]["username"] == "labctl-admin" and "status" not in made or not made["status"]
    assert "Pending" in (await api.kubectl("get", "csr")).out
    signed = await approved(api)
    assert "Approved,Issued" in (await api.kubectl("get", "csr")).out
    issued = asked.with_certificate(signed["status"]["certificate"])
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    lives = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lives.total_seconds() == 3600 + 300
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    code, said = await send(api, "POST", path, {}, issued)
    user = said["status"]["userInfo"]
    assert (user["username"], user["groups"]) == ("jane", ["developers", "system:authenticated"])


@pytest.mark.parametrize(
    ("asked", "spec", "why"),
    [
        (Asked("jane"), {"usages": ["server auth"]}, "usages did not match"),
        (Asked("jane"), {"signerName": KUBELET}, 'organization in the subject must be "system:nodes"'),
        (Asked("jane", "system:nodes"), {"signerName": KUBELET}, 'subject common name must begin with "system:node:"'),
        (Asked("system:node:a", "system:nodes", hosts=("x",)), {"signerName": KUBELET}, "subject alternative names are not allowed"),
        (
            Asked("system:node:a", "system:nodes", hosts=("x",)),
            {"signerName": SERVING, "usages": ["server auth", SIGNS]},
            "the requestor must be the node that the subject names",
        ),
    ],
)
async def test_what_a_signer_refuses(api: ApiServer, asked: Asked, spec: dict[str, Any], why: str) -> None:
    assert (await make(api, asked, **spec))[0] == 201
    failed = (await approved(api))["status"]
    assert "certificate" not in failed
    assert why in next(each["message"] for each in failed["conditions"] if each["type"] == "Failed")


async def test_of_several_names_the_last_one_counts_for_the_signer_and_for_the_api(api: ApiServer) -> None:
    """As Go reads a subject. Who is shown one name must not be signed for another."""
    asked = Asked("", "system:nodes", names=("jane", "system:node:minion-7"))
    assert (await make(api, asked, signerName=KUBELET))[0] == 201
    issued = asked.with_certificate((await approved(api))["status"]["certificate"])
    _, said = await send(api, "GET", "/api/v1/pods", who=issued)
    assert 'User "system:node:minion-7"' in said["message"]


async def test_a_node_s_certificate(api: ApiServer) -> None:
    asked = Asked("system:node:minion-7", "system:nodes")
    assert (await make(api, asked, signerName=KUBELET))[0] == 201
    issued = asked.with_certificate((await approved(api))["status"]["certificate"])
    code, _ = await send(api, "GET", "/api/v1/services", who=issued)
    assert code == 200


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"request": "bm9uc2Vuc2U="}, 422, "PEM block type must be CERTIFICATE REQUEST"),
        ({"request": ""}, 422, "spec.request: Required value"),
        ({"usages": []}, 422, "spec.usages: Required value"),
        ({"usages": ["ruling"]}, 422, 'spec.usages[0]: Unsupported value: "ruling"'),
        ({"signerName": "mine"}, 422, "spec.signerName: Invalid value"),
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 600 seconds"),
    ],
)
async def test_what_is_no_request(api: ApiServer, spec: dict[str, Any], code: int, words: str) -> None:
    answered, said = await make(api, Asked(), **spec)
    assert answered == code and words in said["message"], said


async def test_nobody_becomes_an_admin_that_way(api: ApiServer) -> None:
    code, said = await make(api, Asked("me", "system:masters"))
    assert code == 403 and "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed" in said["message"]


async def test_who_may_approve(api: ApiServer) -> None:
    await make(api, Asked())
    approver = api.authority.issue("alice")
    group = "rbac.authorization.k8s.io"
    rules = [{"verbs": ["update", "patch"], "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"]}]
    for path, body in (
        ("clusterroles", {"metadata": {"name": "half"}, "rules": rules}),
        ("clusterrolebindings", {"metadata": {"name": "half"}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "half"}}),
    ):
        body = {**body, "subjects": [{"kind": "User", "name": "alice"}]} if "roleRef" in body else body
        assert (await send(api, "POST", f"/apis/{group}/v1/{path}", body))[0] == 201
    decision = {"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "x"}]}}
    code, said = await send(api, "PATCH", f"{PATH}/r/approval", decision, approver)
    assert code == 403 and 'user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"' in said["message"]


async def test_a_decision_stays_and_only_approval_makes_one(api: ApiServer) -> None:
    await make(api, Asked())
    sneaked = {"status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    code, said = await send(api, "PATCH", f"{PATH}/r", sneaked)
    assert code == 200 and not said.get("status", {}).get("conditions"), said
    code, said = await send(api, "PATCH", f"{PATH}/r/status", sneaked)
    assert code == 422 and 'status.conditions: Forbidden: updates may not add a condition of type "Approved"' in said["message"]
    assert (await api.kubectl("certificate", "deny", "r")).code == 0
    assert "Denied" in (await api.kubectl("get", "csr")).out
    code, said = await send(api, "PATCH", f"{PATH}/r/approval", {"status": {"conditions": []}})
    assert code == 422 and 'updates may not remove a condition of type "Denied"' in said["message"]
    code, said = await send(api, "PATCH", f"{PATH}/r/approval", {"status": {"certificate": "QUJD", "conditions": said.get("conditions")}})
    assert code == 422
    _, now = await send(api, "GET", f"{PATH}/r")
    assert "certificate" not in now["status"]


async def test_approval_may_write_other_conditions_beside_the_decision(api: ApiServer) -> None:
    await make(api, Asked())
    noted = {"type": "Looked", "status": "True", "reason": "ByHand"}
    code, said = await send(api, "PATCH", f"{PATH}/r/approval", {"status": {"conditions": [noted], "certificate": "QUJD"}})
    assert code == 200 and said["status"]["conditions"][0]["type"] == "Looked" and "certificate" not in said["status"]
    approved = [*said["status"]["conditions"], {"type": "Approved", "status": "True", "reason": "ByHand"}]
    code, said = await send(api, "PATCH", f"{PATH}/r/approval", {"status": {"conditions": approved}})
    assert code == 200 and [each["type"] for each in said["status"]["conditions"]] == ["Looked", "Approved"]


async def test_a_decision_is_neither_taken_away_nor_changed_through_status(api: ApiServer) -> None:
    await make(api, Asked(), signerName="example.com/ours")
    assert (await api.kubectl("certificate", "approve", "r")).code == 0
    _, before = await send(api, "GET", f"{PATH}/r")
    code, said = await send(api, "PATCH", f"{PATH}/r/status", {"status": {"conditions": []}})
    assert code == 422 and 'status.conditions: Forbidden: updates may not remove a condition of type "Approved"' in said["message"]
    [approved] = before["status"]["conditions"]
    changed = [{**approved, "message": "by somebody else"}, {"type": "Seen", "status": "False"}]
    code, said = await send(api, "PATCH", f"{PATH}/r/status", {"status": {"conditions": changed}})
    assert code == 200 and said["status"]["conditions"][0] == approved
    again = {**said["status"]["conditions"][1], "lastTransitionTime": None, "lastUpdateTime": None, "reason": "Again"}
    code, later = await send(api, "PATCH", f"{PATH}/r/status", {"status": {"conditions": [approved, again]}})
    assert code == 200 and later["status"]["conditions"][1]["lastTransitionTime"] == said["status"]["conditions"][1]["lastTransitionTime"]


async def test_a_certificate_is_one_and_stays_what_it_is(api: ApiServer) -> None:
    await make(api, Asked(), signerName="example.com/ours")
    assert (await api.kubectl("certificate", "approve", "r")).code == 0

    async def sign(pem: bytes) -> tuple[int, dict[str, Any]]:
        return await send(api, "PATCH", f"{PATH}/r/status", {"status": {"certificate": base64.b64encode(pem).decode()}})

    issued = api.authority.issue("jane")
    for pem, why in (
        (b"nothing", "must contain at least one CERTIFICATE PEM block"),
        (issued.key, 'only CERTIFICATE PEM blocks are allowed, found "PRIVATE KEY"'),
        (b"-----BEGIN CERTIFICATE-----\na: b\n\nQUJD\n-----END CERTIFICATE-----\n", "no PEM block headers are permitted"),
    ):
        code, said = await sign(pem)
        assert code == 422 and f'status.certificate: Invalid value: "<certificate data>": {why}' in said["message"], said
    assert (await sign(issued.certificate))[0] == 200
    code, said = await sign(api.authority.issue("joe").certificate)
    assert code == 422 and "status.certificate: Forbidden: updates may not modify existing certificate content" in said["message"]
    assert (await sign(issued.certificate))[0] == 200


async def test_who_may_sign(api: ApiServer) -> None:
    await make(api, Asked(), signerName="example.com/ours")
    group, signer = "rbac.authorization.k8s.io", api.authority.issue("alice")
    rules = [
        {"verbs": ["get", "update", "patch"], "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/status"]}
    ]
    bound = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "half"}, "subjects": [{"kind": "User", "name": "alice"}]}
    for path, body in (("clusterroles", {"rules": rules}), ("clusterrolebindings", bound)):
        assert (await send(api, "POST", f"/apis/{group}/v1/{path}", {"metadata": {"name": "half"}, **body}))[0] == 201
    pem = base64.b64encode(signer.certificate).decode()
    for status in ({"certificate": pem}, {"conditions": [{"type": "Failed", "status": "True", "reason": "x"}]}):
        code, said = await send(api, "PATCH", f"{PATH}/r/status", {"status": status}, signer)
        assert code == 403 and 'user not permitted to sign requests with signerName "example.com/ours"' in said["message"]
    code, _ = await send(api, "PATCH", f"{PATH}/r/status", {"metadata": {"labels": {"a": "b"}}}, signer)
    assert code == 200, "what is signed does not change"
