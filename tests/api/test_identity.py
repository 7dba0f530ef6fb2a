"""Whom a client's certificate names."""

from __future__ import annotations

from typing import Any

from labctl.api.identity import CREDENTIAL, of_certificate
from tests.inprocess import ApiServer

UID = "1.3.6.1.4.1.57683.2"


def certificate(*fields: tuple[str, str]) -> dict[str, Any]:
    """Return a certificate with these fields of its subject, as `ssl` tells of it."""
    return {"subject": tuple((field,) for field in fields)}


def test_a_subject_may_have_a_uid_once() -> None:
    jane, one, two = ("commonName", "jane"), (UID, "1042"), (UID, "1043")
    with_uid, without = of_certificate(certificate(jane, one)), of_certificate(certificate(jane))
    assert with_uid and without and (with_uid.uid, without.uid) == ("1042", "")
    assert of_certificate(certificate(jane, one, two)) is None


async def test_a_user_is_told_by_which_certificate_he_came(api: ApiServer) -> None:
    async with api.session() as http, http.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json={}) as answered:
        user = (await answered.json(content_type=None))["status"]["userInfo"]
    (told,) = user["extra"][CREDENTIAL]
    kind, _, digest = told.partition("=")
    assert kind == "X509SHA256" and len(bytes.fromhex(digest)) == 32
