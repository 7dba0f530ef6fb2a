"""A signer written with the official client, and the agent's own requests: each with its own identity, over the real API."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from kubernetes import client

from labctl.agent import keys
from labctl.agent.certificates import PodCertificates
from labctl.agent.client import Api
from labctl.agent.environment import ConfigError
from labctl.agent.http import Http
from tests.api.test_pod_certificates import send
from tests.client.signer import DENY, DNS, Signer
from tests.inprocess import ApiServer

GROUP, SIGNER = "certificates.k8s.io", "example.com/tests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RULES = [
    {"verbs": ["get", "list", "watch"], "apiGroups": [GROUP], "resources": ["podcertificaterequests"]},
    {"verbs": ["patch", "update"], "apiGroups": [GROUP], "resources": ["podcertificaterequests/status"]},
    {"verbs": ["sign", "attest"], "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": ["example.com/*"]},
    {"verbs": ["create"], "apiGroups": [GROUP], "resources": ["clustertrustbundles"]},
]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as api:
        yield api


@pytest.fixture
async def signer(api: ApiServer) -> Signer:
    """It may do what a signer needs, and nothing else."""
    await send(api, "POST", f"{RBAC}/clusterroles", {"metadata": {"name": "signer"}, "rules": RULES})
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "signer"},
        "subjects": [{"kind": "User", "name": "signer"}],
    }
    await send(api, "POST", f"{RBAC}/clusterrolebindings", {"metadata": {"name": "signer"}, **binding})
    who = api.authority.issue("signer")
    (api.directory / "signer.crt").write_bytes(who.certificate)
    (api.directory / "signer.key").write_bytes(who.key)
    told = client.Configuration(host=api.url)
    told.ssl_ca_cert, told.cert_file, told.key_file = (str(api.directory / name) for name in ("pki/ca.crt", "signer.crt", "signer.key"))
    return Signer(client.ApiClient(told))


class Node:
    """The agent's part that asks, as the node `n1`, and the pods that a scheduler bound to it."""

    def __init__(self, api: ApiServer) -> None:
        self.api, self.events, self.heard = api, [], asyncio.Event()
        self.certificates = PodCertificates(Api(Http(api.url, self._tls())), "n1", self._record, self._folder, lambda _text: None)
        self.certificates.heard = lambda _uid: self.heard.set()

    def _tls(self) -> ssl.SSLContext:
        return self.api.tls(self.api.authority.node("n1"))

    def _folder(self, uid: str) -> str:
        return str(self.api.directory / "pods" / uid)

    def _record(self, _reference: dict[str, Any], _kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    async def pod(self, name: str, **said: Any) -> dict[str, Any]:
        source = {"podCertificate": {"signerName": SIGNER, "keyType": "ECDSAP384", "credentialBundlePath": "bundle.pem", **said}}
        volumes = [{"name": "tls", "projected": {"sources": [source]}}]
        spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}], "volumes": volumes}
        code, made = await send(self.api, "POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": name}, "spec": spec})
        assert code == 201, made
        return made

    async def bundle(self, pod: dict[str, Any]) -> tuple[bytes, bytes]:
        async with asyncio.timeout(15):
            self.certificates.ask(pod)
            await self.heard.wait()
            return await self.certificates.bundle(pod, "tls", 0)


@pytest.fixture
async def node(api: ApiServer) -> AsyncIterator[Node]:
    async with asyncio.timeout(10):
        while (await send(api, "GET", "/api/v1/namespaces/default/serviceaccounts/default"))[0] != 200:
            await asyncio.sleep(0.05)
    await send(api, "POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
    made = Node(api)
    yield made
    for uid, *_ in list(made.certificates._all):
        made.certificates.forget(uid)


async def at_work(signer: Signer, work: Callable[[], Any]) -> Any:
    """The official client blocks: it works in threads beside the server's loop."""
    with signer.at_work():
        return await work()


@pytest.mark.parametrize("kind", list(keys.KINDS))
async def test_a_certificate_of_every_type_of_key(api: ApiServer, node: Node, signer: Signer, kind: str) -> None:
    pod = await node.pod("web", keyType=kind, userAnnotations={DNS: "web.default.svc"}, maxExpirationSeconds=7200)
    key, chain = await at_work(signer, lambda: node.bundle(pod))
    leaf = x509.load_pem_x509_certificate(chain)
    public, held = (
        each.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for each in (leaf, load_pem_private_key(key, None))
    )
    assert public == held
    leaf.verify_directly_issued_by(signer.anchor)
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == [
        "web.default.svc"
    ]
    [request] = (await send(api, "GET", f"/apis/{GROUP}/v1/podcertificaterequests"))[1]["items"]
    assert request["spec"]["maxExpirationSeconds"] == 7200 and request["spec"]["unverifiedUserAnnotations"] == {DNS: "web.default.svc"}
    assert key not in base64.b64decode(request["spec"]["stubPKCS10Request"]) and "PRIVATE" not in str(request)
    ran = await api.kubectl("get", "podcertificaterequests")
    assert "Issued" in ran.out and "web" in ran.out, ran


async def test_a_refusal(node: Node, signer: Signer) -> None:
    pod = await node.pod("web", userAnnotations={DENY: "on Sundays"})
    with pytest.raises(ConfigError, match='was denied for good: reason="NotToday", message="on Sundays"'):
        await at_work(signer, lambda: node.bundle(pod))
    assert [reason for reason, _ in node.events] == ["Denied"]


async def test_a_signer_publishes_its_anchors_and_speaks_for_nobody_else(api: ApiServer, signer: Signer) -> None:
    await asyncio.to_thread(signer.publish)
    [bundle] = (await send(api, "GET", f"/apis/{GROUP}/v1/clustertrustbundles"))[1]["items"]
    assert bundle["metadata"]["name"] == "example.com:tests:ca"
    signer.name = "example.org/tests"
    with pytest.raises(client.exceptions.ApiException, match="user not permitted to attest for signerName"):
        await asyncio.to_thread(signer.publish)
