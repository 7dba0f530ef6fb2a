"""PodCertificateRequest (KEP-4317): a node asks a signer for a certificate of one of its pods, for the source `podCertificate` of a projected volume.

Agents make them (agent/certificates.py), the step NodeRestriction sees to it that a node asks for its own pods only, and signers, which are other people's programs,
answer in the status: the step CertificateRequests lets only those who may `sign` for the signer. A request is removed half an hour after it was made
(controllers/podcertificates.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds.certificates_v1 import signers
from labctl.resources.kinds.inert import fixed
from labctl.resources.kinds.shared import Condition

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateSigningRequest

_BOUND_TO = (("podName", names.subdomain), ("serviceAccountName", names.subdomain), ("nodeName", names.subdomain))
_UIDS = ("podUID", "serviceAccountUID", "nodeUID")
_UID_MOST = 128
_REQUEST_MOST = 10 * 1024
_ENDS = ("Issued", "Denied", "Failed")
_ISSUE = ("certificateChain", "notBefore", "notAfter", "beginRefreshAt")
_REFRESH_S = 600
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class PodRequestSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    signer_name: str = ""
    pod_name: str = ""
    pod_uid: str = msgspec.field(name="podUID", default="")
    node_name: str = ""


class PodRequestStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    conditions: tuple[Condition, ...] = ()


class PodCertificateRequest(Viewed, frozen=True, rename="camel", gc=False):
    spec: PodRequestSpec = PodRequestSpec()
    status: PodRequestStatus = PodRequestStatus()


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    if old is not None:
        yield from fixed(new, old, "spec")
        return
    spec = new.get("spec") or {}
    yield from signers.name("spec.signerName", spec.get("signerName", ""))
    for field, rule in _BOUND_TO:
        if not spec.get(field):
            yield fields.required(f"spec.{field}")
        else:
            yield from names.checked(f"spec.{field}", spec[field], rule)
    for field in _UIDS:
        if not spec.get(field):
            yield fields.required(f"spec.{field}")
        elif len(spec[field]) > _UID_MOST:
            yield fields.too_long(f"spec.{field}", _UID_MOST)
    yield from signers.user_annotations("spec.unverifiedUserAnnotations", spec.get("unverifiedUserAnnotations") or {})
    yield from _life("spec.maxExpirationSeconds", spec.get("maxExpirationSeconds"), spec.get("signerName", ""))
    yield from _key("spec.stubPKCS10Request", spec.get("stubPKCS10Request", ""))


def _life(path: str, life_s: int | None, signer: str) -> Iterator[FieldError]:
    least_s, most_s = signers.LIFE_LEAST_S, signers.life_most_s(signer)
    if life_s is None:
        yield fields.required(path, "must be set")
    elif not least_s <= life_s <= most_s:
        yield fields.invalid(path, life_s, f"must be in the range [{least_s}, {most_s}]")


def _request_of(text: str) -> CertificateSigningRequest | None:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return x509.load_der_x509_csr(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _key(path: str, text: str) -> Iterator[FieldError]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if not text:
        yield fields.required(path, "must be a DER-serialized PKCS#10 request")
        return
    if len(text) > _REQUEST_MOST:
        yield fields.too_long(path, _REQUEST_MOST)
        return
    request = _request_of(text)
    try:
        if request is None or not request.is_signature_valid:
            yield fields.invalid(
                path, "<value omitted>", "signature on stubPKCS10Request must be valid" if request else "must parse as PKCS#10"
            )
            return
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        yield fields.invalid(path, "<value omitted>", "must parse as PKCS#10")
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size not in (3072, 4096):
        yield fields.invalid(path, f"{key.key_size}-bit modulus", "RSA keys must have modulus size 3072 or 4096")
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        yield fields.invalid(path, f"curve {key.curve.name}", "elliptic public keys must use curve P256, P384, or P521")
    elif not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        yield fields.invalid(path, "<value omitted>", "unknown public key type; supported types are Ed25519, ECDSA, and RSA")


# -- the status, which its signer writes


def signed(new: Object, old: Object) -> Iterator[FieldError]:
    """Validates a write of the status: what a signer says once is said for good."""
    status, before = new.get("status") or {}, old.get("status") or {}
    ends = [each for each in status.get("conditions") or () if each.get("type") in _ENDS]
    had = [each.get("type") for each in before.get("conditions") or () if each.get("type") in _ENDS]
    path = "status.conditions"
    if len(ends) > 1:
        yield fields.invalid(
            path, sorted(each["type"] for each in ends), 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
        )
        return
    if had:
        if _told(status) != _told(before):
            yield fields.invalid("status", "<value omitted>", "immutable after PodCertificateRequest is issued, denied, or failed")
        return
    for index, each in enumerate(status.get("conditions") or ()):
        if each.get("type") in _ENDS and each.get("status") != "True":
            yield fields.not_supported(f"{path}[{index}].status", each.get("status", ""), ("True",))
        elif each.get("type") not in _ENDS:
            yield fields.not_supported(f"{path}[{index}].type", each.get("type", ""), _ENDS)
    issued = bool(ends) and ends[0]["type"] == "Issued"
    for field in _ISSUE:
        if issued and not status.get(field):
            yield fields.required(f"status.{field}", "must be set when the request is issued")
        elif not issued and status.get(field):
            yield fields.invalid(f"status.{field}", "<value omitted>", "must not be set unless the request is issued")
    if issued and all(status.get(field) for field in _ISSUE):
        yield from _chain(new["spec"], status)


def _told(status: Object) -> Object:
    return {field: value for field, value in status.items() if value}


def _chain(spec: Object, status: Object) -> Iterator[FieldError]:
    path = "status.certificateChain"
    found, wrong = signers.certificates(path, status["certificateChain"])
    yield from wrong
    if not found:
        return
    leaf, request = found[0], _request_of(spec.get("stubPKCS10Request", ""))
    yield from (fields.invalid(path, each, f"leaf certificate's DNSName {why}") for each, why in _odd_names(leaf))
    if request is not None and _public(leaf) != _public(request):
        yield fields.invalid(path, "<value omitted>", "leaf certificate was not issued to the requested public key")
    starts, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    for field, is_so in (("notBefore", starts), ("notAfter", ends)):
        if _moment(status[field]) != is_so:
            yield fields.invalid(f"status.{field}", status[field], f"must be set to the {field} time encoded in the leaf certificate")
    life_s = (ends - starts).total_seconds()
    if life_s < signers.LIFE_LEAST_S:
        yield fields.invalid(path, "<value omitted>", "leaf certificate lifetime must be >= 1 hour")
    if life_s > int(spec.get("maxExpirationSeconds") or signers.DAY_S):
        yield fields.invalid(
            path, "<value omitted>", f"leaf certificate lifetime must be <= spec.maxExpirationSeconds ({spec['maxExpirationSeconds']})"
        )
    refresh, room = _moment(status["beginRefreshAt"]), timedelta(seconds=_REFRESH_S)
    if refresh < starts + room:
        yield fields.invalid("status.beginRefreshAt", status["beginRefreshAt"], "must be at least 10 minutes after status.notBefore")
    if refresh > ends - room:
        yield fields.invalid("status.beginRefreshAt", status["beginRefreshAt"], "must be at least 10 minutes before status.notAfter")


def _odd_names(leaf: Certificate) -> Iterator[tuple[str, str]]:
    """Yields the names of a certificate that are none, and why: a client that compares names may take them for others."""
    from cryptography import x509

    try:
        named = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        return
    except ValueError:
        yield "<value omitted>", "does not parse"
        return
    for name in named:
        if not name:
            yield name, "should not be empty"
        elif ".." in name:
            yield name, "should not contain '..'"
        elif name.startswith(".") or name.endswith("."):
            yield name, "should not start or end with '.'"


def _public(holder: Certificate | CertificateSigningRequest) -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _state(request: PodCertificateRequest, _now_s: float) -> str:
    return next((each.type for each in request.status.conditions if each.type in _ENDS and each.status == "True"), "Pending")


def _warnings(new: Object, old: Object | None) -> Iterator[str]:
    signer = (new.get("spec") or {}).get("signerName", "")
    if old is None and signer.startswith(signers.OURS):
        yield f"neither Kubernetes nor labctl has a signer {signer} for pods: nobody answers this request"


KIND = Kind(
    group="certificates.k8s.io",
    version="v1",
    kind="PodCertificateRequest",
    plural="podcertificaterequests",
    singular="podcertificaterequest",
    namespaced=True,
    view=PodCertificateRequest,
    columns=(
        NAME,
        Column("PodName", lambda request, _now: request.spec.pod_name, description="The pod that is to have the certificate."),
        Column("SignerName", lambda request, _now: request.spec.signer_name, description="Who is to sign it."),
        Column("State", _state, description="Pending, Issued, Denied, Failed."),
        AGE,
    ),
    subresources=(Subresource("status", ("get", "patch", "update"), validate=signed),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    warnings=_warnings,
    fields=lambda request: {
        "spec.signerName": request.spec.signer_name,
        "spec.podName": request.spec.pod_name,
        "spec.nodeName": request.spec.node_name,
    },
    type_defaults={"io.k8s.api.certificates.v1.PodCertificateRequestSpec": TypeDefaults(absent={"maxExpirationSeconds": signers.DAY_S})},
    slow=True,
)
