"""This module knows who calls, by authenticators in a row. The first one that knows the caller decides; a caller that none of them knows gets a 401.

1. The client's certificate, read once for each connection. TLS has already checked that the lab's CA signed it. The server asks for a certificate but
   does not demand one (CERT_OPTIONAL): a client without one gets a 401 with a message instead of a broken handshake.
2. A bearer token of a ServiceAccount, checked with each request (tokens.py), because its pod may have gone since the last one. It stands in the header
   Authorization. A page in a browser can't set that for a WebSocket, so there it may be among the subprotocols, beside a real one.
"""

from __future__ import annotations

import asyncio
import binascii
import ssl
from base64 import urlsafe_b64decode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from multidict import CIMultiDictProxy

from labctl.api import status
from labctl.resources.service import AUTHENTICATED, User

_BEARER = "bearer "
_PROTOCOLS = "Sec-WebSocket-Protocol"
_TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_UID = "1.3.6.1.4.1.57683.2"
"""The attribute of a certificate's subject that is its user's uid (Kubernetes 1.34). It may stand there once."""
CREDENTIAL = "authentication.kubernetes.io/credential-id"
"""What a user's `extra` calls the certificate or token that he came with."""
TokenUser = Callable[[str], User | None]
"""Whom a bearer token speaks for; None if it is not valid."""


def server_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Returns the API's TLS settings: the server's own certificate, and the lab's CA for the clients' certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # no client resumes an old session, and tickets took a third of the time of a new connection
    return context


def of_transport(transport: asyncio.BaseTransport) -> User | None:
    """Returns the user of a connection; None if it has no certificate."""
    tls = transport.get_extra_info("ssl_object")
    return of_certificate(transport.get_extra_info("peercert"), tls.getpeercert(True) if tls else None)


def of_certificate(certificate: dict[str, Any] | None, encoded: bytes | None = None) -> User | None:
    """Returns the user that a certificate names: CN is the name (the last one, if there are several, as Go reads it) and each O is a group.

    None if it names nobody, or has two uids."""
    if not certificate:
        return None
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in reversed(fields) if key == "commonName"), "")
    uids = [value for key, value in fields if key == _UID]
    if not name or len(uids) > 1:
        return None
    groups = tuple(value for key, value in fields if key == "organizationName")
    extra = ((CREDENTIAL, (f"X509SHA256={sha256(encoded).hexdigest()}",)),) if encoded else ()
    return User(name, (*groups, AUTHENTICATED), "".join(uids), extra)


def of_headers(headers: CIMultiDictProxy[str], token_user: TokenUser) -> User | None:
    """Return the user of a request on a connection without a certificate; None is nobody.

    Raises 401 for a token that is not valid, even where anybody may read, as Kubernetes does.
    """
    said = headers.get("Authorization", "")
    token = said[len(_BEARER) :].strip() if said[: len(_BEARER)].lower() == _BEARER else ""
    if not token:
        token = _of_protocols(headers)
    if not token:
        return None
    user = token_user(token)
    if user is None:
        raise status.unauthorized()
    return user


def without_token(name: str, value: str) -> str:
    """Return what of a header may be told to somebody else: the subprotocols but for one that is a token. Empty if nothing is left of them."""
    return (
        ", ".join(each for each in _parts(value) if not each.startswith(_TOKEN_PROTOCOL)) if name.lower() == _PROTOCOLS.lower() else value
    )


def _of_protocols(headers: CIMultiDictProxy[str]) -> str:
    """Return the token among the subprotocols that a WebSocket's client offers; "" if there is none. Raises 401 for what is no token."""
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        return ""
    offered = [each for value in headers.getall(_PROTOCOLS, ()) for each in _parts(value)]
    tokens = [each.removeprefix(_TOKEN_PROTOCOL) for each in offered if each.startswith(_TOKEN_PROTOCOL)]
    if not tokens:
        return ""
    try:
        (encoded,) = tokens
        token = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (ValueError, binascii.Error):  # two of them, no base64, no text
        raise status.unauthorized() from None
    if token and len(offered) == len(tokens):  # the answer has to name one, and must not name the token
        raise status.unauthorized()
    return token


def _parts(value: str) -> list[str]:
    return [each.strip() for each in value.split(",")]
