"""How Kubernetes words it when a webhook's server can't be spoken to: people and programs look for these sentences of Go's (`connection refused`, `x509: ...`)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_OUT_OF_TIME = frozenset({9, 10})
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's codes of what was wrong with a certificate (X509_V_ERR_...)."""


def unreachable(error: BaseException, name: str, address: str) -> str:
    """Return the words for an error of the network or of TLS. `name` is who the certificate should be of, `address` what was dialled."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"tls: failed to verify certificate: x509: {_certificate(cause, name)}"
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return "http: server gave HTTP response to HTTPS client"
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
            return f"dial tcp {address}: connect: {os.strerror(cause.errno).lower()}"
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what lies below an error, the innermost first: libraries wrap the system's error in theirs."""
    below = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error.__cause__
    if isinstance(below, BaseException) and below is not error:
        yield from _causes(below)
    yield error


def _certificate(error: ssl.SSLCertVerificationError, name: str) -> str:
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return "certificate signed by unknown authority"
    if error.verify_code in _OUT_OF_TIME:
        return f"certificate has expired or is not yet valid: {error.verify_message}"
    if error.verify_code in _OTHER_NAME:
        return f"certificate is not valid for {name}"
    return str(error.verify_message)
