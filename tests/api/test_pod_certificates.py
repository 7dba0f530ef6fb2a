"""PodCertificateRequests and ClusterTrustBundles: every way to write them, what they refuse, and who may speak for a signer."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.inprocess import ApiServer

REQUESTS = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests"
BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
SIGNER = "example.com/tests"
KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
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


def forged() -> str:
    """A request whose proof is another's: its last byte, of the signature, is flipped."""
    der = bytearray(base64.b64decode(csr(rsa.generate_private_key(65537, 3072))))
    der[-1] ^= 1
    return base64.b64encode(der).decode()


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


def certificate(
    hours: float = 1, ca: bool = False, key: Any = KEY, subject: x509.Name = NAME, began_minutes: float = 1, names: Sequence[str] = ()
) -> tuple[str, datetime, datetime]:
    starts = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=began_minutes)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(starts).not_valid_after(starts + timedelta(hours=hours))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
    signed = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True).sign(key, SHA256())
    return signed.public_bytes(Encoding.PEM).decode(), starts, starts + timedelta(hours=hours)


def end(kind: str, reason: str = "Test") -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "message": "here", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def issued(
    hours: float = 1, key: Any = KEY, refresh_minutes: float = 15, began_minutes: float = 1, names: Sequence[str] = (), **other: Any
) -> dict[str, Any]:
    pem, starts, ends = certificate(hours, key=key, began_minutes=began_minutes, names=names)
    condition = end("Issued")
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
        ({"unverifiedUserAnnotations": {"plain": "x"}}, 'Invalid value: "plain": must be a domain-prefixed key (such as "acme.io/foo")'),
        ({"unverifiedUserAnnotations": {"example.com/-": "x"}}, "spec.unverifiedUserAnnotations: Invalid value"),
        ({"unverifiedUserAnnotations": {"example.com/big": "x" * 262_144}}, "spec.unverifiedUserAnnotations: Too long"),
        ({"stubPKCS10Request": forged()}, "signature on stubPKCS10Request must be valid"),
        ({"stubPKCS10Request": "AAAA"}, "must parse as PKCS#10"),
        ({"stubPKCS10Request": csr(rsa.generate_private_key(65537, 2048))}, "RSA keys must have modulus size 3072 or 4096"),
        ({"stubPKCS10Request": csr(ec.generate_private_key(ec.SECP256K1()))}, "elliptic public keys must use curve P256, P384, or P521"),
    ],
)
async def test_what_is_no_request(api: ApiServer, spec: dict[str, Any], words: str) -> None:
    code, said = await send(api, "POST", REQUESTS, request(**spec))
    assert code == 422 and words in said["message"]


NO_ANSWERS = {  # made when they are used: a certificate that began some minutes ago is one of them
    "too long": (lambda: issued(hours=48), "leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)"),
    "odd name": (lambda: issued(names=("a..b",)), "leaf certificate's DNSName should not contain '..'"),
    "rooted name": (lambda: issued(names=("a.b.",)), "leaf certificate's DNSName should not start or end with '.'"),
    "too short": (lambda: issued(hours=0.5), "leaf certificate lifetime must be >= 1 hour"),
    "other key": (
        lambda: issued(key=ec.generate_private_key(ec.SECP256R1())),
        "leaf certificate was not issued to the requested public key",
    ),
    "other start": (
        lambda: issued(notBefore=stamp(datetime.now(UTC))),
        "must be set to the notBefore time encoded in the leaf certificate",
    ),
    "other end": (lambda: issued(notAfter=stamp(datetime.now(UTC))), "must be set to the notAfter time encoded in the leaf certificate"),
    "dated back": (lambda: issued(began_minutes=6), "must be set to within 5 minutes of kube-apiserver's current time"),
    "dated forward": (lambda: issued(began_minutes=-6), "must be set to within 5 minutes of kube-apiserver's current time"),
    "refreshed early": (lambda: issued(refresh_minutes=5), "must be at least 10 minutes after status.notBefore"),
    "refreshed late": (lambda: issued(refresh_minutes=55), "must be at least 10 minutes before status.notAfter"),
    "never refreshed": (lambda: issued(beginRefreshAt=None), "must be set when the request is issued"),
    "no chain": (lambda: issued(certificateChain="words"), "no CERTIFICATE blocks found"),
    "a key in it": (lambda: issued(certificateChain=certificate()[0] + KEY_PEM), "entry 1 has bad block type: PRIVATE KEY"),
    "not issued": (lambda: {"certificateChain": certificate()[0]}, "must not be set unless the request is issued"),
    "denied with a chain": (lambda: {**issued(), "conditions": [end("Denied")]}, "must not be set unless the request is issued"),
    "two ends": (lambda: {"conditions": [end("Denied"), end("Failed")]}, "There may be at most one condition"),
    "no end": (lambda: {"conditions": [end("Odd")]}, 'supported values: "Denied", "Failed", "Issued"'),
    "not denied": (lambda: {"conditions": [{**end("Denied"), "status": "False"}]}, 'supported values: "True"'),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_what_is_no_answer(api: ApiServer, case: str) -> None:
    status, words = NO_ANSWERS[case]
    await send(api, "POST", REQUESTS, request())
    code, said = await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": status()}, media=PATCHES["merge"])
    assert code == 422 and words in said["message"]


async def test_an_answer_is_for_good_and_a_request_does_not_change(api: ApiServer) -> None:
    await send(api, "POST", REQUESTS, request())
    assert (await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": issued()}, media=PATCHES["merge"]))[0] == 200
    for other in (issued(), {"conditions": []}, {"conditions": [end("Denied")]}, {"conditions": [end("Issued", reason="Other")]}):
        code, said = await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": other}, media=PATCHES["merge"])
        assert code == 422 and "immutable after PodCertificateRequest is issued, denied, or failed" in said["message"]
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


# -- nodes, which ask in their pods' names


def pod(name: str, node: str = "n1", signer: str = SIGNER) -> dict[str, Any]:
    source = {"podCertificate": {"signerName": signer, "keyType": "ED25519", "credentialBundlePath": "bundle.pem"}}
    volumes = [{"name": "tls", "projected": {"sources": [source]}}]
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}], "volumes": volumes, "serviceAccountName": "robot"}
    return {"metadata": {"name": name}, "spec": spec}


async def bound(api: ApiServer) -> dict[str, Any]:
    """A node, an account and a pod, and what a node may say of them in a request."""
    made = {}
    for what, path, body in (
        ("node", "/api/v1/nodes", {"metadata": {"name": "n1"}}),
        ("serviceAccount", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}}),
        ("pod", "/api/v1/namespaces/default/pods", pod("web")),
    ):
        code, answer = await send(api, "POST", path, body)
        assert code == 201, answer
        made[f"{what}Name"], made[f"{what}UID"] = answer["metadata"]["name"], answer["metadata"]["uid"]
    return made


def of_node(api: ApiServer, name: str = "n1") -> Any:
    return api.authority.issue(f"system:node:{name}", ["system:nodes"])


async def test_a_node_asks_for_its_own_pods_and_reads_its_own_requests(api: ApiServer) -> None:
    names = await bound(api)
    mine, other = of_node(api), of_node(api, "n2")
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": names["podUID"]}
    body = request(**names)
    body["metadata"] = {"generateName": "req-", "ownerReferences": [owner]}
    code, made = await send(api, "POST", REQUESTS, body, mine)
    assert code == 201, made
    name, accounts = made["metadata"]["name"], "/api/v1/namespaces/default/serviceaccounts"
    one, all_ = f"{REQUESTS}/{name}", "/apis/certificates.k8s.io/v1/podcertificaterequests"
    for who, path, answer in (
        (mine, one, 200),
        (other, one, 403),
        (mine, f"{all_}?fieldSelector=spec.nodeName=n1", 200),
        (other, f"{all_}?fieldSelector=spec.nodeName=n1", 403),
        (mine, all_, 403),
        (mine, f"{one}/status", 403),
        (mine, f"{accounts}/robot", 200),
        (other, f"{accounts}/robot", 403),
        (mine, f"{accounts}/default", 403),
    ):
        assert (await send(api, "GET", path, who=who))[0] == answer, path
    assert (await send(api, "PATCH", f"{one}/status", {"status": issued()}, mine, PATCHES["merge"]))[0] == 403
    assert (await send(api, "DELETE", one, who=mine))[0] == 403
    assert (await send(api, "PATCH", one, {"metadata": {"labels": {"a": "b"}}}, mine, PATCHES["merge"]))[0] == 403


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"nodeName": "n2"}, 'PodCertificateRequest.Spec.NodeName=\\"n2\\", which is not the requesting node \\"n1\\"'),
        ({"nodeUID": "u"}, "contains nodeUID"),
        ({"podName": "none"}, "does not exist"),
        ({"podName": "away"}, 'is not running on node \\"n1\\"'),
        ({"podUID": "u"}, "contains podUID"),
        ({"serviceAccountName": "default"}, "contains serviceAccountName"),
        ({"serviceAccountUID": "u"}, "contains serviceAccountUID"),
        ({"signerName": "example.com/other"}, "not found in pod spec volume"),
        ({"unverifiedUserAnnotations": {"example.com/dns": "bank.example.com"}}, "are not those of the pod spec volume"),
        ({"labels": {"a": "b"}}, "is not allowed to set metadata.labels"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}]}, "the owner of its PodCertificateRequest"),
    ],
)
async def test_a_node_asks_for_nobody_else(api: ApiServer, said: dict[str, Any], words: str) -> None:
    names = await bound(api)
    await send(api, "POST", "/api/v1/nodes", {"metadata": {"name": "n2"}})
    assert (await send(api, "POST", "/api/v1/namespaces/default/pods", pod("away", "n2")))[0] == 201
    metadata = {key: value for key, value in said.items() if key in ("labels", "ownerReferences")}
    body = request(**{**names, **{key: value for key, value in said.items() if key not in metadata}})
    body["metadata"] = {"generateName": "req-", **metadata}
    code, answer = await send(api, "POST", REQUESTS, body, of_node(api))
    assert code == 403 and words in json.dumps(answer), answer


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"maxExpirationSeconds": 3599}, "if provided, maxExpirationSeconds must be >= 3600"),
        ({"maxExpirationSeconds": 7_862_401}, "if provided, maxExpirationSeconds must be <= 7862400"),
        ({"maxExpirationSeconds": 86_401, "signerName": "kubernetes.io/x"}, "if provided, maxExpirationSeconds must be <= 86400"),
        ({"keyType": "RSA2048"}, 'Unsupported value: "RSA2048"'),
        ({"keyPath": "/key"}, "must be a relative path"),
        ({"keyPath": "../key"}, "must not contain '..'"),
        ({"keyPath": "..data"}, "must not start with '..'"),
        ({"keyPath": "bundle.pem"}, "conflicting duplicate paths"),
        ({"credentialBundlePath": ""}, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"),
        ({"userAnnotations": {"plain": "x"}}, "must be a domain-prefixed key"),
    ],
)
async def test_what_is_no_source(api: ApiServer, said: dict[str, Any], words: str) -> None:
    body = pod("web")
    body["spec"]["serviceAccountName"] = "default"
    body["spec"]["volumes"][0]["projected"]["sources"][0]["podCertificate"].update(said)
    code, answer = await send(api, "POST", "/api/v1/namespaces/default/pods", body)
    assert code == 422 and words in answer["message"]


async def test_only_what_nobody_will_answer_is_warned_of(api: ApiServer) -> None:
    await bound(api)
    for name, signer, words in (("a", SIGNER, ""), ("b", "kubernetes.io/kube-apiserver-client-pod", "nobody answers this request")):
        async with api.session() as http:
            async with http.post(REQUESTS, json=request(name, signerName=signer)) as answered:
                assert answered.status == 201 and words in "".join(answered.headers.getall("Warning", []))
                assert words or not answered.headers.getall("Warning", [])
            async with http.post("/api/v1/namespaces/default/pods", json=pod(name)) as answered:
                assert answered.status == 201 and not answered.headers.getall("Warning", [])


async def test_a_status_that_changes_nothing_needs_no_right_to_sign(api: ApiServer) -> None:
    group, alice = "rbac.authorization.k8s.io", api.authority.issue("alice")
    rules = [
        {"verbs": ["*"], "apiGroups": ["certificates.k8s.io"], "resources": ["podcertificaterequests", "podcertificaterequests/status"]}
    ]
    await send(api, "POST", f"/apis/{group}/v1/clusterroles", {"metadata": {"name": "her"}, "rules": rules})
    subjects = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "her"}, "subjects": [{"kind": "User", "name": "alice"}]}
    await send(api, "POST", f"/apis/{group}/v1/clusterrolebindings", {"metadata": {"name": "her"}, **subjects})
    await send(api, "POST", REQUESTS, request())
    assert (await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": {}}, alice, PATCHES["merge"]))[0] == 200
    assert (await send(api, "PATCH", f"{REQUESTS}/r/status", {"status": {"conditions": [end("Denied")]}}, alice, PATCHES["merge"]))[
        0
    ] == 403
