"""A lab's certificate authority issues the certificates with which clients, nodes and the master prove who they are.

Who calls it: `lab` (the CA, the admin's kubeconfig), `master` (the server's certificate), `machines` (a node's, pushed over SSH).
What flows: names in, PEM out. The CA lies in `.labctl/pki/` as ca.crt and ca.key. Keys are EC P-256, so that one takes a millisecond, but for those
in a kubeconfig: RSA in PKCS#1, as kubeadm, kind and minikube write them, because fabric8 (Java) reads no other without a further library.
What it never does: revoke (a lab is destroyed instead); keep a node's key on this side.

Identities are Kubernetes' own: an admin is in the group `system:masters`, a node is `system:node:NAME` in `system:nodes`.
`cryptography` and `yaml` take 40 and 15 ms to import, so each function that needs them imports them itself: other commands start faster.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labctl.clock import Clock, SystemClock
from labctl.errors import LabctlError, UsageError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ADMIN = "labctl-admin"
ADMINS = "system:masters"
NODES = "system:nodes"

CA_DAYS = 3650
LEAF_DAYS = 365
RSA_BITS = 2048
PKCS1 = b"-----BEGIN RSA PRIVATE KEY"
NAME_BYTES_MAX = 64  # of a common name and an organization, by X.509
RENEW_WITHIN_DAYS = 30
SIGNED_BACKDATE = timedelta(minutes=5)  # as Kubernetes' signers do
BACKDATE = timedelta(days=1)  # a machine's clock lags after it was restored from a snapshot


class Issued(NamedTuple):
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """The lab's CA. `create` makes it (or completes one that is half made), `load` reads it; both are quick and may be repeated."""

    def __init__(self, directory: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock) -> None:
        self._directory = directory
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self.certificate_pem = _certificate_pem(certificate)

    @classmethod
    def create(cls, directory: Path, lab: str = "labctl", clock: Clock | None = None) -> Authority:
        """Returns the CA in `directory`, and makes it if there is none. The certificate is written last: without it the CA is made anew."""
        if (directory / "ca.crt").exists() and (directory / "ca.key").exists():
            return cls.load(directory, clock)
        from cryptography import x509

        clock = clock or SystemClock()
        key = _new_key()
        name = _name(f"{lab}-ca", ())
        usage = _key_usage(sign_certificates=True)
        certificate = (
            _builder(name, name, key, clock.wall(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, _sha256())
        )
        write_file(directory / "ca.key", _key_pem(key))
        write_file(directory / "ca.crt", _certificate_pem(certificate))
        return cls(directory, certificate, key, clock)

    @classmethod
    def load(cls, directory: Path, clock: Clock | None = None) -> Authority:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
            key = load_pem_private_key((directory / "ca.key").read_bytes(), None)
        except (OSError, ValueError) as error:
            raise LabctlError(f"the lab's CA in {directory} can't be read: {error}", mend="labctl destroy, then labctl up") from error
        assert isinstance(key, ec.EllipticCurvePrivateKey), "labctl makes EC keys only"
        return cls(directory, certificate, key, clock or SystemClock())

    def issue(
        self,
        common_name: str,
        organizations: Iterable[str] = (),
        *,
        hosts: Iterable[str] = (),
        ips: Iterable[str] = (),
        server: bool = False,
        client: bool = True,
        days: int = LEAF_DAYS,
        rsa: bool = False,
    ) -> Issued:
        """Makes a new key and a certificate for it. Raises UsageError for a name that is too long.

        `hosts` and `ips` are the names and addresses of a server. With `rsa` any client can read the key; it takes 30 ms, without the interpreter's lock.
        """
        from cryptography import x509

        organizations = tuple(organizations)
        for name in (common_name, *organizations):
            if len(name.encode()) > NAME_BYTES_MAX:
                raise UsageError(f"{name}: a name in a certificate has at most {NAME_BYTES_MAX} bytes (RFC 5280): choose a shorter one")
        key = _new_rsa_key() if rsa else _new_key()
        purposes = _purposes(server, client)
        builder = (
            _builder(_name(common_name, organizations), self._certificate.subject, key, self._clock.wall(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        names = _alternative_names(hosts, ips)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(_certificate_pem(builder.sign(self._key, _sha256())), _key_pem(key))

    def sign(self, request: x509.CertificateSigningRequest, usages: Iterable[str], life_s: int) -> bytes:
        """Return a certificate, in PEM, for somebody else's key: the request's subject and alternative names, for these uses as Kubernetes names them."""
        from cryptography import x509

        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        end = min(now + timedelta(seconds=life_s), self._certificate.not_valid_after_utc)
        said = set(usages)
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SIGNED_BACKDATE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(key_encipherment="key encipherment" in said), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_purposes("server auth" in said, "client auth" in said)), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        with suppress(x509.ExtensionNotFound):
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=names.critical)
        return _certificate_pem(builder.sign(self._key, _sha256()))

    def secret(self, purpose: str) -> bytes:
        """Derive a key for another purpose from the CA's private key: it is the same after a restart, and is written nowhere."""
        return hmac.digest(_key_pem(self._key), purpose.encode(), "sha256")

    def admin(self) -> Issued:
        """Returns the admin's client certificate, with an RSA key. It is kept in the CA's folder, and issued again before it expires."""
        return self._kept("admin", ADMIN, (ADMINS,), hosts=(), ips=(), server=False, rsa=True)

    def client(self, name: str) -> Issued:
        """Returns a client certificate for `name`, kept as NAME.crt and NAME.key. It is issued again before it expires."""
        return self._kept(name, name, (), hosts=(), ips=(), server=False)

    def server(self, hosts: Iterable[str], ips: Iterable[str]) -> Issued:
        """Returns the master's certificate, kept as server.crt and server.key. It is issued again before it expires, or if its names changed."""
        return self._kept("server", "labctl-master", (), hosts=tuple(hosts), ips=tuple(ips), server=True)

    def node(self, name: str) -> Issued:
        """Issues a node's client certificate. It is not kept here: it goes to the machine."""
        return self.issue(f"system:node:{name}", (NODES,))

    def is_valid(self, certificate: bytes) -> bool:
        """True if this CA signed the certificate and it does not expire soon."""
        from cryptography import x509

        try:
            parsed = x509.load_pem_x509_certificate(certificate)
            parsed.verify_directly_issued_by(self._certificate)
        except Exception:  # cryptography raises ValueError, TypeError or InvalidSignature: each means "not ours"
            return False
        return self._fresh(parsed)

    def _fresh(self, certificate: x509.Certificate) -> bool:
        left = certificate.not_valid_after_utc.timestamp() - self._clock.wall()
        return left > RENEW_WITHIN_DAYS * 86_400

    def _kept(
        self,
        file: str,
        common_name: str,
        organizations: tuple[str, ...],
        *,
        hosts: tuple[str, ...],
        ips: tuple[str, ...],
        server: bool,
        rsa: bool = False,
    ) -> Issued:
        paths = self._directory / f"{file}.crt", self._directory / f"{file}.key"
        with suppress(OSError):
            kept = Issued(paths[0].read_bytes(), paths[1].read_bytes())
            if self.is_valid(kept.certificate) and _matches(kept, hosts, ips) and kept.key.startswith(PKCS1) is rsa:
                return kept
        issued = self.issue(common_name, organizations, hosts=hosts, ips=ips, server=server, client=not server, rsa=rsa)
        write_file(paths[1], issued.key)
        write_file(paths[0], issued.certificate)
        return issued


def kubeconfig(url: str, ca: bytes, client: Issued, *, name: str = "labctl", namespace: str = "default") -> str:
    """Returns a kubeconfig that names no other file, so that it can be copied. Write it with `write_file`: it holds a private key.

    It asks clients not to have answers compressed: the API is on loopback, where compressing a long list takes longer than sending it.
    """
    import yaml

    cluster = {"server": url, "certificate-authority-data": _base64(ca), "disable-compression": True}
    user = {"client-certificate-data": _base64(client.certificate), "client-key-data": _base64(client.key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": f"{name}-admin", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin", "namespace": namespace}}],
        "current-context": name,
    }
    return yaml.safe_dump(config, sort_keys=False)


def write_file(path: Path, data: bytes | str, mode: int = 0o600) -> None:
    """Writes the whole file or nothing: it writes to a temporary name that others can never read, and renames that."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _matches(kept: Issued, hosts: tuple[str, ...], ips: tuple[str, ...]) -> bool:
    """True if the key belongs to the certificate (a crash between the two writes may have parted them) and the names are these."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate = x509.load_pem_x509_certificate(kept.certificate)
    try:
        if load_pem_private_key(kept.key, None).public_key() != certificate.public_key():
            return False
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except ValueError:
        return False
    except x509.ExtensionNotFound:
        names = []
    return set(names) == set(_alternative_names(hosts, ips))


def _alternative_names(hosts: Iterable[str], ips: Iterable[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    return [*map(x509.DNSName, hosts), *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips)]


def _name(common_name: str, organizations: Iterable[str]) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, wall_s: float, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.fromtimestamp(wall_s, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
    )


def _purposes(server: bool, client: bool) -> list[x509.ObjectIdentifier]:
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client


def _key_usage(*, sign_certificates: bool = False, key_encipherment: bool = False) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _new_rsa_key() -> rsa.RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def _sha256() -> SHA256:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def _key_pem(key: Key) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    form = PrivateFormat.PKCS8 if isinstance(key, ec.EllipticCurvePrivateKey) else PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
