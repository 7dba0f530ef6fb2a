"""Whom a `caBundle` makes believed, tried by real TLS handshakes on loopback."""

import asyncio
import base64
import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from labctl.resources.trust import trusting

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Party:
    """A key and its certificate, signed by `by`, or by itself."""

    def __init__(self, name, by=None, ca=False, hosts=(), ended=False):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        builder = x509.CertificateBuilder(
            by.subject if by else self.subject, self.subject, self.key.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(NOW - 3 * DAY).not_valid_after(NOW - DAY if ended else NOW + DAY)
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        if hosts:
            addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in hosts if each[0].isdigit()]
            named = [x509.DNSName(each) for each in hosts if not each[0].isdigit()]
            builder = builder.add_extension(x509.SubjectAlternativeName([*named, *addresses]), critical=False)
        self.certificate = builder.sign((by or self).key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def bundle(self, *others):
        return base64.b64encode(b"".join(each.pem for each in (self, *others))).decode()


ROOT = Party("root", ca=True)
MIDDLE = Party("middle", ROOT, ca=True)
NAMELESS = Party("", ca=True)
HOST = "web.default.svc"


async def believed(server, bundle, folder, name=HOST, sent=()):
    """Tell whether a client that trusts the bundle would speak to the server; else why not."""
    (folder / "chain.pem").write_bytes(b"".join(each.pem for each in (server, *sent)))
    secret = server.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    got = []

    async def answer(reader, writer):
        got.append(await reader.read(100))
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(bundle), server_hostname=name)
        except ssl.SSLCertVerificationError as error:
            await asyncio.sleep(0)
            assert got in ([], [b""]), "nothing is said to a server that is not believed"
            return str(error)
        writer.write(b"hello")
        writer.close()
    return True


async def test_any_certificate_of_a_bundle_is_an_anchor(tmp_path):
    leaf = Party("leaf", MIDDLE, hosts=[HOST, "*.wild.svc", "10.0.0.1"])
    for bundle, sent in (
        (ROOT.bundle(), [MIDDLE]),
        (MIDDLE.bundle(), []),
        (leaf.bundle(), []),
        (Party("other", ca=True).bundle(MIDDLE), []),
    ):
        assert await believed(leaf, bundle, tmp_path, sent=sent) is True
    alone = Party("alone", hosts=[HOST])
    assert await believed(alone, alone.bundle(), tmp_path) is True
    nameless = Party("", hosts=[HOST])
    assert await believed(nameless, nameless.bundle(), tmp_path) is True
    assert "issuer" in await believed(leaf, ROOT.bundle(), tmp_path)
    assert "self-signed" in await believed(alone, ROOT.bundle(), tmp_path)
    assert "expired" in await believed(Party("leaf", MIDDLE, hosts=[HOST], ended=True), MIDDLE.bundle(), tmp_path)
    assert "mismatch" in await believed(leaf, MIDDLE.bundle(), tmp_path, name="other.default.svc")


@pytest.mark.parametrize(
    ("name", "taken"),
    [(HOST, True), ("a.wild.svc", True), ("10.0.0.1", True), ("b.a.wild.svc", False), ("wild.svc", False), ("10.0.0.2", False)],
)
async def test_an_authority_without_a_name_is_one(name, taken, tmp_path):
    leaf = Party("", NAMELESS, hosts=[HOST, "*.wild.svc", "10.0.0.1"])
    said = await believed(leaf, NAMELESS.bundle(), tmp_path, name=name)
    assert said is True if taken else f"not valid for '{name}'" in said


async def test_what_an_authority_without_a_name_did_not_sign_is_not_believed(tmp_path):
    other, ended = Party("", ca=True), Party("", ca=True, ended=True)
    plain = Party("")  # no authority
    for leaf, bundle in (
        (Party("", other, hosts=[HOST]), NAMELESS.bundle()),
        (Party("", hosts=[HOST]), NAMELESS.bundle()),
        (Party("", ended, hosts=[HOST]), ended.bundle()),
        (Party("", plain, hosts=[HOST]), plain.bundle()),
        (Party("leaf", ROOT, hosts=[HOST]), NAMELESS.bundle()),
    ):
        assert "unable to get local issuer" in await believed(leaf, bundle, tmp_path)
    assert "expired" in await believed(Party("", NAMELESS, hosts=[HOST], ended=True), NAMELESS.bundle(), tmp_path)
    assert "not valid for" in await believed(Party("", NAMELESS), NAMELESS.bundle(), tmp_path)
    assert await believed(Party("", NAMELESS, hosts=[HOST]), other.bundle(NAMELESS), tmp_path) is True


def test_what_is_no_certificate_is_refused():
    for text in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"nothing"):
        if text:
            with pytest.raises(ValueError, match="."):
                trusting(base64.b64encode(text).decode())


def test_it_holds_on_the_masters_event_loop_too(tmp_path):
    async def said():
        stranger = Party("", Party("", ca=True), hosts=[HOST])
        return [await believed(each, NAMELESS.bundle(), tmp_path) for each in (Party("", NAMELESS, hosts=[HOST]), stranger)]

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        good, bad = runner.run(said())
    assert good is True and "unable to get local issuer" in bad
