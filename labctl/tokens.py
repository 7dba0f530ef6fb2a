"""The keys that sign ServiceAccounts' tokens: JWTs (RFC 7519) with ES256, by PyJWT.

Who calls it: `api` (signs for a TokenRequest, checks what a client brings, publishes the public halves), `master` (makes the keys, rotates them).
What flows: claims in, a token out, and back. The keys lie beside the lab's CA in `.labctl/pki/tokens/`, one file each, named so that the newest sorts last.
What it never does: know an object. Whether a token's ServiceAccount and pod still exist is for the caller to find out.

The newest key signs; all of them verify, so that a rotation breaks no program that runs. `rotate(revoke=True)` forgets the others: their tokens are
worth nothing from then on. PyJWT takes 70 ms to import, so it is imported with the first token, or by `warm`, and a lab without pods never pays.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.certificates import write_file
from labctl.errors import LabctlError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

ALGORITHM = "ES256"
TOKEN_MOST_CHARACTERS = 8192
KEYS_MAX = 8  # a rotation forgets the oldest of more
_REMEMBERED = 2048  # tokens whose signature was checked

Claims = Mapping[str, Any]


class TokenKeys:
    """The keys of one lab. Its methods are called on one loop."""

    def __init__(self, directory: Path) -> None:
        """Reads the keys; makes the first one if there is none. Raises LabctlError where a file can't be read."""
        self._directory = directory
        self._keys = _read(directory)
        self._verified: dict[str, Claims] = {}
        if not self._keys:
            self._add()

    def sign(self, claims: Claims) -> str:
        import jwt

        name = list(self._keys)[-1]
        return jwt.encode(dict(claims), self._keys[name], algorithm=ALGORITHM, headers={"kid": name})

    def verify(self, token: str) -> Claims | None:
        """Return the claims of a token that one of the keys signed, whatever they are, or None if none of the keys did."""
        known = self._verified.get(token)
        if known is not None:
            return known
        claims = self._checked(token) if len(token) <= TOKEN_MOST_CHARACTERS else None
        if claims is not None:
            if len(self._verified) >= _REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = claims
        return claims

    def _checked(self, token: str) -> Claims | None:
        import jwt

        only_the_signature: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                return None
            claims: Claims = jwt.decode(token, key.public_key(), algorithms=[ALGORITHM], options=only_the_signature)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return claims

    def rotate(self, *, revoke: bool = False) -> str:
        """Make a new key that signs from now on, and return its name. Older ones go on to verify, unless their tokens are revoked."""
        for name in list(self._keys)[: None if revoke else -(KEYS_MAX - 1)]:
            self._forget(name)
        self._verified.clear()
        return self._add()

    def public(self) -> list[dict[str, str]]:
        """Return the public halves as JSON Web Keys (RFC 7517)."""
        return [_public(name, key) for name, key in self._keys.items()]

    def warm(self) -> None:
        """Imports what signing needs, so that no request waits for it. May run in a thread."""
        import jwt  # noqa: F401

    def _add(self) -> str:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(key)
        last = max((int(path.name.partition("-")[0]) for path in _files(self._directory)), default=0)
        path = self._directory / f"{last + 1:06d}-{name}.key"
        write_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._keys[name] = key
        return name

    def _forget(self, name: str) -> None:
        del self._keys[name]
        for path in self._directory.glob(f"*-{name}.key"):
            with suppress(FileNotFoundError):
                path.unlink()


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9]*-*.key"))


def _read(directory: Path) -> dict[str, ec.EllipticCurvePrivateKey]:
    """Return the keys by name, the newest last."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    keys = {}
    for path in _files(directory):
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise LabctlError(f"{path} can't be read: {error}", mend="remove the file; tokens that it signed are refused then") from error
        assert isinstance(key, ec.EllipticCurvePrivateKey), "labctl makes EC keys only"
        keys[_name(key)] = key
    return keys


def _name(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a key's id, which follows from its public half, as Kubernetes makes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _base64url(hashlib.sha256(encoded).digest())


def _public(name: str, key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"use": "sig", "kty": "EC", "kid": name, "crv": "P-256", "alg": ALGORITHM, "x": x, "y": y}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
