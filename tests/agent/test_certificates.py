"""A pod's certificates: what is asked of the signer, what the pod gets, when it is asked again, what ends it."""

from __future__ import annotations

import asyncio
import base64
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from labctl.agent import keys
from labctl.agent.certificates import OVERDUE_S, PodCertificates
from labctl.agent.client import Refused
from labctl.agent.environment import ConfigError
from labctl.agent.http import Unreachable
from labctl.agent.times import rfc3339

SOURCE = {
    "signerName": "example.com/tests",
    "keyType": "ED25519",
    "credentialBundlePath": "bundle.pem",
    "userAnnotations": {"example.com/a": "b"},
}
PATH = "/apis/certificates.k8s.io/v1/namespaces/shop/podcertificaterequests"
POD = {
    "metadata": {"name": "p", "namespace": "shop", "uid": "u1"},
    "spec": {
        "serviceAccountName": "robot",
        "containers": [],
        "volumes": [{"name": "tls", "projected": {"sources": [{"configMap": {"name": "x"}}, {"podCertificate": SOURCE}]}}],
    },
}
CHAIN = "junk\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\n# more\n-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----"


class Body:
    """A watch that tells what the test gives it."""

    def __init__(self, lines):
        self._lines = lines

    async def lines(self):
        while (line := await self._lines.get()) is not None:
            yield line

    def close(self):
        pass


class Api:
    """Has a node, a ServiceAccount, and the requests; a clock that the test moves, with the master's `skew_s` ahead of it."""

    def __init__(self):
        self.now_s, self.skew_s = 1_000_000.0, 5_000.0
        self.objects = {
            "/api/v1/nodes/n1": {"metadata": {"uid": "u9"}},
            "/api/v1/namespaces/shop/serviceaccounts/robot": {"metadata": {"uid": "u8"}},
        }
        self.asked, self.watches, self.refuses = [], [], None

    def wall(self):
        return self.now_s

    async def pause(self, seconds):
        await asyncio.sleep(0)

    async def get(self, path, timeout_s=10.0, **query):
        await asyncio.sleep(0)
        if path == "/apis/certificates.k8s.io/v1/podcertificaterequests":
            assert query == {"fieldSelector": "spec.nodeName=n1"}
            return {"metadata": {"resourceVersion": "1"}, "items": [value for key, value in self.objects.items() if key.startswith(PATH)]}
        if path not in self.objects:
            raise Refused(404, "NotFound", path)
        return self.objects[path]

    async def create(self, path, value):
        await asyncio.sleep(0)
        if self.refuses:
            raise self.refuses
        assert path == PATH and value["metadata"].pop("generateName") == "req-"
        number = len(self.asked) + 1
        value["metadata"].update(name=f"req-{number}", uid=f"r{number}", creationTimestamp=rfc3339(self.now_s + self.skew_s))
        self.asked.append(value)
        self.objects[f"{PATH}/req-{number}"] = value
        return value

    async def stream(self, path, timeout_s=10.0):
        self.watches.append(asyncio.Queue())
        return Body(self.watches[-1])

    def tell(self, kind, value):
        import json

        for each in self.watches[-1:]:
            each.put_nowait(json.dumps({"type": kind, "object": {**value, "metadata": {**value["metadata"], "resourceVersion": "2"}}}))

    def answer(self, number=-1, kind="Issued", renew_after_s=1800.0, lives_s=3600.0):
        begins_s, request = self.now_s + self.skew_s, self.asked[number]
        status = {"conditions": [{"type": kind, "status": "True", "reason": "Why", "message": 'said "so"'}]}
        if kind == "Issued":
            times = {"notAfter": rfc3339(begins_s + lives_s), "beginRefreshAt": rfc3339(begins_s + renew_after_s)}
            status.update(certificateChain=CHAIN, **times)
        request["status"] = status
        self.tell("MODIFIED", request)


class Room:
    def __init__(self, api, folder):
        self.api, self.events, self.heard, self.said = api, [], [], []
        self.folder = folder
        self.certificates = self.made()

    def made(self):
        made = PodCertificates(self.api, "n1", self.record, lambda uid: str(self.folder / uid), self.said.append, self.api.wall)
        made.heard = self.heard.append
        return made

    def record(self, reference, kind, reason, message):
        self.events.append((reference["name"], kind, reason, message))

    async def until(self, true):
        async with asyncio.timeout(5):
            while not true():
                await asyncio.sleep(0.001)

    async def bundle(self):
        return await self.certificates.bundle(POD, "tls", 1)


@pytest.fixture
def room(tmp_path, monkeypatch):
    monkeypatch.setattr("labctl.agent.certificates.LOOK_S", 0.001)
    monkeypatch.setattr("labctl.agent.certificates.PATIENCE_S", 0.05)
    return Room(Api(), tmp_path)


@pytest.mark.parametrize(("kind", "of", "bits"), [
    ("RSA3072", rsa.RSAPublicKey, 3072), ("RSA4096", rsa.RSAPublicKey, 4096), ("ECDSAP256", ec.EllipticCurvePublicKey, 256),
    ("ECDSAP384", ec.EllipticCurvePublicKey, 384), ("ECDSAP521", ec.EllipticCurvePublicKey, 521), ("ED25519", ed25519.Ed25519PublicKey, 0),
])  # fmt: skip
def test_a_key_of_each_type_and_its_proof(kind, of, bits):
    made = keys.make(kind)
    request, key = x509.load_der_x509_csr(made.request), load_pem_private_key(made.key, None)
    assert made.key.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert request.is_signature_valid and not list(request.subject) and not list(request.extensions)
    publics = [each.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for each in (request, key)]
    assert publics[0] == publics[1] and isinstance(request.public_key(), of)
    assert not bits or key.key_size == bits
    assert keys.make("ED25519").key != keys.make("ED25519").key


def test_a_type_that_nobody_knows():
    with pytest.raises(keys.KeyFailure, match="DSA1024"):
        keys.make("DSA1024")


async def test_what_is_asked_and_what_the_pod_gets(room):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    [asked] = room.api.asked
    assert asked["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1"}]
    stub = x509.load_der_x509_csr(base64.b64decode(asked["spec"].pop("stubPKCS10Request")))
    assert asked["spec"] == {
        "signerName": "example.com/tests", "podName": "p", "podUID": "u1", "serviceAccountName": "robot", "serviceAccountUID": "u8",
        "nodeName": "n1", "nodeUID": "u9", "unverifiedUserAnnotations": {"example.com/a": "b"},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="req-1 waits for the signer.*not issued yet"):
        await room.bundle()
    room.api.answer()
    await room.until(lambda: room.heard)
    key, chain = await room.bundle()
    assert load_pem_private_key(key, None).public_key() == stub.public_key()
    assert chain.decode() == "".join(f"-----BEGIN CERTIFICATE-----\n{each}\n-----END CERTIFICATE-----\n" for each in ("AAAA", "BBBB"))
    assert room.heard == ["u1"] and not room.events
    room.certificates.forget("u1")


async def test_a_quick_signer_is_waited_for(room, monkeypatch):
    monkeypatch.setattr("labctl.agent.certificates.PATIENCE_S", 10)
    waiting = asyncio.ensure_future(room.bundle())
    await room.until(lambda: room.api.asked)
    room.api.answer()  # before the watch began: the list has it
    assert len(await waiting) == 2
    room.certificates.forget("u1")


async def test_it_is_renewed_when_its_signer_says_so_and_up_to_five_minutes_later(room):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    room.api.answer(renew_after_s=1800)
    first = await room.bundle()
    room.api.now_s += 1799
    await asyncio.sleep(0.02)
    assert len(room.api.asked) == 1
    room.api.now_s += 301
    await room.until(lambda: len(room.api.watches) == 2)  # the first watch ended with the first answer
    assert await room.bundle() == first  # until there is a new one
    room.api.answer()
    await room.until(lambda: len(room.heard) == 2)
    assert (await room.bundle())[0] != first[0], "the key is a fresh one"
    assert room.api.asked[0]["spec"]["stubPKCS10Request"] != room.api.asked[1]["spec"]["stubPKCS10Request"]
    room.certificates.forget("u1")


async def test_a_certificate_that_nobody_renews_is_told_of(room):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    room.api.answer()
    first = await room.bundle()
    room.api.now_s += 1800 + 300 + OVERDUE_S + 1
    await room.until(lambda: room.events)
    room.api.now_s += 3600
    await room.until(lambda: len(room.events) == 2)
    await asyncio.sleep(0.02)
    assert [(kind, reason) for _, kind, reason, _ in room.events] == [
        ("Warning", "CertificateOverdueForRefresh"),
        ("Warning", "CertificateExpired"),
    ]
    assert await room.bundle() == first
    room.certificates.forget("u1")


@pytest.mark.parametrize("kind", ["Denied", "Failed"])
async def test_a_no_is_for_good(room, kind):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    room.api.answer(kind=kind)
    await room.until(lambda: room.events)
    verb = "was denied" if kind == "Denied" else "failed"
    assert room.events == [("p", "Warning", kind, f'PodCertificateRequest shop/req-1 {verb}, reason="Why", message="said \\"so\\""')]
    with pytest.raises(ConfigError, match='for good: reason="Why"'):
        await room.bundle()
    await asyncio.sleep(0.02)
    assert len(room.api.asked) == 1
    room.certificates.forget("u1")


async def test_what_a_pod_has_it_keeps_when_the_signer_says_no_to_another(room):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    room.api.answer()
    first = await room.bundle()
    room.api.now_s += 2101
    await room.until(lambda: len(room.api.watches) == 2)
    room.api.answer(kind="Denied")
    await room.until(lambda: room.events)
    assert await room.bundle() == first
    room.certificates.forget("u1")


@pytest.mark.parametrize("told", [True, False])
async def test_a_request_that_is_deleted_is_made_anew(room, told):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    gone = room.api.objects.pop(f"{PATH}/req-1")
    if told:
        room.api.tell("DELETED", gone)
    else:  # the watch fell behind, and lists again
        room.api.tell("ERROR", {"metadata": {}, "code": 410})
    await room.until(lambda: len(room.api.asked) == 2 and len(room.api.watches) >= 2)
    room.api.answer()
    await room.until(lambda: room.heard)
    assert len(await room.bundle()) == 2
    room.certificates.forget("u1")


@pytest.mark.parametrize("error", [Refused(422, "Invalid", "spec.unverifiedUserAnnotations"), Unreachable("no route")])
async def test_what_the_api_refuses_is_said_and_tried_again(room, error):
    room.api.refuses = error
    with pytest.raises(ConfigError, match="while creating PodCertificateRequest: (spec|no route)"):
        await room.bundle()
    room.api.refuses = None
    await room.until(lambda: room.api.watches)
    room.api.answer()
    await room.until(lambda: room.heard)
    assert len(await room.bundle()) == 2
    room.certificates.forget("u1")


async def test_an_agent_that_starts_anew_goes_on_with_what_it_gave(room):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    room.api.answer()
    first = await room.bundle()
    room.certificates.forget("u1")
    file = room.folder / "u1" / "certificates" / "tls-1.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    room.certificates = room.made()
    assert await room.bundle() == first and len(room.api.asked) == 1
    room.api.now_s += 2101
    await room.until(lambda: len(room.api.watches) == 2)
    room.api.answer()
    await room.until(lambda: len(room.heard) == 2)
    assert await room.bundle() != first
    room.certificates.forget("u1")
    file.write_text('{"key": 1}')
    room.certificates = room.made()
    with pytest.raises(ConfigError):
        await room.bundle()
    room.certificates.forget("u1")


async def test_nothing_is_watched_when_nothing_is_asked(room):
    room.certificates.ask(POD)
    await room.until(lambda: room.api.watches)
    room.api.answer()
    await room.until(lambda: room.heard)
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "reflect" in repr(task) and not task.cancelling()]
    room.certificates.forget("u1")


async def test_a_pod_of_many_sources_holds_up_no_other(room):
    """Keys are made one after the other, and each pod has one under way: the other's comes second, not last."""
    source = {"podCertificate": SOURCE}
    greedy = {
        "metadata": {**POD["metadata"], "name": "greedy", "uid": "u2"},
        "spec": {**POD["spec"], "volumes": [{"name": "all", "projected": {"sources": [source] * 50}}]},
    }
    room.certificates.ask(greedy)
    room.certificates.ask(POD)
    await room.until(lambda: any(each["spec"]["podName"] == "p" for each in room.api.asked))
    assert len(room.api.asked) < 10
    await room.until(lambda: len(room.api.asked) == 51)
    for uid in ("u1", "u2"):
        room.certificates.forget(uid)
    assert not room.certificates._turns
