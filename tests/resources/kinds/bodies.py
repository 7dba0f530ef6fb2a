"""A body of each kind that is stored, from bodies.yml, and ways to put something odd into each of its places."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from labctl.resources.kind import Object

DROPPED = "(dropped)"
ODD: tuple[Any, ...] = (
    DROPPED, None, "", "x", "A b", 0, -1, 7, 2**31, 2**63, 1.5, True, [], {}, [None], [{}], {"": ""}, {"a": None}, ["x"], ["x", "x"], "fd00::1",
    "1e9999", "100%", "-5%", "é" * 70, "a\nb", "${HOME}", "\x00", "0001-01-01T00:00:00Z",
)  # fmt: skip
Place = tuple[str | int, ...]


@cache
def bodies() -> dict[tuple[str, str], Object]:
    """The bodies by (apiVersion, kind)."""
    text = (Path(__file__).parent / "bodies.yml").read_text()
    for name, value in _made().items():
        text = text.replace(f"@{name}@", value)
    return {(body["apiVersion"], body["kind"]): body for body in yaml.safe_load_all(text)}


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Every path in a body but those of its type."""
    if path and path[0] not in ("apiVersion", "kind"):
        yield path
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(body: Object, place: Place, odd: Any) -> Object:
    """A copy of the body with something odd at one place."""
    whole = deepcopy(body)
    holder: Any = whole
    for step in place[:-1]:
        holder = holder[step]
    if odd == DROPPED:
        del holder[place[-1]]
    else:
        holder[place[-1]] = deepcopy(odd)
    return whole


def _made() -> dict[str, str]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    bare = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    authority = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, SHA256())
    return {
        "REQUEST": base64.b64encode(request.public_bytes(Encoding.PEM)).decode(),
        "DER": base64.b64encode(bare.public_bytes(Encoding.DER)).decode(),
        "AUTHORITY": authority.public_bytes(Encoding.PEM).decode().replace("\n", "\\n"),
    }
