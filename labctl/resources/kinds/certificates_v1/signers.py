"""What requests to signers have in common: the form of a signer's name, and of the certificates that one writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from labctl.resources import fields, names
from labctl.resources.kind import FieldError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

OURS = "kubernetes.io/"
DAY_S = 86_400
LIFE_LEAST_S = 3600  # of a pod's certificate
PATHS = ("credentialBundlePath", "keyPath", "certificateChainPath")  # of the files of a `podCertificate`
_DOMAIN_MOST, _MOST = 253, 571  # bytes: of the domain, and of the whole
_BLOCK = re.compile(r"-----BEGIN ([^-]+)-----\r?\n(.*?)-----END \1-----", re.S)
_MOST_CERTIFICATES = 1000


def name(path: str, text: str) -> Iterator[FieldError]:
    """Validates a signer's name: a domain with a dot in it or `kubernetes.io`, and a path."""
    if not text:
        yield fields.required(path)
        return
    domain, slash, rest = text.partition("/")
    if not slash or not domain or not rest or "/" in rest:
        yield fields.invalid(path, text, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
        return
    for label in domain.split("."):
        if wrong := names.label(label):
            yield from (fields.invalid(path, domain, f'validating label "{label}": {why}') for why in wrong)
            break
    if "." not in domain:
        yield fields.invalid(path, domain, "should be a domain with at least two segments separated by dots")
    if len(domain) > _DOMAIN_MOST:
        yield fields.too_long(path, _DOMAIN_MOST)
    for label in rest.split("."):
        if unlike := names.subdomain(label):
            yield from (fields.invalid(path, rest, f'validating label "{label}": {why}') for why in unlike)
            break
    if len(text) > _MOST:
        yield fields.too_long(path, _MOST)


def life_most_s(signer: str) -> int:
    """Returns how long, in seconds, a pod's certificate of this signer may live at most."""
    return DAY_S if signer.startswith(OURS) else 91 * DAY_S


def user_annotations(path: str, said: Mapping[str, str]) -> Iterator[FieldError]:
    """Validates what a pod's author tells a signer: as annotations, and each key has a domain."""
    yield from names.annotation_keys(path, said)
    for key in said:
        if "/" not in key:
            yield fields.invalid(path, key, 'must be a domain-prefixed key (such as "acme.io/foo")')


def unlike_certificates(text: str) -> str:
    """Returns why a text is not one or more certificates in PEM blocks, in the words for what a signer issued; "" if it is."""
    from cryptography import x509

    blocks = list(_BLOCK.finditer(text))
    for block in blocks:
        if block[1] != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{block[1][:40]}"'
        if ":" in block[2]:
            return "no PEM block headers are permitted"
        try:
            x509.load_pem_x509_certificate(block[0].encode())
        except ValueError:
            return "x509: malformed certificate"
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"


def certificates(path: str, text: str) -> tuple[Sequence[Certificate], list[FieldError]]:
    """Returns the certificates in PEM blocks of nothing else, and what is wrong with them."""
    from cryptography import x509

    blocks = list(_BLOCK.finditer(text))
    if not blocks:
        return (), [fields.invalid(path, "<value omitted>", "no CERTIFICATE blocks found")]
    if len(blocks) > _MOST_CERTIFICATES:
        return (), [fields.invalid(path, "<value omitted>", f"must have at most {_MOST_CERTIFICATES} certificates")]
    found: list[Certificate] = []
    for number, block in enumerate(blocks):
        if block[1] != "CERTIFICATE":
            return (), [fields.invalid(path, "<value omitted>", f"entry {number} has bad block type: {block[1][:40]}")]
        if ":" in block[2]:
            return (), [fields.invalid(path, "<value omitted>", f"entry {number} has PEM block headers, which are not allowed")]
        try:
            found.append(x509.load_pem_x509_certificate(block[0].encode()))
        except ValueError:
            return (), [fields.invalid(path, "<value omitted>", f"entry {number} does not parse as X.509")]
    return found, []
