"""The client certificate by which the servers behind this API know it (resources/requestheader.py says what they believe then).

It is of a CA of its own. The lab's CA would not do, since a person may get a client certificate with any name from that one.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from labctl.certificates import Authority
from labctl.clock import Clock
from labctl.resources.requestheader import NAME


class FrontProxy:
    """The certificate, which is kept in `directory` and issued again before it expires."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._authority = Authority.create(directory, "labctl-front-proxy", clock)

    @property
    def ca(self) -> str:
        return self._authority.certificate_pem.decode()

    def identify(self, context: ssl.SSLContext) -> None:
        """Let connections with these TLS settings show the certificate. It reads files, so call it in a thread."""
        self._authority.client(NAME)
        context.load_cert_chain(self._directory / f"{NAME}.crt", self._directory / f"{NAME}.key")
