"""gRPC health probes: against a real gRPC server where its library is installed, and against servers that answer in unusual or wrong ways."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from labctl.agent import grpc, huffman, probes
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


SESSION = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
SETTINGS = frame(4, 0, 0, b"")
SERVES, SERVES_NOT = b"\0\0\0\0\2\x08\x01", b"\0\0\0\0\2\x08\x02"
OK = b"\x88"
PLAIN = b"\x40\x0bgrpc-status\x010"
HUFFMAN = b"\x40\x88" + bytes.fromhex("9acac8b21234da8f") + b"\x82" + bytes.fromhex("0b5f")  # grpc-status: 14
STATUS_12 = b"\x00\x0bgrpc-status\x0212"


async def asked(answer, timeout_s=1.0, wait=False):
    async with serving(answer, wait) as port:
        return await grpc.check("127.0.0.1", port, "", timeout_s)


@pytest.mark.parametrize(
    ("spelled", "text"),
    [
        ("9acac8b21234da8f", "grpc-status"),
        ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),  # from here the examples of RFC 7541, appendix C
        ("a8eb10649cbf", "no-cache"),
        ("25a849e95ba97d7f", "custom-key"),
        ("6402", "302"),
        ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ("94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007", SESSION),
        ("ffffffff", ""),  # the sign for the end, which no text may have
    ],
)
def test_the_letters_are_those_of_the_standard(spelled, text):
    assert huffman.decoded(bytes.fromhex(spelled)) == text


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
    assert (await asked(frame(1, 5, 1, OK + HUFFMAN)))[1] == "error: health rpc probe failed: rpc error: code = Unavailable desc = "
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


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (14, "error: health rpc probe failed: rpc error: code = Unavailable desc = no, 100% of it"),
        (12, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no, 100% of it"),
        (99, "error: health rpc probe failed: rpc error: code = Unknown desc = no, 100% of it"),
    ],
)
async def test_what_a_server_says_of_its_failure_is_told(code, words):
    said = b"no, 100%25 of it"
    headers = OK + b"\x00\x0bgrpc-status\x02%d" % code + b"\x00\x0cgrpc-message" + bytes((len(said),)) + said
    assert await asked(frame(1, 5, 1, headers)) == (False, words)


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
        assert await probed("unknown") == (False, "error: health rpc probe failed: rpc error: code = NotFound desc = ")
    finally:
        server.stop(None)
