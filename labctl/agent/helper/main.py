"""`agent helper`: requests come as frames (4 bytes of length, then JSON) on standard input, answers go out the same way, one at a time and in order.

Who starts it: the master, on the control channel. It ends with that channel. Twice a second, when there is no request, it checks whether somebody
else changed our rules or routes and reports it unasked: {"method": "digest", "params": {...}}. It has one thread and no state that a restart would lose.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import Any, Dict, List, Optional

from .check import Refused
from .commands import Failed
from .methods import Methods

LOOK_S = 0.5
FRAME_BYTES_MAX = 64 << 20


class Frames:
    """Reads whole frames from the file descriptor `source`."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._buffer = bytearray()

    def next(self, wait_s: float) -> Optional[bytes]:
        """Return the next frame, or None if none came within `wait_s` seconds. Raises EOFError at the end of the input."""
        while not self._whole():
            if not select.select([self._source], [], [], wait_s)[0]:
                return None
            data = os.read(self._source, 1 << 20)
            if not data:
                raise EOFError
            self._buffer += data
        size = self._size()
        body = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        return body

    def _size(self) -> int:
        size = int.from_bytes(self._buffer[:4], "big")
        if size > FRAME_BYTES_MAX:
            raise EOFError  # labctl's master never sends so much
        return size

    def _whole(self) -> bool:
        return len(self._buffer) >= 4 and len(self._buffer) >= 4 + self._size()


def say(message: Dict[str, Any], target: int = 1) -> None:
    """Write a message as one frame to the file descriptor `target`."""
    body = json.dumps(message, separators=(",", ":")).encode()
    data = memoryview(len(body).to_bytes(4, "big") + body)
    while data:
        data = data[os.write(target, data) :]


def answer(methods: Methods, body: bytes) -> Dict[str, Any]:
    """Return the answer to one request: {"id", "result"}, or {"id", "error"} with one line. Raises ValueError if the body is no JSON."""
    request = json.loads(body)
    try:
        return {"id": request["id"], "result": methods.answer(request["method"], request.get("params") or {})}
    except (Refused, Failed, OSError, KeyError, TypeError, ValueError) as error:
        return {"id": request.get("id"), "error": f"{request.get('method')}: {error or type(error).__name__}"}


def main(argv: List[str]) -> int:
    methods, frames = Methods(os.path.realpath(sys.argv[0])), Frames(0)
    while True:
        try:
            body = frames.next(LOOK_S)
        except EOFError:
            return 0
        try:
            if body is not None:
                say(answer(methods, body))
            elif (changed := _unasked(methods)) is not None:
                say({"method": "digest", "params": changed})
        except BrokenPipeError:
            return 0


def _unasked(methods: Methods) -> Optional[dict]:
    try:
        return methods.unasked()
    except (Failed, OSError) as error:
        print(f"cannot look at the rules: {error}", file=sys.stderr, flush=True)
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
