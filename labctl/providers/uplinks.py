"""The socket at which a lab's machines reach the master, which is the same for every provider that has a network of its own."""

from __future__ import annotations

import socket

from labctl.errors import ProviderError


def listen(host: str, port: int) -> socket.socket:
    """Listen on the host's address in the lab's network, in the network namespace of the calling thread. Raises ProviderError if that is refused."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ProviderError(
            f"cannot listen on {host}:{port} in the lab's network: {error.strerror}",
            mend="end what listens there, or set addresses.machines",
        ) from error
    return listening
