"""The lab's CA: who a certificate says it is, and what a crash or the years do to the files."""

from __future__ import annotations

import base64
import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from labctl.certificates import Authority, Issued, kubeconfig, write_file
from labctl.errors import LabctlError

DAY = 86_400


class FixedClock:
    def __init__(self, wall_s: float) -> None:
        self.wall_s = wall_s

    def now(self) -> float:
        return 0.0

    def wall(self) -> float:
        return self.wall_s


def names(pem: bytes) -> tuple[str, list[str]]:
    subject = x509.load_pem_x509_certificate(pem).subject
    common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return str(common), [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def handshake(tmp_path: Path, authority: Authority, server: Issued, client: Issued, hostname: str) -> dict[str, object]:
    """What the server learns of the client, in memory; raises as OpenSSL does."""
    for name, issued in (("s", server), ("c", client)):
        write_file(tmp_path / f"{name}.pem", issued.certificate + issued.key)
    ca = authority.certificate_pem.decode()
    at_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    at_server.load_cert_chain(tmp_path / "s.pem")
    at_server.load_verify_locations(cadata=ca)
    at_server.verify_mode = ssl.CERT_REQUIRED
    at_client = ssl.create_default_context(cadata=ca)
    at_client.load_cert_chain(tmp_path / "c.pem")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [at_client.wrap_bio(down, up, server_hostname=hostname), at_server.wrap_bio(up, down, server_side=True)]
    for turn in range(8):
        try:
            ends[turn % 2].do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ends[1].getpeercert() or {}


def test_identities_are_kubernetes_own(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    assert names(authority.node("minion-1").certificate) == ("system:node:minion-1", ["system:nodes"])
    assert names(authority.admin().certificate)[1] == ["system:masters"]


def test_a_client_and_the_server_accept_each_other(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki")
    server = authority.server(["localhost", "kubernetes.default.svc"], ["127.0.0.1", "10.247.0.1"])
    for hostname in ("kubernetes.default.svc", "10.247.0.1"):
        seen = handshake(tmp_path, authority, server, authority.node("minion-1"), hostname)
        assert (("commonName", "system:node:minion-1"),) in seen["subject"]  # type: ignore[operator]


def test_another_name_and_another_lab_are_refused(tmp_path: Path) -> None:
    authority, other = Authority.create(tmp_path / "a"), Authority.create(tmp_path / "b")
    server = authority.server(["localhost"], [])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, authority, server, authority.admin(), "elsewhere")
    with pytest.raises(ssl.SSLError):
        handshake(tmp_path, authority, server, other.admin(), "localhost")


def test_a_client_certificate_serves_nothing(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki")
    posing = authority.issue("system:node:minion-1", hosts=["localhost"])
    with pytest.raises(ssl.SSLError):
        handshake(tmp_path, authority, posing, authority.admin(), "localhost")


def test_files_are_private_and_kept(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    admin = authority.admin()
    again = Authority.create(tmp_path)
    assert again.certificate_pem == authority.certificate_pem
    assert again.admin() == admin
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_an_admins_key_is_one_that_every_client_reads(tmp_path: Path) -> None:
    """fabric8, the Java client of Spark, Flink and Quarkus, reads RSA in PKCS#1 only, which kubeadm, kind and minikube write."""
    authority = Authority.create(tmp_path)
    older = authority.issue("labctl-admin", ["system:masters"])
    write_file(tmp_path / "admin.crt", older.certificate)
    write_file(tmp_path / "admin.key", older.key)
    admin = authority.admin()
    assert admin.key.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    handshake(tmp_path, authority, authority.server(["localhost"], []), admin, "localhost")


def test_a_certificate_is_renewed_near_its_end_and_when_names_change(tmp_path: Path) -> None:
    clock = FixedClock(1_800_000_000)
    authority = Authority.create(tmp_path, clock=clock)
    first = authority.server(["localhost"], ["127.0.0.1"])
    clock.wall_s += 300 * DAY
    assert authority.server(["localhost"], ["127.0.0.1"]) == first
    assert authority.server(["localhost"], ["127.0.0.2"]) != first
    node = authority.node("minion-1")
    clock.wall_s += 336 * DAY
    assert not authority.is_valid(node.certificate)


def test_a_crash_between_the_two_files_is_mended(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    authority.admin()
    write_file(tmp_path / "admin.key", authority.issue("x").key)
    mended = authority.admin()
    assert mended == Authority.load(tmp_path).admin()
    (tmp_path / "ca.crt").unlink()
    Authority.create(tmp_path)
    assert not Authority.load(tmp_path).is_valid(mended.certificate)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_bytes_that_are_no_certificate_are_not_valid(tmp_path: Path, pem: bytes) -> None:
    assert not Authority.create(tmp_path).is_valid(pem)


def test_no_ca_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabctlError, match="can't be read"):
        Authority.load(tmp_path)


def test_kubeconfig_holds_everything(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    admin = authority.admin()
    config = yaml.safe_load(kubeconfig("https://127.0.0.1:6443", authority.certificate_pem, admin))
    assert config["current-context"] == config["contexts"][0]["name"] == "labctl"
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert config["clusters"][0]["cluster"]["disable-compression"] is True  # the API is on loopback
    assert base64.b64decode(config["users"][0]["user"]["client-key-data"]) == admin.key


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "file", "old")
    with pytest.raises(TypeError):
        write_file(tmp_path / "file", 3)  # type: ignore[arg-type]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
