"""The lab's SSH key, the only one that its machines' sshd accepts. It is Ed25519 in OpenSSH's own format (mode 0600), and made once."""

from __future__ import annotations

from pathlib import Path

from labctl.certificates import write_file


def ssh_key(path: Path) -> str:
    """Return the public half, one line for authorized_keys. The key is made if there is none."""
    public = path.with_suffix(".pub")
    if path.exists() and public.exists():
        return public.read_text().strip()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode() + " labctl"
    write_file(path, private, 0o600)
    write_file(public, line + "\n", 0o644)
    return line
