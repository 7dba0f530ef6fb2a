"""SPDY/3.1 frames against another implementation of the same bytes: a small client's side, written from the specification."""

from __future__ import annotations

import asyncio
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.api.streams import spdy
from labctl.api.streams.carry import INBOX_BYTES, Inbox
from labctl.api.streams.spdy_channels import RESIZE, SpdyChannels


class Client:
    """kubectl's side: opens streams with compressed headers."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=spdy.DICTIONARY)

    def open(self, stream: int, fin: bool = False, **headers: str) -> bytes:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            block += struct.pack(">I", len(name)) + name.encode() + struct.pack(">I", len(value)) + value.encode()
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return control(1, struct.pack(">IIH", stream, 0, 0) + packed, int(fin))

    def headers(self, block: bytes) -> bytes:
        return self._inflate.decompress(block)


def control(kind: int, body: bytes, flags: int = 0, version: int = 3) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | len(body)) + body


def test_the_dictionary_is_everybodys() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, spdy.DICTIONARY_ADLER32)


def test_streams_share_one_compression() -> None:
    client, server = Client(), spdy.Framer()
    opened = list(server.feed(client.open(1, streamtype="error", port="80", requestid="0")))
    assert opened == [spdy.Opened(1, {"streamtype": "error", "port": "80", "requestid": "0"})]
    (second,) = server.feed(client.open(3, fin=True, streamtype="data", port="80", requestid="0"))
    assert second == spdy.Opened(3, {"streamtype": "data", "port": "80", "requestid": "0"}, fin=True)
    for stream in (1, 3):
        reply = server.reply(stream)
        assert reply[:4] == b"\x80\x03\x00\x02" and struct.unpack(">I", reply[8:12]) == (stream,)
        assert client.headers(reply[12:]) == b"\0\0\0\0"


def test_headers_that_unpack_to_megabytes_are_refused() -> None:
    client, server = Client(), spdy.Framer()
    bomb = client.open(1, streamtype="data", requestid="a" * (8 << 20))
    assert len(bomb) < 20_000
    with pytest.raises(spdy.ProtocolError, match="headers of more than 16 KB"):
        list(server.feed(bomb))
    many = Client().open(1, **{f"h{n}": "" for n in range(3_000)})
    with pytest.raises(spdy.ProtocolError, match="headers of more than 16 KB"):
        list(spdy.Framer().feed(many))


def test_a_stream_is_opened_once() -> None:
    """Who opens the same again and again would have as many connections as it likes under one number."""
    client, server = Client(), spdy.Framer()
    list(server.feed(client.open(3, streamtype="error")))
    for number in (3, 1, 0):
        with pytest.raises(spdy.ProtocolError, match=f"stream {number} after 3"):
            list(server.feed(client.open(number, streamtype="data")))


async def test_sizes_are_bounded_however_many_come_together() -> None:
    channels = SpdyChannels(None)  # type: ignore[arg-type]  # nothing is sent
    channels._channels[1] = RESIZE
    assert channels._data(spdy.Data(1, b'{"Width":1}\n{"Width":2}\n{"Wi')) == [
        (RESIZE, b'{"Width":1}'),
        (RESIZE, b'{"Width":2}'),
    ]
    assert channels._data(spdy.Data(1, b'dth":3}\n')) == [(RESIZE, b'{"Width":3}')]
    assert channels._data(spdy.Data(1, b"\n" * (16 << 20))) == []
    assert channels._data(spdy.Data(1, b"a" * (16 << 20))) == [] and len(channels._size) <= 4096


async def test_what_a_pod_does_not_take_waits_with_its_client() -> None:
    inbox = Inbox()
    putting = asyncio.create_task(inbox.put(bytes(16 << 20)))
    await asyncio.sleep(0)
    assert not putting.done() and inbox._bytes <= 2 * INBOX_BYTES
    got = 0
    while not putting.done() or inbox._parts:
        got += len(await inbox.get())
        await asyncio.sleep(0)
    assert got == 16 << 20


def test_what_else_comes() -> None:
    server = spdy.Framer()
    frames = control(6, struct.pack(">I", 7)) + control(3, struct.pack(">II", 5, 1)) + control(7, bytes(8))
    frames += control(4, bytes(4)) + control(9, bytes(8)) + struct.pack(">II", 3, 1 << 24 | 2) + b"hi"
    assert list(server.feed(frames)) == [spdy.Ping(7), spdy.Reset(5), spdy.GoAway(), spdy.Data(3, b"hi", fin=True)]
    assert server.pong(7) == control(6, struct.pack(">I", 7))


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(0, 2**32))
def test_data_arrives_whole_however_it_is_cut(pieces: list[bytes], seed: int) -> None:
    sender, receiver, rng = spdy.Framer(), spdy.Framer(), random.Random(seed)
    wire = b"".join(sender.data(1, piece) for piece in pieces)
    got: list[bytes] = []
    while wire:
        size = rng.randint(1, 40)
        got += [frame.data for frame in receiver.feed(wire[:size]) if isinstance(frame, spdy.Data)]
        wire = wire[size:]
    assert got == pieces


@pytest.mark.parametrize(
    "bad",
    [control(1, bytes(10) + b"not zlib"), control(6, b""), control(1, bytes(10), version=2), control(1, b"\0"), b"\x00" * 4 + b"\x00\xff\xff\xff" + b"x"],
    ids=["headers", "ping", "version", "short", "unfinished"],
)  # fmt: skip
def test_nonsense_is_a_protocol_error_or_waits_for_more(bad: bytes) -> None:
    try:
        assert list(spdy.Framer().feed(bad)) == []
    except spdy.ProtocolError:
        pass


@given(st.binary(max_size=400))
def test_no_bytes_bring_it_down(noise: bytes) -> None:
    try:
        list(spdy.Framer().feed(noise))
    except spdy.ProtocolError:
        pass
