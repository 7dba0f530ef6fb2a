"""This module carries Kubernetes' channels over a WebSocket: it chooses the subprotocol, and knows how a message carries a channel's bytes.

A message is one byte that names the channel, then its data; in the base64 forms it is text, a digit and then base64. Clients that name no
subprotocol get the oldest one, `channel.k8s.io`. `v4` sends the exit status in another form, and in `v5` a channel can be closed.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence

from aiohttp import WSMsgType

from labctl.api import status, websockets
from labctl.api.call import Call
from labctl.errors import Unreachable
from labctl.remote.interface import Remote

MESSAGE_MAX_BYTES = 32 << 20  # as in the library that Kubernetes' server uses
_DIGIT = ord("0")


def choose_protocol(call: Call, supported: Sequence[str]) -> str:
    """Returns the first supported subprotocol that the client offers; "" if it offers none. Raises 400."""
    offered = [p.strip() for value in call.request.headers.getall("Sec-WebSocket-Protocol", []) for p in value.split(",")]
    if not offered:
        return ""
    chosen = next((p for p in supported if p in offered), "")
    if not chosen:
        raise status.bad_request(f"unable to negotiate a subprotocol: client supports {offered}, server accepts {list(supported)}")
    return chosen


def not_upgraded(machine: str, remote: Remote) -> Exception:
    """Returns the error for a request without an upgrade that we know. If the machine is not connected, the error says that instead."""
    if not remote.connected(machine):
        return Unreachable(f"no connection to node {machine}")
    return status.bad_request("Upgrade request required: labctl streams over WebSocket and SPDY/3.1")


class ChannelSocket:
    """A WebSocket that carries numbered channels, in the form of its subprotocol."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self._base64 = "base64" in protocol
        self.response = websockets.new((protocol,) if protocol else (), message_max_bytes=MESSAGE_MAX_BYTES)

    async def send(self, channel: int, data: bytes) -> None:
        if self._base64:
            await self.response.send_str(chr(_DIGIT + channel) + b64encode(data).decode())
        else:
            await self.response.send_bytes(bytes((channel,)) + data)

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yields (channel, data) of each message until the client closes. A message that the subprotocol does not allow also ends the stream."""
        async for message in websockets.incoming(self.response):
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return
            data = message.data if isinstance(message.data, bytes) else message.data.encode()
            if not data:
                continue
            if not self._base64:
                yield data[0], data[1:]
                continue
            try:
                yield data[0] - _DIGIT, b64decode(data[1:], validate=True)
            except binascii.Error:
                return

    async def close(self) -> None:
        await self.response.close()
