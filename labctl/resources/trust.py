"""Which servers' certificates are believed where an object carries its own authorities (`caBundle`), as Go's verifier has it, for which bundles are made.

OpenSSL differs from it in two ways that people meet. It ends a chain only at a certificate that signed itself, so a bundle with nothing but an intermediate
authority, or the server's own certificate, is no anchor until it is told to take any. And it takes a certificate with no issuer's name and no subject's name
for one that signed itself, which it is not where the authority has no name either (Pepr's); such authorities are compared here.
"""

from __future__ import annotations

import base64
import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def trusting(bundle: str) -> ssl.SSLContext:
    """Return a client's TLS settings that trust `bundle` (base64 of PEM), or what this machine trusts if it is empty. Raises ValueError."""
    pem = base64.b64decode(bundle).decode() if bundle else None
    try:
        context = ssl.create_default_context(cadata=pem)
    except ssl.SSLError as error:
        raise ValueError(str(error)) from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on, which Go has not
    if pem and (nameless := _nameless(pem)):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.sslobject_class = _checking(nameless)
    return context


def _nameless(pem: str) -> list[Certificate]:
    """Return all authorities of a bundle if none of them has a name. If one has, OpenSSL looks for it, and those without are of no use to it."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return []
    return [] if any(list(each.subject) for each in found) else found


def _checking(authorities: Sequence[Certificate]) -> type[ssl.SSLObject]:
    """Return the class of connections whose handshake fails unless one of the authorities has signed the server's certificate itself."""

    class Checking(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            why = _refused(self.getpeercert(binary_form=True) or b"", self.server_hostname or "", authorities)
            if why:
                raise ssl.SSLCertVerificationError(1, f"certificate verify failed: {why}")

    return Checking


def _refused(der: bytes, name: str, authorities: Sequence[Certificate]) -> str:
    """Return why a server's certificate is not believed, or ""."""
    from cryptography import x509

    try:
        leaf = x509.load_der_x509_certificate(der)
        if leaf not in authorities and not any(_has_signed(each, leaf) for each in authorities):
            return "unable to get local issuer certificate"
        if not _valid_now(leaf):
            return "certificate has expired"
        return "" if _is_for(leaf, name) else f"Hostname mismatch, certificate is not valid for '{name}'."
    except ValueError as error:
        return str(error)


def _has_signed(authority: Certificate, leaf: Certificate) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        if not authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca or not _valid_now(authority):
            return False
        leaf.verify_directly_issued_by(authority)
    except (x509.ExtensionNotFound, InvalidSignature, TypeError, ValueError):
        return False
    return True


def _valid_now(certificate: Certificate) -> bool:
    return certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc


def _is_for(leaf: Certificate, name: str) -> bool:
    from cryptography import x509

    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        wanted = name.lower().rstrip(".")
        parent = wanted.partition(".")[2]
        return any(each.lower() in (wanted, f"*.{parent}" if parent else wanted) for each in names.get_values_for_type(x509.DNSName))
