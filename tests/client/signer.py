"""A signer of pods' certificates, as small as one can be: it watches PodCertificateRequests with the official client and answers those that name it.

A pod's author asks for a name with the annotation `example.com/dns` of its `podCertificate`, and for a refusal with `example.com/deny`.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

DNS, DENY = "example.com/dns", "example.com/deny"


class Signer:
    """Has a CA of its own. `serials` are those of what it issued, in order."""

    def __init__(self, api_client: client.ApiClient, name: str = "example.com/tests") -> None:
        self.name = name
        self.api = client.CertificatesV1Api(api_client)
        self.serials: list[int] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a signer for tests")])
        self._ended = threading.Event()
        self._watch = watch.Watch()
        self._known: set[str] = set()
        self.anchor = self._certificate(self._key.public_key(), self._subject, 24, ca=True)

    def publish(self) -> None:
        """Makes a ClusterTrustBundle of the CA."""
        named = {"name": self.name.replace("/", ":") + ":ca"}
        body = {"metadata": named, "spec": {"signerName": self.name, "trustBundle": _pem(self.anchor)}}
        self.api.create_cluster_trust_bundle(body)

    @contextmanager
    def at_work(self) -> Iterator[Signer]:
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._watch.stop()
            thread.join(10)

    def _work(self) -> None:
        while not self._ended.is_set():
            chosen = {"field_selector": f"spec.signerName={self.name}", "timeout_seconds": 2}
            with suppress(HTTPError):  # the API may go before the signer does
                for event in self._watch.stream(self.api.list_pod_certificate_request_for_all_namespaces, **chosen):
                    if event["type"] in ("ADDED", "MODIFIED") and not event["object"].status.conditions:
                        self._answer(event["object"])

    def _answer(self, request: Any) -> None:
        said = request.spec.unverified_user_annotations or {}
        if request.metadata.uid in self._known:
            return
        self._known.add(request.metadata.uid)
        if DENY in said:
            status = {"conditions": [_condition("Denied", "NotToday", said[DENY])]}
        else:
            stub = x509.load_der_x509_csr(base64.b64decode(request.spec.stub_pkcs10_request))
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.spec.pod_name)])
            made = self._certificate(stub.public_key(), subject, 1, dns=said.get(DNS, ""))
            starts, ends = made.not_valid_before_utc, made.not_valid_after_utc
            times = {"notBefore": starts, "notAfter": ends, "beginRefreshAt": starts + timedelta(minutes=10)}
            status = {"certificateChain": _pem(made), "conditions": [_condition("Issued", "Issued", "")], **times}
            self.serials.append(made.serial_number)
        try:
            self.api.patch_namespaced_pod_certificate_request_status(request.metadata.name, request.metadata.namespace, {"status": status})
        except ApiException as error:
            if error.status != 404:  # its pod may be gone
                raise

    def _certificate(self, key: Any, subject: x509.Name, hours: int, ca: bool = False, dns: str = "") -> x509.Certificate:
        starts = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject).public_key(key)
        builder = (
            builder.serial_number(x509.random_serial_number()).not_valid_before(starts).not_valid_after(starts + timedelta(hours=hours))
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if dns:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        return builder.sign(self._key, SHA256())


def _pem(made: x509.Certificate) -> str:
    return made.public_bytes(Encoding.PEM).decode()


def _condition(kind: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": datetime.now(UTC)}
