"""The helper: one program kept running on a machine, asked over its standard input, so that a request costs no process and no quoting.

Who calls it: control.py, from the machine's worker thread, one request at a time. What flows: JSON bytes with a length of 4 bytes before them.
What it never does: read the JSON beyond `id`, `result` and `error`; survive its connection.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import msgspec
import paramiko

from labctl.errors import Deadline, Unreachable
from labctl.remote.connection import GONE, chunks, send
from labctl.remote.wire import HelperRefused

STDERR_KEPT = 2000
FRAME_MOST_BYTES = 64 << 20


class _Said(msgspec.Struct):
    """An answer has an `id`; what has none is said unasked."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"null")


class Helper:
    """`tell(method, params JSON)` is called from the helper's reader thread."""

    def __init__(self, machine: str, channel: paramiko.Channel, tell: Callable[[str, bytes], None]) -> None:
        self._machine = machine
        self._channel = channel
        self._tell = tell
        self._answers: queue.SimpleQueue[_Said | None] = queue.SimpleQueue()
        self._stderr = b""
        self._last_id = 0
        self.alive = True
        threading.Thread(target=self._listen, name=f"helper {machine}", daemon=True).start()

    def call(self, method: bytes, params: bytes, until: float) -> bytes:
        """The answer's `result` as JSON. A helper that is late or gone is of no further use: `alive` is False after that."""
        self._last_id += 1
        body = b'{"id":%d,"method":%s,"params":%s}' % (self._last_id, method, params)
        try:
            send(self._channel, len(body).to_bytes(4, "big") + body)
        except GONE:
            self.close()
            raise self._gone() from None
        said = self._answer(until)
        if bytes(said.error) != b"null":  # a Raw equals nothing but itself
            raise HelperRefused(_text(said.error))
        return bytes(said.result)

    def close(self) -> None:
        self.alive = False
        self._channel.close()

    def _answer(self, until: float) -> _Said:
        while True:
            try:
                said = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self.close()
                raise Deadline(f"{self._machine}: the helper did not answer in time") from None
            if said is None:
                raise self._gone()
            if said.id == self._last_id:
                return said

    def _gone(self) -> Unreachable:
        said = self._stderr.decode(errors="replace").strip()
        return Unreachable(f"{self._machine}: the helper ended" + (f": {said}" if said else ""))

    def _listen(self) -> None:
        """Runs in a thread of its own until the channel ends."""
        buffer = bytearray()
        try:
            for source, data in chunks(self._channel):
                if source == 2:
                    self._stderr = (self._stderr + data)[-STDERR_KEPT:]
                    continue
                buffer += data
                self._take(buffer)
        except (msgspec.MsgspecError, ValueError) as error:
            self._stderr = f"it said what is no answer: {error}".encode()
        finally:
            self.close()
            self._answers.put(None)
            self._tell("helper", b'{"state":"ended"}')  # who relies on what it would say unasked starts another by asking

    def _take(self, buffer: bytearray) -> None:
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > FRAME_MOST_BYTES:
                raise ValueError(f"a frame of {size} bytes ({bytes(buffer[:40])!r})")
            if len(buffer) < 4 + size:
                return
            said = _decode(bytes(buffer[4 : 4 + size]))
            del buffer[: 4 + size]
            if said.id is None:
                self._tell(said.method, bytes(said.params))
            else:
                self._answers.put(said)


_decode = msgspec.json.Decoder(_Said).decode


def _text(error: msgspec.Raw) -> str:
    value = msgspec.json.decode(error)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
