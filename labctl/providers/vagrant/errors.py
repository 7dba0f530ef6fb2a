"""Turns libvirt's errors into one line for people, with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labctl.errors import ProviderError


def explain(error: Exception) -> ProviderError:
    """Turn libvirt's error about the host into one that says how to mend it."""
    text = str(error).strip()
    if "No such file" in text or "Connection refused" in text:
        return ProviderError("libvirtd is not running", mend="systemctl start libvirtd")
    if "Permission denied" in text or "authentication" in text or "access denied" in text:
        return ProviderError("you may not use libvirt's socket", mend='sudo usermod -aG libvirt "$USER", then log in again')
    if "already in use by interface" in text or "overlap" in text:
        return ProviderError(
            f"the machines' addresses are in use: {text}", mend="set addresses.machines in lab.yml, or destroy the other lab"
        )
    if "Cannot allocate memory" in text or "cannot set up guest memory" in text:
        return ProviderError("there is not enough memory for this machine", mend="labctl up --memory 512M, or fewer --minions")
    if "No space left" in text:
        return ProviderError("no room is left on the disk of libvirt's pool", mend="free some space in /var/lib/libvirt/images")
    return ProviderError(f"libvirt: {text}")


@contextmanager
def explained() -> Iterator[None]:
    import libvirt

    try:
        yield
    except libvirt.libvirtError as error:
        raise explain(error) from error
