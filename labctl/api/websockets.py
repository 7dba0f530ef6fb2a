"""WebSockets as all handlers use them: which request asks for one, how one is made, and how what its client sends is read.

aiohttp would refuse a bad handshake only when the answer begins, and a command on a machine or a watch in the store has begun by then. And it would
answer pings itself, thousands without a pause. So both are done here.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence

from aiohttp import ClientConnectionResetError, HttpVersion11, WSMessage, WSMsgType, web

from labctl.api import status
from labctl.api.turns import Turns

HEARTBEAT_S = 30.0
IGNORED_MAX_BYTES = 64 << 10  # of one message, where nobody reads what the client says
_KEY_BYTES = 16
_VERSION = "13"
_CONTROL = frozenset({WSMsgType.PING, WSMsgType.PONG})


def wanted(request: web.BaseRequest) -> bool:
    """Tells whether a request asks for a WebSocket: with `Upgrade` and `Connection`, as Kubernetes looks at it. Raises 400 if it then does so wrongly."""
    headers = request.headers
    if headers.get("Upgrade", "").strip().lower() != "websocket" or request.version < HttpVersion11:
        return False
    tokens = (token.strip().lower() for value in headers.getall("Connection", ()) for token in value.split(","))
    if "upgrade" not in tokens:
        return False
    if request.method != "GET" or request.can_read_body:
        raise status.bad_request("websocket: a handshake is a GET without a body")
    if headers.get("Sec-WebSocket-Version", "") != _VERSION:
        raise status.bad_request(f"websocket: unsupported version: {_VERSION} not found in 'Sec-Websocket-Version' header")
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        raise status.bad_request("websocket: 'Sec-WebSocket-Key' header must be Base64 encoded value of 16-byte in length")
    return True


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):  # the latter for what is not ASCII
        return False


def new(
    protocols: Sequence[str] = (), *, message_max_bytes: int = IGNORED_MAX_BYTES, heartbeat_s: float | None = HEARTBEAT_S
) -> web.WebSocketResponse:
    """Returns a WebSocket that `incoming` reads. Without a heartbeat a client that has gone silently is noticed only by what is sent to it."""
    return web.WebSocketResponse(
        protocols=tuple(protocols), heartbeat=heartbeat_s, max_msg_size=message_max_bytes, autoping=False, compress=False
    )


async def incoming(socket: web.WebSocketResponse) -> AsyncIterator[WSMessage]:
    """Yields what the client says, until either side closes the WebSocket. Pings are answered; a client that does not read the answers is not read."""
    turns = Turns()
    try:
        async for message in socket:
            await turns.handled()
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type not in _CONTROL:
                yield message
    except ClientConnectionResetError:
        return
