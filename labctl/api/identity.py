"""This module reads the user from the client's certificate, once for each connection. TLS has already checked that the lab's CA signed it.

The server asks for a certificate but does not demand one (CERT_OPTIONAL): a client without one gets a 401 with a message instead of a broken handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from labctl.resources.service import User

AUTHENTICATED = "system:authenticated"


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
    return of_certificate(transport.get_extra_info("peercert"))


def of_certificate(certificate: dict[str, Any] | None) -> User | None:
    """Returns the user that a certificate names: CN is the name and each O is a group, as in Kubernetes."""
    if not certificate:
        return None
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in fields if key == "commonName"), "")
    if not name:
        return None
    groups = tuple(value for key, value in fields if key == "organizationName")
    return User(name, (*groups, AUTHENTICATED))
