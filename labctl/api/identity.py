"""Who calls: the client's certificate, read once per connection. TLS has already checked that the lab's CA signed it.

A certificate is asked for but not demanded (CERT_OPTIONAL), so that who comes without one is told 401 in words instead of a broken handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from labctl.resources.service import User

AUTHENTICATED = "system:authenticated"


def server_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """The API's TLS: its own certificate, and clients' checked against the lab's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0  # no client comes back to an old session, and tickets are a third of what a connection costs
    return context


def of_transport(transport: asyncio.BaseTransport) -> User | None:
    """The user a connection speaks for; None is nobody."""
    return of_certificate(transport.get_extra_info("peercert"))


def of_certificate(certificate: dict[str, Any] | None) -> User | None:
    """CN is the user's name, each O a group, as in Kubernetes."""
    if not certificate:
        return None
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in fields if key == "commonName"), "")
    if not name:
        return None
    groups = tuple(value for key, value in fields if key == "organizationName")
    return User(name, (*groups, AUTHENTICATED))
