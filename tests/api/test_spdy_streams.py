"""exec, attach and port-forward over SPDY/3.1: the real kubectl told to use it, and a small client of our own for what kubectl never does."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from labctl.api.streams import spdy
from labctl.sim.remote import FakeHost, FakeRemote, Shell
from tests.api import minions
from tests.inprocess import ApiServer, ended

Lab = tuple[ApiServer, FakeHost, FakeRemote]
POD = "/api/v1/namespaces/default/pods/web"


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """kubectl 1.37 speaks SPDY as its elders did when its WebSockets are switched off."""
    monkeypatch.setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
    monkeypatch.setenv("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")
    async with minions.lab(tmp_path) as made:
        yield made


async def until(condition: Any, deadline_s: float = 5.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_kubectl_exec(lab: Lab) -> None:
    api, host, _ = lab
    assert await api.kubectl("exec", "web", "--", "echo", "two  words") == (0, "two  words\n", "")
    ran = await api.kubectl("exec", "web", "--", "complain")
    assert (ran.code, ran.out, ran.err) == (3, "out\n", "err\ncommand terminated with exit code 3\n")
    text = "".join(f"line {n}\n" for n in range(20_000))
    assert await api.kubectl("exec", "-i", "web", "--", "cat", stdin=text) == (0, text, "")
    await until(lambda: not host.running)


async def test_kubectl_attach(lab: Lab) -> None:
    api, _, _ = lab
    ran = await api.kubectl("attach", "-i", "web", stdin="hello\n")
    assert (ran.code, ran.out) == (0, "attached\nHELLO\n")


async def test_kubectl_exec_in_words(lab: Lab) -> None:
    api, _, remote = lab
    await minions.make_pod(api, "waiting", "a", status={"phase": "Pending"})
    ran = await api.kubectl("exec", "waiting", "--", "echo")
    assert ran.code == 1 and 'container not found ("a")' in ran.err
    remote.hosts[minions.ADDRESS].up = False
    remote.cut("minion-1")
    ran = await api.kubectl("exec", "web", "--", "echo")
    assert ran.code == 1 and "error dialing backend" in ran.err


async def test_kubectl_port_forward(lab: Lab) -> None:
    api, host, _ = lab
    host.ports[minions.POD_IP, 7] = minions.echo
    process = await api.start_kubectl("port-forward", "pod/web", ":7")
    assert process.stdout is not None
    try:
        port = int((await asyncio.wait_for(process.stdout.readline(), 10)).decode().split("127.0.0.1:")[1].split(" ")[0])
        sent = bytes(range(256)) * 8192

        async def once() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(-1), 20) == sent
            writer.close()

        await asyncio.gather(*(once() for _ in range(3)))
    finally:
        await ended(process)
    await until(lambda: not host.running)


# -- a client of our own


class Client:
    """One SPDY connection, frame by frame; its framing is written here anew, so that it can't share a mistake with the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._deflate = zlib.compressobj(level=9, zdict=spdy.DICTIONARY)
        self.next_stream = 1
        self.said: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.replied: set[int] = set()
        self.reset: set[int] = set()

    @classmethod
    async def connect(cls, api: ApiServer, path: str, *versions: str, method: str = "POST") -> tuple[str, Client]:
        """(the head of the answer, the client)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(api.authority.admin()))
        named = "".join(f"X-Stream-Protocol-Version: {version}\r\n" for version in versions)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{named}\r\n"
        writer.write(head.encode())
        return (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode(), cls(reader, writer)

    def open(self, **headers: str) -> int:
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self._control(1, struct.pack(">IIH", stream, 0, 0) + self._block(headers))
        return stream

    def data(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        self._writer.write(struct.pack(">II", stream, (1 << 24 if fin else 0) | len(data)) + data)

    def rst(self, stream: int) -> None:
        self._control(3, struct.pack(">II", stream, 5))

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self) -> bool:
        """One frame; False at the end of the connection."""
        try:
            first, second = struct.unpack(">II", await asyncio.wait_for(self._reader.readexactly(8), 10))
            body = await self._reader.readexactly(second & 0xFFFFFF)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        if not first >> 31:
            self.said[first] = self.said.get(first, b"") + body
            self.ended |= {first} if second >> 24 & 1 else set()
        elif first & 0xFFFF == 2:
            self.replied.add(struct.unpack_from(">I", body)[0])
        elif first & 0xFFFF == 3:
            self.reset.add(struct.unpack_from(">I", body)[0])
        return True

    async def until(self, condition: Any) -> None:
        while not condition():
            assert await self.read(), "the connection ended"

    async def rest(self) -> None:
        while await self.read():
            pass

    def close(self) -> None:
        self._writer.close()

    def _block(self, headers: Mapping[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                plain += struct.pack(">I", len(text)) + text
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def _control(self, kind: int, body: bytes) -> None:
        self._writer.write(struct.pack(">II", 0x80030000 | kind, len(body)) + body)


@pytest.mark.parametrize("version", ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", ""])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_exec_in_every_version(lab: Lab, version: str, method: str) -> None:
    api, _, _ = lab
    path = f"{POD}/exec?command=complain&stdout=true&stderr=true"
    head, client = await Client.connect(api, path, *([version] if version else []), method=method)
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert (f"X-Stream-Protocol-Version: {version}" in head) == bool(version)
    error, out, err = (client.open(streamType=name) for name in ("error", "stdout", "stderr"))
    await client.until(lambda: client.ended >= {error, out, err})
    assert (client.said[out], client.said[err]) == (b"out\n", b"err\n")
    words = b"command terminated with non-zero exit code: exit status 3"
    assert words in client.said[error]
    assert client.said[error].startswith(b"{") == version.startswith("v4")
    client.close()


async def test_a_version_that_nobody_speaks(lab: Lab) -> None:
    api, host, _ = lab
    for path in (f"{POD}/exec?command=echo", f"{POD}/portforward"):
        head, client = await Client.connect(api, path, "v9.channel.k8s.io")
        assert head.startswith("HTTP/1.1 403 ")
        client.close()
    assert not host.ran


async def test_a_terminal_its_sizes_and_the_end_of_its_input(lab: Lab) -> None:
    api, host, _ = lab
    shells: list[Shell] = []

    async def program(shell: Shell) -> int:
        shells.append(shell)
        await shell.write(await shell.read_all())
        return 0

    host.programs["python3"] = program
    path = f"{POD}/exec?command=x&tty=true&stdin=true&stdout=true"
    _, client = await Client.connect(api, path, "v4.channel.k8s.io", "v3.channel.k8s.io")
    streams = {name: client.open(streamType=name) for name in ("error", "stdin", "stdout")}
    client.data(streams["stdin"], b"early ")
    resize = client.open(streamType="resize")
    for part in (b'{"Width":132,"Hei', b'ght":50}\n{"Width":80,"Height":24}\nnonsense\n', b"x" * 100_000):
        client.data(resize, part)
    client.data(streams["stdin"], b"and late", fin=True)
    await client.until(lambda: streams["stdout"] in client.ended)
    assert client.said[streams["stdout"]] == b"early and late"
    assert (shells[0].sizes, shells[0].terminal is not None) == ([(132, 50), (80, 24)], True)
    client.close()


async def test_streams_that_nobody_asked_for_are_reset(lab: Lab) -> None:
    api, _, _ = lab
    _, client = await Client.connect(api, f"{POD}/exec?command=yes&stdout=true", "v4.channel.k8s.io")
    wrong = client.open(streamType="surprise")
    streams = [client.open(streamType=name) for name in ("error", "stdout", "stdout")]
    await client.until(lambda: client.reset == {wrong, streams[2]})
    client.close()


async def test_a_client_that_goes_ends_the_command(lab: Lab) -> None:
    api, host, _ = lab
    for before in (("error", "stdout"), ("error",), ()):
        _, client = await Client.connect(api, f"{POD}/exec?command=yes&stdout=true", "v4.channel.k8s.io")
        streams = {client.open(streamType=name) for name in before}
        await client.until(lambda streams=streams, client=client: client.replied >= streams)
        assert host.running
        client.close()
        await until(lambda: not host.running)


@pytest.mark.parametrize(
    "nonsense", [b"GET / HTTP/1.1\r\n\r\n", b"\x80\x02" + b"\0" * 6, b"\x80\x03\x00\x01\x00\xff\xff\xff", b"\x80\x03\0\1\0\0\0\4abcd"]
)
async def test_what_is_no_spdy_ends_the_connection(lab: Lab, nonsense: bytes, caplog: pytest.LogCaptureFixture) -> None:
    api, host, _ = lab
    for path in (f"{POD}/exec?command=yes&stdout=true", f"{POD}/portforward"):
        _, client = await Client.connect(api, path)
        client.raw(nonsense + b"\0" * 70_000)
        client.close()
    await until(lambda: not host.running)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_stopping_the_server_ends_it_at_once(lab: Lab) -> None:
    api, host, _ = lab
    _, client = await Client.connect(api, f"{POD}/exec?command=yes&stdout=true", "v4.channel.k8s.io")
    out = [client.open(streamType=name) for name in ("error", "stdout")][1]
    await client.until(lambda: out in client.said)
    async with asyncio.timeout(2):
        await api.server.stop()
    await client.rest()
    await until(lambda: not host.running)


async def test_port_forward_keeps_early_bytes_and_says_what_went_wrong(lab: Lab) -> None:
    api, host, _ = lab
    host.ports[minions.POD_IP, 7] = minions.echo
    head, client = await Client.connect(api, f"{POD}/portforward", "portforward.k8s.io")
    assert "X-Stream-Protocol-Version: portforward.k8s.io" in head
    error = client.open(streamType="error", port="7", requestID="1")
    data = client.open(streamType="data", port="7", requestID="1")
    client.data(data, b"at once", fin=True)
    await client.until(lambda: client.ended >= {error, data})
    assert (client.said[data], client.said[error]) == (b"at once", b"")
    refused_error = client.open(streamType="error", port="9", requestID="2")
    refused = client.open(streamType="data", port="9", requestID="2")
    await client.until(lambda: refused in client.ended)
    assert b"error forwarding port 9 to pod" in client.said[refused_error]
    alone = client.open(streamType="data", port="7", requestID="3")
    await client.until(lambda: alone in client.reset)
    client.close()
    await until(lambda: not host.running)
