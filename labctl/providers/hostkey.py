"""A machine's SSH host key. The provider makes it, so that it is known from the start and never learned from the network."""

from __future__ import annotations

import os
from pathlib import Path


def ensure(path: Path) -> str:
    """Return the public half ('ssh-ed25519 AAAA...') of the key at `path`. The key is made if there is none."""
    public = path.with_suffix(".pub")
    if not _whole(public):
        private_text, public_text = _generate()
        _write(path, private_text)
        _write(public, public_text)  # written last: if it exists, the pair is complete
    return public.read_text().strip()


def _whole(public: Path) -> bool:
    """Tell whether the key pair is complete. It may not be if the host lost power while it was written."""
    return public.is_file() and public.read_bytes().startswith(b"ssh-ed25519 ")


def _generate() -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives import serialization  # it takes 60 ms to import, and only `up` needs it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return private, key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    os.replace(temporary, path)
