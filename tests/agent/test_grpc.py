"""gRPC health probes: against a real gRPC server where its library is installed, and against servers that answer in unusual or wrong ways."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from labctl.agent import grpc, probes
from labctl.agent.runtime.interface import Ran


@asynccontextmanager
async def serving(answer: bytes, wait: bool = False):
    """A server that says these bytes to whoever connects."""

    async def talk(reader, writer):
        writer.write(answer)
        await writer.drain()
        while wait and await reader.read(1000):
            pass
        if not wait:
            await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(4, 0, 0, b"")
SERVES, SERVES_NOT = b"\0\0\0\0\2\x08\x01", b"\0\0\0\0\2\x08\x02"
OK = b"\x88"
PLAIN = b"\x40\x0bgrpc-status\x010"
HUFFMAN = b"\x40\x88" + grpc._huffman("grpc-status") + b"\x82" + grpc._huffman("14")
STATUS_12 = b"\x00\x0bgrpc-status\x0212"


async def asked(answer, timeout_s=1.0, wait=False):
    async with serving(answer, wait) as port:
        return await grpc.check("127.0.0.1", port, "", timeout_s)


def test_the_letters_are_those_of_the_standard():
    assert grpc._huffman("grpc-status").hex() == "9acac8b21234da8f"  # RFC 7541, appendix B; as any HPACK encoder spells it
    assert grpc._huffman("302").hex() == "6402", "the RFC's own example, C.4"


async def test_an_answer_in_pieces_padded_and_spelled_in_any_way():
    trailers = frame(1, 5, 1, PLAIN)
    assert await asked(SETTINGS + frame(1, 4, 1, OK) + frame(0, 0, 1, SERVES) + trailers) == (True, "")
    padded = frame(0, 8, 1, b"\x03" + SERVES + b"\0\0\0")
    assert await asked(SETTINGS + frame(6, 0, 0, b"12345678") + frame(1, 0, 1, OK) + frame(9, 4, 1, b"\x20") + padded + trailers) == (
        True,
        "",
    )
    assert await asked(frame(1, 4, 1, OK) + frame(0, 0, 1, SERVES_NOT) + trailers) == (
        False,
        'service unhealthy (responded with "NOT_SERVING")',
    )
    assert (await asked(frame(1, 5, 1, OK + HUFFMAN)))[1] == "error: health rpc probe failed: rpc error: code = Unavailable"
    assert "does not implement the grpc health protocol" in (await asked(frame(1, 5, 1, OK + STATUS_12)))[1]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        frame(7, 0, 0, b"\0" * 8),
        frame(3, 0, 1, b"\0" * 4),
        frame(1, 5, 1, b"\x40\x7f\xff\xff\xff\xff\xff\xff\xff"),
        frame(1, 5, 1, b"\x40\x0bgrpc"),
        frame(1, 5, 1, b"\xff\x80"),
        frame(1, 13, 1, b"\xff"),
        frame(0, 0, 1, b"x" * 60_000) * 3,
        frame(1, 5, 1, OK),
    ],
)
async def test_a_server_that_speaks_otherwise_has_failed(answer):
    good, why = await asked(answer)
    assert not good and why.startswith("error: health rpc probe failed: ")


async def test_a_server_that_says_nothing_and_one_that_is_not_there():
    assert await asked(SETTINGS, 0.1, wait=True) == (False, "timeout: health rpc did not complete within 0.1s")
    async with serving(b"") as port:
        pass
    good, why = await grpc.check("127.0.0.1", port, "", 1.0)
    assert (good, why) == (
        False,
        f'error: failed to connect service at "127.0.0.1:{port}": dial tcp 127.0.0.1:{port}: connect: connection refused',
    )


async def test_a_real_grpc_server():
    futures = pytest.importorskip("concurrent.futures")
    library, health = pytest.importorskip("grpc"), pytest.importorskip("grpc_health.v1.health")
    pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    services = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    server, servicer = library.server(futures.ThreadPoolExecutor(2)), health.HealthServicer()
    services.add_HealthServicer_to_server(servicer, server)
    servicer.set("lame", pb2.HealthCheckResponse.NOT_SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:

        async def run(_command, _timeout_s):
            return Ran(0, b"")

        async def probed(service):
            return await probes.ask({"grpc": {"port": port, "service": service}}, {}, "127.0.0.1", run, 5.0)

        assert await probed("") == (True, "")
        assert await probed("lame") == (False, 'service unhealthy (responded with "NOT_SERVING")')
        assert await probed("unknown") == (False, "error: health rpc probe failed: rpc error: code = NotFound")
    finally:
        server.stop(None)
