"""CertificateSigningRequest: somebody asks for a certificate; who may `approve` it says yes, and the signer that it names writes the certificate into it.

Signers of the lab's own CA are in controllers/signing.py; any other `signerName` is for a program that somebody runs. The admission step CertificateRequests
writes who asks, and keeps approval and status apart.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME, NONE, duration
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.certificates_v1 import signers
from labctl.resources.kinds.shared import Condition

LIFE_LEAST_S = 600
DECISIONS = ("Approved", "Denied")
_CONDITIONS = (*DECISIONS, "Failed")
_USAGES = frozenset(
    "signing|digital signature|content commitment|key encipherment|key agreement|data encipherment|cert sign|crl sign|encipher only|decipher only|any|"
    "server auth|client auth|code signing|email protection|s/mime|ipsec end system|ipsec tunnel|ipsec user|timestamping|ocsp signing|microsoft sgc|"
    "netscape sgc".split("|")
)


class RequestSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    request: str = ""
    signer_name: str = ""
    expiration_seconds: int | None = None
    usages: tuple[str, ...] = ()
    username: str = ""
    groups: tuple[str, ...] = ()


class RequestStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    conditions: tuple[Condition, ...] = ()
    certificate: str = ""


class CertificateSigningRequest(Viewed, frozen=True, rename="camel", gc=False):
    spec: RequestSpec = RequestSpec()
    status: RequestStatus = RequestStatus()

    def has(self, type_: str) -> bool:
        return any(condition.type == type_ and condition.status == "True" for condition in self.status.conditions)


def prepare(new: Object, old: Object | None) -> None:
    """Keep the request itself unchanged. A new request has no decision yet."""
    if old is None:
        new["status"] = {}
    else:
        new["spec"] = old["spec"]


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    if old is not None:
        return
    spec = new["spec"]
    yield from _request(spec.get("request", ""))
    if not spec.get("usages"):
        yield fields.required("spec.usages")
    for index, usage in enumerate(spec.get("usages") or ()):
        if usage not in _USAGES:
            yield fields.not_supported(f"spec.usages[{index}]", usage, _USAGES)
        if usage in spec["usages"][:index]:
            yield fields.duplicate(f"spec.usages[{index}]", usage)
    signer = spec.get("signerName", "")
    if signer == "kubernetes.io/legacy-unknown":
        yield fields.invalid("spec.signerName", signer, "the legacy signerName is not allowed via this API version")
    else:
        yield from signers.name("spec.signerName", signer)
    life_s = spec.get("expirationSeconds")
    if life_s is not None and life_s < LIFE_LEAST_S:
        yield fields.invalid("spec.expirationSeconds", life_s, "may not specify a duration less than 600 seconds (10 minutes)")


def _request(text: str) -> Iterator[FieldError]:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    if not text:
        yield fields.required("spec.request")
        return
    try:
        pem = base64.b64decode(text, validate=True)
        if not x509.load_pem_x509_csr(pem).is_signature_valid:
            yield fields.invalid("spec.request", text[:100], "the signature of the request is not valid")
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
        yield fields.invalid("spec.request", text[:100], "PEM block type must be CERTIFICATE REQUEST")


def _decided(new: Object, old: Object) -> Iterator[FieldError]:
    """Check what `approval` writes: a decision is for ever, and there is one of them."""
    yield from _well_formed(conditions(new))
    yield from _kept(new, old)


def _signed(new: Object, old: Object) -> Iterator[FieldError]:
    """Check what `status` writes: it decides nothing, and a certificate stays what it is."""
    yield from _well_formed(conditions(new))
    certificate, before = (status_rules.status_of(each).get("certificate") or "" for each in (new, old))
    why = _unlike_certificates(certificate) if certificate and certificate != before else ""
    if why:
        yield fields.invalid("status.certificate", "<certificate data>", why)
    yield from _kept(new, old)
    for type_ in DECISIONS:
        if len(_of_type(conditions(new), type_)) > len(_of_type(conditions(old), type_)):
            yield fields.forbidden("status.conditions", f'updates may not add a condition of type "{type_}"')
    if before and certificate != before:
        yield fields.forbidden("status.certificate", "updates may not modify existing certificate content")


def _unlike_certificates(encoded: str) -> str:
    try:
        return signers.unlike_certificates(base64.b64decode(encoded).decode("latin-1"))
    except (binascii.Error, ValueError):
        return "illegal base64 data"


def _kept(new: Object, old: Object) -> Iterator[FieldError]:
    for type_ in _CONDITIONS:
        if len(_of_type(conditions(new), type_)) < len(_of_type(conditions(old), type_)):
            yield fields.forbidden("status.conditions", f'updates may not remove a condition of type "{type_}"')


def conditions(request: Object) -> list[Object]:
    found: list[Object] = status_rules.status_of(request).get("conditions") or []
    return found


def _of_type(said: Sequence[Object], type_: str) -> list[Object]:
    return [each for each in said if each.get("type") == type_]


def _well_formed(said: Sequence[Object]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, each in enumerate(said):
        at, type_, word = f"status.conditions[{index}]", each.get("type", ""), each.get("status", "")
        words = ("True",) if type_ in _CONDITIONS else ("False", "True", "Unknown")
        if not type_:
            yield fields.required(f"{at}.type")
        if not word:
            yield fields.required(f"{at}.status")
        elif word not in words:
            yield fields.not_supported(f"{at}.status", word, words)
        if (type_ == "Approved" and "Denied" in seen) or (type_ == "Denied" and "Approved" in seen):
            yield fields.invalid(f"{at}.type", type_, "Approved and Denied conditions are mutually exclusive")
        if type_ in seen:
            yield fields.duplicate(f"{at}.type", type_)
        seen.add(type_)


def selectable(request: CertificateSigningRequest) -> Mapping[str, str]:
    return {"spec.signerName": request.spec.signer_name}


def _state(request: CertificateSigningRequest, _now_s: float) -> str:
    said = [type_ for type_ in _CONDITIONS if request.has(type_)]
    if not said:
        return "Pending"
    return ",".join([*said, "Issued"] if request.status.certificate else said)


def _life(request: CertificateSigningRequest, _now_s: float) -> str:
    life_s = request.spec.expiration_seconds
    return NONE if life_s is None else duration(life_s)


KIND = Kind(
    group="certificates.k8s.io",
    version="v1",
    kind="CertificateSigningRequest",
    plural="certificatesigningrequests",
    singular="certificatesigningrequest",
    namespaced=False,
    view=CertificateSigningRequest,
    short_names=("csr",),
    columns=(
        NAME,
        AGE,
        Column("SignerName", lambda request, _now: request.spec.signer_name, description="Who is to sign it."),
        Column("Requestor", lambda request, _now: request.spec.username, description="Who asks."),
        Column("RequestedDuration", _life, description="How long the certificate shall be valid."),
        Column("Condition", _state, description="Pending, Approved, Denied, Failed; Issued."),
    ),
    subresources=(
        Subresource("approval", ("get", "patch", "update"), validate=_decided),
        status_rules.subresource(_signed),
    ),
    has_status=True,
    prepare=prepare,
    validate=validate,
    fields=selectable,
)
