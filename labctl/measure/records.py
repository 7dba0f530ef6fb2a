"""A measurement as values and as a file: what each source sent, and what became of every single request.

`labctl measure` and the experiments write it; the timeline, the report and other people's programs read it. Nothing here sends a request or reads a clock.

The file is JSON lines: first a header (the measurement without its requests), then one line for each request. A name that ends with `.gz` means that the
file is compressed. All times are seconds of CLOCK_MONOTONIC on the master's host, the clock of the journal's `t`; 0.0 means: never reached.
A file may come from anybody, so every line, text, number and count has a bound, and a file that breaks one is refused in one line that says where.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Literal, get_args

import msgspec

from labctl.decoding import ready
from labctl.errors import LabctlError
from labctl.paths import written_whole

NEVER_S = 0.0  # a moment that was not reached. This very object is left out of files, which an equal number is not
MAX_REQUESTS = 2_000_000
MAX_SOURCES = 256
_MAX_LINE_BYTES, _MAX_FILE_BYTES = (
    1 << 20,
    1 << 30,
)  # the header, with all sources, is the longest line; of a compressed file: what it holds
_FORMAT: Literal["labctl measurement 1"] = "labctl measurement 1"

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Difference = Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]
_Name = Annotated[str, msgspec.Meta(max_length=600)]  # pod/NAMESPACE/NAME
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_REQUESTS)]

Outcome = Literal["ok", "refused", "timeout", "reset", "unreachable", "bad-status", "bad-answer", "unsent"]
"""refused: nobody listens there. timeout: no whole answer within the deadline. reset: the connection was ended by the other side. unreachable: no way to the
address, or no name. bad-status: an answer of HTTP from 400 up. bad-answer: not the answer of the protocol, or only a part of it. unsent: its time came, but
too many requests were waiting, or the source was late."""
OUTCOMES: tuple[str, ...] = get_args(Outcome)

Protocol = Literal["http", "https", "tcp", "udp"]


class Request(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One intended request. `intended_s` is when the rate demanded it, `started_s` when the source really began it."""

    source: _Name  # host, minion-1, pod/NAMESPACE/NAME
    intended_s: Seconds
    outcome: Outcome
    started_s: Seconds = NEVER_S
    connected_s: Seconds = NEVER_S
    first_byte_s: Seconds = NEVER_S
    ended_s: Seconds = NEVER_S
    status: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0  # of HTTP
    answered_by: _Name = ""  # the pod's name, where it was found out
    sent_to: _Name = ""  # without an answer: the pod that the minion's rules chose, where the kernel knows it


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One place that requests were sent from. `clock_offset_s` was added to its clock to get the master's host's; the error is at most the uncertainty."""

    name: _Name
    clock_offset_s: _Difference = 0.0
    clock_uncertainty_s: Seconds = 0.0
    kept_up: bool = True  # it began its requests when they were intended
    cpu_share: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0  # of one core
    sent: _Count = 0
    unsent: _Count = 0
    trouble: Annotated[str, msgspec.Meta(max_length=500)] = ""  # why it could not keep up, or how it was lost


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """Requests at a stated rate (of each source) to one target."""

    target: Annotated[str, msgspec.Meta(max_length=2000)]
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    protocol: Protocol
    keepalive: bool
    began_s: Seconds
    ended_s: Seconds
    began_at: Seconds  # since the epoch
    sources: Annotated[tuple[Source, ...], msgspec.Meta(max_length=MAX_SOURCES)]
    requests: tuple[Request, ...] = ()


class _Header(msgspec.Struct, frozen=True):
    format: Literal["labctl measurement 1"]
    count: _Count
    measurement: Measurement


def write(measurement: Measurement, path: Path) -> None:
    """Writes the file whole or not at all. Raises LabctlError if the disk refuses."""
    with written_whole(path) as new, _create(new) as file:
        file.writelines(encode(measurement))


def read(path: Path) -> Measurement:
    """Returns the measurement in the file. Raises LabctlError, which names the line, if the file is not one that `write` could have written."""
    try:
        with open_to_read(path) as file:
            return decode(_lines(file, str(path)), str(path))
    except EOFError:
        raise LabctlError(f"{path}: the compressed file was cut off") from None
    except (OSError, zlib.error) as error:
        raise LabctlError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None


def encode(measurement: Measurement) -> Iterator[bytes]:
    """Yields the lines of the file."""
    one = msgspec.json.Encoder().encode
    header = _Header(_FORMAT, len(measurement.requests), msgspec.structs.replace(measurement, requests=()))
    yield one(header) + b"\n"
    for request in measurement.requests:
        yield one(request) + b"\n"


def decode(lines: Iterable[bytes], where: str) -> Measurement:
    """Returns the measurement that the lines hold; `where` stands in front of what is wrong with them."""
    numbered = enumerate(lines, 1)
    _, first = next(numbered, (1, b""))
    header = _decoded(msgspec.json.Decoder(ready(_Header)), first, f"{where}, line 1")
    names = {source.name for source in header.measurement.sources}
    if len(names) < len(header.measurement.sources):
        raise LabctlError(f"{where}, line 1: a source is there twice")
    requests: list[Request] = []
    decoder = msgspec.json.Decoder(ready(Request))
    for number, line in numbered:
        here = f"{where}, line {number}"
        if len(requests) == header.count:
            raise LabctlError(f"{here}: more requests than the {header.count} of the first line")
        request = _decoded(decoder, line, here)
        _check(request, names, here)
        requests.append(request)
    if len(requests) < header.count:
        raise LabctlError(f"{where}: it has {len(requests)} of {header.count} requests: the file was cut off")
    return msgspec.structs.replace(header.measurement, requests=tuple(requests))


def _decoded(decoder: msgspec.json.Decoder, line: bytes, here: str):
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LabctlError(f"{here}: {str(error)[:300]}") from None


def _check(request: Request, sources: set[str], here: str) -> None:
    if request.source not in sources:
        raise LabctlError(f"{here}: the first line has no source {request.source[:100]!r}")
    last = request.intended_s
    for moment in (request.started_s, request.connected_s, request.first_byte_s, request.ended_s):
        if moment and moment < last:
            raise LabctlError(f"{here}: its times run backwards")
        last = moment or last


def _lines(file: IO[bytes], where: str) -> Iterator[bytes]:
    number = total = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
        number += 1
        total += len(line)
        if len(line) > _MAX_LINE_BYTES or total > _MAX_FILE_BYTES:
            raise LabctlError(f"{where}, line {number}: longer than a measurement's line or file may be")
        yield line


def _create(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        import gzip  # only who compresses pays for its import

        return gzip.GzipFile(path, "wb", compresslevel=6, mtime=0)  # type: ignore[return-value]
    return open(path, "wb")


def open_to_read(path: Path) -> IO[bytes]:
    """Opens a measurement's file, compressed or not. Reading it may raise OSError, EOFError and zlib.error."""
    if path.name.endswith(".gz"):
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]
    return open(path, "rb")
