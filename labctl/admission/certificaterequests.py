"""CertificateRequests: who asks for a certificate, who may approve it, who may sign it, who may attest trust anchors. As Kubernetes' plugins
CertificateSubjectRestriction, CertificateApproval, CertificateSigning and ClusterTrustBundleAttest.

A mutating step. A new request says who wrote it, whatever its body says. The subresource `approval` writes the conditions and nothing else, and needs the verb
`approve` on the signer; `status` writes all of the status but the decision, and needs the verb `sign`. A decision is never taken back. For a PodCertificateRequest, whose
status has no decision, `sign` is needed for all of it.
"""

from __future__ import annotations

import base64

from labctl.clock import Clock, parse_rfc3339, rfc3339
from labctl.resources import failures, fields
from labctl.resources.admission import Attributes, Verb
from labctl.resources.kind import Object
from labctl.resources.kinds.certificates_v1.certificatesigningrequest import DECISIONS, conditions
from labctl.resources.plurals import POD_SIGNING_REQUESTS, SIGNING_REQUESTS, TRUST_BUNDLES
from labctl.resources.rbac.holders import Rbac
from labctl.resources.rbac.matching import Request
from labctl.resources.service import MASTERS

NEAR_S = 300
_ADMINS_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateRequests:
    name = "CertificateRequests"
    kinds: frozenset[str] | None = frozenset({SIGNING_REQUESTS, POD_SIGNING_REQUESTS, TRUST_BUNDLES})
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, rbac: Rbac, clock: Clock) -> None:
        self._rbac = rbac
        self._clock = clock

    async def admit(self, attributes: Attributes) -> None:
        new, old = attributes.new, attributes.old
        assert new is not None, "only creates and updates come here"
        if attributes.kind.resource == TRUST_BUNDLES:
            self._attested(attributes, new, old)
        elif attributes.kind.resource == POD_SIGNING_REQUESTS:
            if old is not None and attributes.subresource == "status" and (new.get("status") or {}) != (old.get("status") or {}):
                self._may(attributes, old, "sign")
                self._dated(attributes, new)
        elif attributes.verb == "create":
            self._asked(attributes, new)
        elif old is not None and attributes.subresource == "approval":
            self._may(attributes, old, "approve")
            self._decided(new, old)
        elif old is not None and attributes.subresource == "status":
            self._signed(attributes, new, old)

    def _asked(self, attributes: Attributes, new: Object) -> None:
        user, spec = attributes.user, new.setdefault("spec", {})
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
            if value := user.info.get(field):
                spec[field] = value
        if spec.get("signerName") == _ADMINS_SIGNER and MASTERS in _organizations(spec.get("request", "")):
            why = f"use of {_ADMINS_SIGNER} signer with {MASTERS} group is not allowed"
            raise failures.forbidden(attributes.kind, attributes.name, why)

    def _may(self, attributes: Attributes, old: Object, verb: str) -> None:
        """Check that the user may use the verb on the signer, or on all signers of its domain."""
        signer = old["spec"].get("signerName", "")
        if MASTERS in attributes.user.groups:
            return
        for name in (signer, signer.partition("/")[0] + "/*"):
            if self._rbac.why_allowed(attributes.user, Request(verb, "certificates.k8s.io", "signers", name=name)):
                return
        what = "attest for" if verb == "attest" else f"{verb} requests with"
        raise failures.forbidden(attributes.kind, attributes.name, f'user not permitted to {what} signerName "{signer}"')

    def _dated(self, attributes: Attributes, new: Object) -> None:
        """A pod's certificate begins to be valid about now: one that is dated back would seem older, or live on longer, than it may. The rest is validation's."""
        starts = (new.get("status") or {}).get("notBefore")
        try:
            away_s = abs(parse_rfc3339(starts) - self._clock.wall()) if starts else 0.0
        except ValueError:
            return
        if away_s > NEAR_S:
            wrong = fields.invalid("status.notBefore", starts, "must be set to within 5 minutes of kube-apiserver's current time")
            raise failures.invalid(attributes.kind, attributes.name, [wrong])

    def _attested(self, attributes: Attributes, new: Object, old: Object | None) -> None:
        """Who writes trust anchors in a signer's name must be allowed to. A change of labels alone says nothing in its name."""
        spec = new.get("spec") or {}
        if spec.get("signerName") and (old is None or spec != old["spec"]):
            self._may(attributes, new, "attest")

    def _decided(self, new: Object, old: Object) -> None:
        """Keep all but the conditions as it was."""
        new["status"] = {**old.get("status", {}), "conditions": self._stamped(conditions(new), conditions(old))}

    def _signed(self, attributes: Attributes, new: Object, old: Object) -> None:
        """Keep the decisions as they were, if they are still there; validation refuses other ones. Who changes nothing needs no right."""
        said, before = conditions(new), conditions(old)
        for type_ in DECISIONS:
            places = [index for index, each in enumerate(said) if each.get("type") == type_]
            kept = [each for each in before if each.get("type") == type_]
            if len(places) == len(kept):
                for index, condition in zip(places, kept, strict=True):
                    said[index] = condition
        new.setdefault("status", {})["conditions"] = self._stamped(said, before)
        if any((new["status"].get(part) or None) != (old.get("status", {}).get(part) or None) for part in ("certificate", "conditions")):
            self._may(attributes, old, "sign")

    def _stamped(self, said: list[Object], before: list[Object]) -> list[Object]:
        """Return the conditions with the times that their author left out: now, or since when this type has had this status."""
        now = rfc3339(self._clock.wall())
        since = {(each.get("type"), each.get("status")): each.get("lastTransitionTime") or now for each in reversed(before)}
        told = [{key: value for key, value in each.items() if value} for each in said]
        return [
            {"lastUpdateTime": now, "lastTransitionTime": since.get((each.get("type"), each.get("status")), now), **each} for each in told
        ]


def _organizations(text: str) -> list[str]:
    """Return the groups that a request names; [] if it can't be read, which validation reports."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        request = x509.load_pem_x509_csr(base64.b64decode(text))
        return [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    except (ValueError, TypeError):
        return []
