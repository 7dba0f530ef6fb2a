"""The socket at which a lab's machines reach the master, which is the same for every provider."""

from __future__ import annotations

import socket

from labctl.errors import ProviderError


def listen(
    host: str, port: int, *, where: str = " in the lab's network", mend: str = "end what listens there, or set addresses.machines"
) -> socket.socket:
    """Listen on the host's address, in the network namespace of the calling thread. Raises ProviderError, with `where` and `mend`, if that is refused."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ProviderError(f"cannot listen on {host}:{port}{where}: {error.strerror}", mend=mend) from error
    return listening
