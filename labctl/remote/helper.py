"""The helper: one program kept running on a machine, asked over its standard input, so that a request costs no process and no quoting.

Who calls it: control.py, from the machine's worker thread, one request at a time. What flows: JSON bytes with a length of 4 bytes before them.
Whoever is root on a machine can speak in the helper's place, so nothing it says is believed before it is checked here: the size of a frame, its shape,
and the one thing it may say unasked, a digest (its rules or routes were changed by somebody else), with its fields. What is none of these ends it.
What it never does: read an answer's `result`; survive its connection; let a helper speak for the master, or more often than the master can hear.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
import paramiko

from labctl.decoding import from_json, ready
from labctl.errors import Deadline, Unreachable
from labctl.remote.connection import GONE, chunks, send
from labctl.remote.wire import TEXT_MAX, HelperRefused

STDERR_KEPT = 2000
FRAME_MOST_BYTES = 32 << 20  # the rules of ten thousand Services are 10 MB
UNASKED_MOST_BYTES = 1000
UNASKED_MAX = 20  # in a second; who says more waits. A helper looks twice a second


class Digest(msgspec.Struct):
    """Params of the one message that a helper sends unasked. Fields of other names are ignored."""

    rules: Annotated[str, msgspec.Meta(max_length=128)] = ""  # a digest of the rules as they are now; empty: they are as they were left
    routes: Literal["", "lost"] = ""
    forwarder: Literal["", "lost"] = ""
    dns: Literal["", "lost"] = ""


class _Answer(msgspec.Struct):
    """One without an `id` is said unasked."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Unasked(msgspec.Struct):
    method: Literal["digest"]
    params: Digest


class Helper:
    """`tell(digest)` and `ended()` are called from the helper's reader thread."""

    def __init__(self, machine: str, channel: paramiko.Channel, tell: Callable[[Digest], None], ended: Callable[[], None]) -> None:
        self._machine = machine
        self._channel = channel
        self._tell = tell
        self._ended = ended
        self._unasked: deque[float] = deque(maxlen=UNASKED_MAX)  # when the latest were said
        self._answers: queue.Queue[_Answer | None] = queue.Queue(maxsize=1)
        self._stderr = b""
        self._last_id = 0
        self.alive = True
        threading.Thread(target=self._listen, name=f"helper {machine}", daemon=True).start()

    def call(self, method: bytes, params: bytes, until: float) -> bytes:
        """Return the answer's `result` as JSON. A helper that is late or gone can't be used again: `alive` is False after that."""
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

    def _answer(self, until: float) -> _Answer:
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
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._stderr = f"it said what is no answer: {error}".encode()
        finally:
            self.close()
            with suppress(queue.Full):  # an answer that was given in time
                self._answers.put_nowait(None)
            self._ended()  # who relies on what it would say unasked starts another by asking

    def _take(self, buffer: bytearray) -> None:
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > FRAME_MOST_BYTES:
                raise ValueError(f"a frame of {size} bytes ({bytes(buffer[:40])!r})")
            if len(buffer) < 4 + size:
                return
            body = bytes(buffer[4 : 4 + size])
            del buffer[: 4 + size]
            said = _decode(body)
            if said.id is None:
                self._take_unasked(body)
            elif said.id == self._last_id:  # another is the answer to a question that nobody asks any more, or never did
                self._give(said)

    def _give(self, said: _Answer) -> None:
        try:
            self._answers.put_nowait(said)
        except queue.Full:
            raise ValueError(f"answer {said.id} for the second time") from None

    def _take_unasked(self, body: bytes) -> None:
        if len(body) > UNASKED_MOST_BYTES:
            raise ValueError(f"{len(body)} bytes that nobody asked for")
        digest = _decode_unasked(body).params
        now = time.monotonic()
        if len(self._unasked) == UNASKED_MAX and (early_s := self._unasked[0] + 1.0 - now) > 0:
            time.sleep(early_s)  # the machine's own channel fills up meanwhile, and nobody else's
        self._unasked.append(now)
        self._tell(digest)


_decode = msgspec.json.Decoder(ready(_Answer)).decode
_decode_unasked = msgspec.json.Decoder(ready(_Unasked)).decode


def _text(error: msgspec.Raw) -> str:
    """Return a refusal in the helper's words, bounded."""
    try:
        return from_json(error, str)[:TEXT_MAX]
    except (msgspec.MsgspecError, RecursionError):
        return bytes(error[:TEXT_MAX]).decode(errors="replace")
