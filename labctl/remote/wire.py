"""What the master and the SSH process say to each other: MessagePack, each message with its length (4 bytes, big-endian) before it.

A request has an `id`, which its Answer or Failure carries back. A stream's `id` is chosen by the master; its bytes are counted both ways
(Credit), so that a slow end holds up its own stream and nothing else. The helper's JSON travels inside as bytes: only its two ends read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from labctl.decoding import from_values, ready
from labctl.errors import Deadline, HostKeyMismatch, RemoteError, Unreachable
from labctl.remote.interface import Target, Terminal
from labctl.remote.settings import RemoteSettings

CHUNK_BYTES = 32 << 10  # of a stream, in one message: what SSH puts into a packet
ANSWER_VALUES_MAX = 1_000_000
TEXT_MAX = 2_000  # characters of an error's text

_T = TypeVar("_T")


class Message(msgspec.Struct, tag=True, array_like=True):
    pass


# from the master


class Configure(Message):
    """The first message, once. `network_namespace` is a path to enter; empty: stay."""

    settings: RemoteSettings
    network_namespace: str = ""


class Connect(Message):
    id: int
    target: Target


class Forget(Message):
    """Not answered: the master has forgotten it already."""

    name: str


class Run(Message):
    id: int
    name: str
    argv: tuple[str, ...]
    stdin: bytes
    deadline_s: float


class Call(Message):
    id: int
    name: str
    method: bytes  # JSON
    params: bytes  # JSON
    deadline_s: float


class ResetHelper(Message):
    name: str


class Open(Message):
    """A command with its streams."""

    id: int
    name: str
    argv: tuple[str, ...]
    terminal: Terminal | None


class Dial(Message):
    id: int
    name: str
    host: str
    port: int


class Input(Message):
    id: int
    data: bytes


class EndInput(Message):
    id: int


class Resize(Message):
    id: int
    columns: int
    rows: int


class Close(Message):
    id: int


# both ways


class Credit(Message):
    """So many bytes of this stream were taken: as many more may be sent."""

    id: int
    size: int


# from the SSH process


class Answer(Message):
    """`status`, `stdout`, `stderr` of a Run; `stdout` is the helper's JSON for a Call; empty for the others."""

    id: int
    status: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


class Failure(Message):
    """Of a request, or the end of a stream. `kind` names a class of errors.py."""

    id: int
    kind: str
    text: str


class Opened(Message):
    id: int


class Output(Message):
    id: int
    source: int  # 1 stdout, 2 stderr
    data: bytes


class Ended(Message):
    """Nothing more comes from this stream."""

    id: int
    status: int


class Connected(Message):
    """A control connection was opened."""

    name: str
    generation: str
    took_s: float


class Lost(Message):
    """A control connection that was told as Connected has ended."""

    name: str
    generation: str
    reason: str


class HelperEnded(Message):
    """The helper's program on that machine runs no more; the next call starts another."""

    name: str


class Digest(Message):
    """What a machine's helper said unasked, the one thing it may: checked already, see helper.py."""

    name: str
    rules: str
    routes: str
    forwarder: str
    dns: str = ""


class Mistake(Message):
    """Something failed in the SSH process that its code does not expect to fail; `text` is one line. What else it does goes on."""

    where: str
    text: str


FromMaster = Configure | Connect | Forget | Run | Call | ResetHelper | Open | Dial | Input | EndInput | Resize | Close | Credit
FromWorker = Answer | Failure | Opened | Output | Ended | Credit | Connected | Lost | HelperEnded | Digest | Mistake

_encoder = msgspec.msgpack.Encoder()


def frame(message: Message) -> bytes:
    data = _encoder.encode(message)
    return len(data).to_bytes(4, "big") + data


class Frames:
    """Bytes as they come in, messages out."""

    def __init__(self, type_: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(ready(type_)).decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= 4:
            end = at + 4 + int.from_bytes(self._buffer[at : at + 4], "big")
            if end > len(self._buffer):
                break
            message = self._decode(memoryview(self._buffer)[at + 4 : end])
            at = end
            yield message
        del self._buffer[:at]


class HelperRefused(RemoteError):
    """The helper said no; on the master's side it becomes a CommandFailed, which knows the machine and the method."""


def decode_answer(name: str, method: str, data: bytes) -> Any:
    """Decode a helper's `result`. Raises RemoteError for one that would cost far more memory than its bytes: 32 MB of brackets are 2 GB of lists."""
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if values > ANSWER_VALUES_MAX:
        raise RemoteError(f"{name}: the helper's answer to {method} has more than {ANSWER_VALUES_MAX} values")
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RemoteError(f"{name}: the helper's answer to {method} can't be read: {error}") from None


def answered(name: str, method: str, answer: Any, type_: type[_T]) -> _T:
    """Return a helper's answer as the given type. Raises RemoteError for any other, because a helper may say anything."""
    try:
        return from_values(answer, type_)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RemoteError(f"{name}: the helper's answer to {method} is not what it must be: {error}") from None


def failure(id_: int, error: Exception) -> Failure:
    """Return an exception as it is sent. One that is no RemoteError is a mistake in the SSH process, and is sent as a RemoteError."""
    if isinstance(error, RemoteError):
        return Failure(id_, type(error).__name__, printable(error.message))
    return Failure(id_, RemoteError.__name__, printable(f"a mistake in the SSH process: {type(error).__name__}: {error}"))


def printable(text: str, most: int = TEXT_MAX) -> str:
    """Return a machine's words fit for a log and a terminal: bounded, and without control characters."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[:most])


def to_error(message: Failure) -> RemoteError:
    """Return the exception that was sent; one without a class of its own here is a RemoteError."""
    kinds = {each.__name__: each for each in (Unreachable, HostKeyMismatch, Deadline, HelperRefused)}
    return kinds.get(message.kind, RemoteError)(message.text)
