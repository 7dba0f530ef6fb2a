"""PodCertificateRequests and ClusterTrustBundles: every way to write them, what they refuse, and who may speak for a signer."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.inprocess import ApiServer

REQUESTS = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests"
BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
SIGNER = "example.com/tests"
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")])
PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as running:
        yield running


async def send(api: ApiServer, method: str, path: str, body: Any = None, who: Any = "admin", media: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": media or "application/json"}
    async with api.session(who) as http, http.request(method, path, data=json.dumps(body) if body else None, headers=headers) as answered:
        return answered.status, await answered.json(content_type=None)


def csr(key: Any = KEY) -> str:
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    return base64.b64encode(made.public_bytes(Encoding.DER)).decode()


def request(name: str = "r", **spec: Any) -> dict[str, Any]:
    bound = {
        "podName": "web",
        "podUID": "u1",
        "serviceAccountName": "default",
        "serviceAccountUID": "u2",
        "nodeName": "n1",
        "nodeUID": "u3",
    }
    return {"metadata": {"name": name}, "spec": {"signerName": SIGNER, **bound, "stubPKCS10Request": csr(), **spec}}


def certificate(hours: float = 1, ca: bool = False, key: Any = KEY, subject: x509.Name = NAME) -> tuple[str, datetime, datetime]:
    starts = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(starts).not_valid_after(starts + timedelta(hours=hours))
    signed = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True).sign(key, SHA256())
    return signed.public_bytes(Encoding.PEM).decode(), starts, starts + timedelta(hours=hours)


def issued(hours: float = 1, key: Any = KEY, refresh_minutes: float = 15, **other: Any) -> dict[str, Any]:
    pem, starts, ends = certificate(hours, key=key)
    condition = {"type": "Issued", "status": "True", "reason": "Test", "message": "here", "lastTransitionTime": stamp(starts)}
    times = {"notBefore": stamp(starts), "notAfter": stamp(ends), "beginRefreshAt": stamp(starts + timedelta(minutes=refresh_minutes))}
    return {"certificateChain": pem, **times, "conditions": [condition], **other}


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_it_is_made_labelled_and_answered_in_every_way(api: ApiServer) -> None:
    whole = {**request(), "apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest"}
    for way, media in {**PATCHES, "put": ""}.items():
        code, made = await send(api, "POST", REQUESTS, whole)
        assert (code, made["status"], made["spec"]["maxExpirationSeconds"]) == (201, {}, 86_400)
        label, status = {"metadata": {"labels": {"a": "b"}}}, {"status": issued()}
        named = {"apiVersion": whole["apiVersion"], "kind": whole["kind"]} if way == "apply" else {}
        query = "?fieldManager=tests&force=true" if way == "apply" else ""
        for path, change in ((f"{REQUESTS}/r{query}", label), (f"{REQUESTS}/r/status{query}", status)):
            if way == "put":
                made = {
                    **made,
                    **({"status": status["status"]} if "status" in change else {}),
                    "metadata": {**made["metadata"], "labels": {"a": "b"}},
                }
                code, made = await send(api, "PUT", path, made)
            else:
                code, made = await send(
                    api, "PATCH", path, {**named, **change, "metadata": {"name": "r", **change.get("metadata", {})}}, media=media
                )
            assert code == 200, made
        assert made["status"] == status["status"] and made["metadata"]["labels"] == {"a": "b"}
        assert (await send(api, "DELETE", f"{REQUESTS}/r"))[0] == 200


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"signerName": "nodomain/x"}, "should be a domain with at least two segments separated by dots"),
        ({"signerName": "example.com"}, "must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        ({"podName": ""}, "spec.podName: Required value"),
        ({"nodeUID": "u" * 129}, "spec.nodeUID: Too long"),
        ({"maxExpirationSeconds": 60}, "spec.maxExpirationSeconds: Invalid value: 60: must be in the range [3600, 7862400]"),
        ({"maxExpirationSeconds": 90_000, "signerName": "kubernetes.io/kube-apiserver-client-pod"}, "must be in the range [3600, 86400]"),
        ({"stubPKCS10Request": "AAAA"}, "must parse as PKCS#10"),
        ({"stubPKCS10Request": csr(rsa.generate_private_key(65537, 2048))}, "RSA keys must have modulus size 3072 or 4096"),
        ({"stubPKCS10Request": csr(ec.generate_private_key(ec.SECP256K1()))}, "elliptic public keys must use curve P256, P384, or P521"),
    ],
)
async def test_what_is_no_request(api: ApiServer, spec: dict[str, Any], words: str) -> None:
    code, said = await send(api, "POST", REQUESTS, request(**spec))
    assert code == 422 and words in said["message"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (issued(hours=48), "leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)"),
        (issued(hours=0.5), "leaf certificate lifetime must be >= 1 hour"),
        (issued(key=ec.generate_private_key(ec.SECP256R1())), "leaf certificate was not issued to the requested public key"),
        (issued(notBefore="2026-01-01T00:00:00Z"), "must be set to the notBefore time encoded in the leaf certificate"),
        (issued(refresh_minutes=5), "must be at least 10 minutes after status.notBefore"),
        (issued(refresh_minutes=55), "must be at least 10 minutes before status.notAfter"),
        (issued(certificateChain="words"), "no CERTIFICATE blocks found"),
        ({"certificateChain": certificate()[0]}, "must not be set unless the request is issued"),
        ({"conditions": [{"type": "Denied", "status": "False", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}, 'supported values: "True"'),
    ],
)  # fmt: skip
async def test_what_is_no_answer(api: ApiServer, status: dict[str, Any], words: str) -> None:
    await send(api, "POST", REQUESTS, request())
    code, said = await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": status}, media=PATCHES["merge"])
    assert code == 422 and words in said["message"]


async def test_an_answer_is_for_good_and_a_request_does_not_change(api: ApiServer) -> None:
    await send(api, "POST", REQUESTS, request())
    assert (await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": issued()}, media=PATCHES["merge"]))[0] == 200
    code, said = await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": issued()}, media=PATCHES["merge"])
    assert code == 422 and "field is immutable once the request has ended" in said["message"]
    code, said = await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": {"conditions": []}}, media=PATCHES["merge"])
    assert code == 422 and 'Condition "Issued" cannot be changed or removed' in said["message"]
    code, said = await send(api, "PATCH", f"{REQUESTS}/r", {"spec": {"podName": "other"}}, media=PATCHES["merge"])
    assert code == 422 and "field is immutable" in said["message"]


async def test_only_who_may_speaks_for_a_signer(api: ApiServer) -> None:
    group, alice = "rbac.authorization.k8s.io", api.authority.issue("alice")
    rules = [
        {"verbs": ["*"], "apiGroups": ["certificates.k8s.io"], "resources": ["podcertificaterequests", "podcertificaterequests/status", "clustertrustbundles"]},
        {"verbs": ["sign", "attest"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/hers"]},
    ]  # fmt: skip
    await send(api, "POST", f"/apis/{group}/v1/clusterroles", {"metadata": {"name": "her"}, "rules": rules})
    bound = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "her"}, "subjects": [{"kind": "User", "name": "alice"}]}
    await send(api, "POST", f"/apis/{group}/v1/clusterrolebindings", {"metadata": {"name": "her"}, **bound})
    for name, signer, answer in (("a", "example.com/hers", 200), ("b", SIGNER, 403)):
        await send(api, "POST", REQUESTS, request(name, signerName=signer), alice)
        code, said = await send(api, "PATCH", f"{REQUESTS}/{name}/status", {"status": issued()}, alice, PATCHES["merge"])
        assert code == answer, said
        anchors = {
            "metadata": {"name": signer.replace("/", ":") + ":x"},
            "spec": {"signerName": signer, "trustBundle": certificate(ca=True)[0]},
        }
        code, said = await send(api, "POST", BUNDLES, anchors, alice)
        assert code == (201 if answer == 200 else 403), said
        assert answer == 200 or 'user not permitted to attest for signerName "example.com/tests"' in said["message"]


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("plain", {"trustBundle": certificate(ca=True)[0]}, ""),
        ("plain", {"trustBundle": certificate()[0]}, "entry 0 does not have the CA bit set"),
        ("plain", {"trustBundle": 2 * certificate(ca=True)[0]}, "duplicate trust anchor (indices 0 and 1)"),
        ("plain", {"trustBundle": "nothing"}, "no CERTIFICATE blocks found"),
        ("with:colon", {"trustBundle": certificate(ca=True)[0]}, 'must not have ":" in its name'),
        ("plain", {"signerName": SIGNER, "trustBundle": certificate(ca=True)[0]}, "must be named with prefix example.com:tests:"),
    ],
)
async def test_trust_bundles(api: ApiServer, name: str, spec: dict[str, Any], words: str) -> None:
    code, said = await send(api, "POST", BUNDLES, {"metadata": {"name": name}, "spec": spec})
    assert (code == 201) is (not words) and words in json.dumps(said, ensure_ascii=False).replace('\\"', '"')


async def test_trust_bundles_are_found_by_their_signer(api: ApiServer) -> None:
    pem = certificate(ca=True)[0]
    for name, signer in (("example.com:tests:one", SIGNER), ("other", "")):
        spec = {"trustBundle": pem, **({"signerName": signer} if signer else {})}
        assert (await send(api, "POST", BUNDLES, {"metadata": {"name": name}, "spec": spec}))[0] == 201
    for query, names in ((f"spec.signerName={SIGNER}", ["example.com:tests:one"]), ("spec.signerName=", ["other"])):
        _, found = await send(api, "GET", f"{BUNDLES}?fieldSelector={query}")
        assert [each["metadata"]["name"] for each in found["items"]] == names
    ran = await api.kubectl("get", "clustertrustbundles")
    assert ran.code == 0 and "SIGNERNAME" in ran.out and SIGNER in ran.out, ran.err
    code, said = await send(api, "PATCH", f"{BUNDLES}/other", {"spec": {"signerName": SIGNER}}, media=PATCHES["merge"])
    assert code == 422 and "field is immutable" in said["message"]
