"""Signing: approved CertificateSigningRequests of Kubernetes' own signers get a certificate of the lab's CA, or a condition Failed that says why not.

Three signers: `kubernetes.io/kube-apiserver-client` (people and programs), `kubernetes.io/kube-apiserver-client-kubelet` (nodes), `kubernetes.io/kubelet-serving`.
Who approves is never this controller. Decided and forgotten requests are removed after the times that Kubernetes has. Keys: names of requests.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from labctl.certificates import Authority
from labctl.clock import parse_rfc3339, rfc3339
from labctl.controllers.conditions import plain
from labctl.controllers.indexes import SIGNING_REQUESTS
from labctl.reconcile.plan import NOTHING, Delete, Index, Key, Patch, Plan, View
from labctl.resources.kinds.certificates_v1.certificatesigningrequest import CertificateSigningRequest

if TYPE_CHECKING:
    from cryptography import x509

_DOMAIN = "kubernetes.io/"
CLIENT, KUBELET_CLIENT, KUBELET_SERVING = (
    _DOMAIN + each for each in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving")
)
_NODES, _NODE_PREFIX = "system:nodes", "system:node:"
_ALLOWED = {
    CLIENT: ({"client auth"}, {"digital signature", "key encipherment", "client auth"}),
    KUBELET_CLIENT: ({"client auth", "digital signature"}, {"digital signature", "key encipherment", "client auth"}),
    KUBELET_SERVING: ({"server auth", "digital signature"}, {"digital signature", "key encipherment", "server auth"}),
}
_DECIDED_KEPT_S, _PENDING_KEPT_S = 3600.0, 24 * 3600.0
LIFE_MOST_S = 365 * 24 * 3600


class Signing:
    name = "csrsigning-controller"
    kind = SIGNING_REQUESTS

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.watches = {SIGNING_REQUESTS: lambda _view, seen: (seen.key,)}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        request: CertificateSigningRequest | None = view.get(SIGNING_REQUESTS, key)
        if request is None or request.metadata.deletion_timestamp:
            return NOTHING
        decided = request.has("Approved") or request.has("Denied")
        kept_s = _DECIDED_KEPT_S if decided or request.has("Failed") else _PENDING_KEPT_S
        left_s = parse_rfc3339(request.metadata.creation_timestamp or "1970-01-01T00:00:00Z") + kept_s - view.wall()
        if left_s <= 0:
            return Plan([Delete(SIGNING_REQUESTS, key, request.metadata.uid, why=f"it is older than {kept_s / 3600:g} h")])
        undone = request.has("Approved") and not request.status.certificate and not request.has("Failed")
        if undone and request.spec.signer_name in _ALLOWED:
            return Plan([self._answered(request, view.wall())], again_s=left_s)
        return Plan(again_s=left_s)

    def _answered(self, request: CertificateSigningRequest, wall_s: float) -> Patch:
        from cryptography import x509

        key, revision = request.metadata.name, request.metadata.revision
        asked = x509.load_pem_x509_csr(base64.b64decode(request.spec.request))
        wrong = _wrong(request, asked)
        if wrong:
            conditions = [plain(each) for each in request.status.conditions]
            now = rfc3339(wall_s)
            failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": wrong}
            conditions.append({**failed, "lastUpdateTime": now, "lastTransitionTime": now})
            return Patch(
                SIGNING_REQUESTS, key, {"status": {"conditions": conditions}}, "status", revision, why=f"it can't be signed: {wrong}"
            )
        life_s = min(request.spec.expiration_seconds or LIFE_MOST_S, LIFE_MOST_S)
        certificate = self._authority.sign(asked, request.spec.usages, life_s)
        status = {"certificate": base64.b64encode(certificate).decode()}
        return Patch(SIGNING_REQUESTS, key, {"status": status}, "status", revision, why="it was approved")


def _wrong(request: CertificateSigningRequest, asked: x509.CertificateSigningRequest) -> str:
    """Why this signer refuses; empty if it does not."""
    needed, allowed = _ALLOWED[request.spec.signer_name]
    usages = set(request.spec.usages)
    if not needed <= usages <= allowed:
        return f"usages did not match {sorted(needed)}"
    if request.spec.signer_name == CLIENT:
        return ""
    name, organizations = _subject(asked)
    if organizations != [_NODES]:
        return f'organization in the subject must be "{_NODES}"'
    if not name.startswith(_NODE_PREFIX):
        return f'subject common name must begin with "{_NODE_PREFIX}"'
    named = _alternative_names(asked)
    if request.spec.signer_name == KUBELET_CLIENT:
        return "subject alternative names are not allowed" if named else ""
    if request.spec.username != name:
        return "the requestor must be the node that the subject names"
    others = [each for each in named if type(each).__name__ not in ("DNSName", "IPAddress")]
    return "" if named and not others else "at least one DNS or IP subject alternative name is required, and no other"


def _subject(asked: x509.CertificateSigningRequest) -> tuple[str, list[str]]:
    from cryptography.x509.oid import NameOID

    names = [str(each.value) for each in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    organizations = [str(each.value) for each in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return (names[-1] if names else ""), organizations  # the name that its holder will have (api/identity.py)


def _alternative_names(asked: x509.CertificateSigningRequest) -> Sequence[Any]:
    from cryptography import x509

    try:
        return list(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
