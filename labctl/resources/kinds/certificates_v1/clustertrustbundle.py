"""ClusterTrustBundle (KEP-3257): trust anchors, of a signer or of nobody, that pods mount by the bundle's name or its signer's (agent/volumes.py).

Who writes one that names a signer needs the verb `attest` on it: the admission step CertificateRequests asks.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.certificates_v1 import signers

_MOST_BYTES = 1 << 20


class BundleSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    signer_name: str = ""
    trust_bundle: str = ""


class ClusterTrustBundle(Viewed, frozen=True, rename="camel", gc=False):
    spec: BundleSpec = BundleSpec()


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec, name = new.get("spec") or {}, new["metadata"].get("name", "")
    signer, text = spec.get("signerName", ""), spec.get("trustBundle", "")
    if old is not None and signer != old["spec"].get("signerName", ""):
        yield fields.invalid("spec.signerName", signer, "field is immutable")
    if signer:
        yield from signers.name("spec.signerName", signer)
        prefix = signer.replace("/", ":") + ":"
        if not name.startswith(prefix):
            why = f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            yield fields.invalid("metadata.name", name, why)
    elif ":" in name:
        yield fields.invalid("metadata.name", name, 'ClusterTrustBundle without signer name must not have ":" in its name')
    if old is None or text != old["spec"].get("trustBundle"):
        yield from _anchors("spec.trustBundle", text)


def _anchors(path: str, text: str) -> Iterator[FieldError]:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import BasicConstraints, ExtensionNotFound

    if len(text.encode()) > _MOST_BYTES:
        yield fields.too_long(path, _MOST_BYTES)
        return
    found, wrong = signers.certificates(path, text)
    yield from wrong
    seen: dict[bytes, int] = {}
    for number, certificate in enumerate(found):
        try:
            anchor = certificate.extensions.get_extension_for_class(BasicConstraints).value.ca
        except (ExtensionNotFound, ValueError):
            anchor = False
        if not anchor:
            yield fields.invalid(path, "<value omitted>", f"entry {number} does not have the CA bit set")
        identity = certificate.fingerprint(SHA256())
        if identity in seen:
            yield fields.invalid(path, "<value omitted>", f"duplicate trust anchor (indices {seen[identity]} and {number})")
        seen.setdefault(identity, number)


KIND = Kind(
    group="certificates.k8s.io",
    version="v1",
    kind="ClusterTrustBundle",
    plural="clustertrustbundles",
    singular="clustertrustbundle",
    namespaced=False,
    view=ClusterTrustBundle,
    columns=(
        NAME,
        Column("SignerName", lambda bundle, _now: bundle.spec.signer_name or "<none>", description="Whose anchors these are."),
        AGE,
    ),
    validate=validate,
    fields=lambda bundle: {"spec.signerName": bundle.spec.signer_name},
    name_rule="path",
    slow=True,
)
