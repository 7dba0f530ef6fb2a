"""Kubernetes' channels over a WebSocket: which subprotocol is spoken, and how a message carries a channel's bytes.

A message is one byte that names the channel, then its data; in the base64 forms it is text, a digit and then base64. Clients that name no
subprotocol get the oldest one, `channel.k8s.io`. `v4` differs from it in how the end is told, `v5` in that a channel can be closed.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence

from aiohttp import WSMsgType, web

from labctl.api import status
from labctl.api.call import Call
from labctl.errors import Unreachable
from labctl.remote.interface import Remote

HEARTBEAT_S = 30.0
MESSAGE_MOST_BYTES = 32 << 20  # as in the library that Kubernetes' server uses
_DIGIT = ord("0")


def choose_protocol(call: Call, supported: Sequence[str]) -> str:
    """The first supported subprotocol that the client offers. Who offers none gets none: "". Raises 400."""
    offered = [p.strip() for value in call.request.headers.getall("Sec-WebSocket-Protocol", []) for p in value.split(",")]
    if not offered:
        return ""
    chosen = next((p for p in supported if p in offered), "")
    if not chosen:
        raise status.bad_request(f"unable to negotiate a subprotocol: client supports {offered}, server accepts {list(supported)}")
    return chosen


def not_upgraded(machine: str, remote: Remote) -> Exception:
    """What is wrong with a request that wants no upgrade we know; with its machine first of all."""
    if not remote.connected(machine):
        return Unreachable(f"no connection to node {machine}")
    return status.bad_request("Upgrade request required: labctl streams over WebSocket and SPDY/3.1")


class ChannelSocket:
    """A WebSocket that carries numbered channels, in whichever form its subprotocol has."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self._base64 = "base64" in protocol
        protocols = (protocol,) if protocol else ()
        self.response = web.WebSocketResponse(protocols=protocols, heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_MOST_BYTES)

    async def send(self, channel: int, data: bytes) -> None:
        if self._base64:
            await self.response.send_str(chr(_DIGIT + channel) + b64encode(data).decode())
        else:
            await self.response.send_bytes(bytes((channel,)) + data)

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        """(channel, data) of each message until the client closes. What is no message of the subprotocol ends the stream as well."""
        async for message in self.response:
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
