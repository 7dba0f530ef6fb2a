"""The userspace forwarder on loopback: who is picked, what happens when nobody answers, and that both directions end as they should."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from labctl.agent.forwarder.balance import Balance
from labctl.agent.forwarder.main import Forwarder


def free(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Backends:
    """TCP servers that say their number, read to the end, and say how much they read."""

    def __init__(self) -> None:
        self.servers: list[asyncio.Server] = []

    async def add(self) -> list:
        name = str(len(self.servers)).encode()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(name)
            writer.write(b" %d" % len(await reader.read(-1)))
            writer.close()

        self.servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return ["127.0.0.1", self.servers[-1].sockets[0].getsockname()[1]]

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    made = Backends()
    yield made
    made.close()


@pytest.fixture
async def forwarder() -> AsyncIterator[Forwarder]:
    made = Forwarder("this", "")
    yield made
    await made.answer({"whole": True, "set": []})


def port(backends: list, number: int, protocol: str = "TCP", affinity_s: int = 0) -> dict:
    return {
        "id": f"default/web/{protocol}",
        "protocol": protocol,
        "address": "127.0.0.1",
        "port": number,
        "backends": backends,
        "affinityS": affinity_s,
    }


async def ask(number: int, data: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(data)
    writer.write_eof()
    try:
        async with asyncio.timeout(5):
            return await reader.read(-1)
    finally:
        writer.close()


async def test_connections_go_round(forwarder, backends):
    number = free()
    assert await forwarder.answer({"set": [port([await backends.add() for _ in range(3)], number)]}) == {
        "ports": 1,
        "failed": {},
        "otherProgram": False,
    }
    assert Counter([(await ask(number))[:1] for _ in range(9)]) == {b"0": 3, b"1": 3, b"2": 3}


async def test_both_directions_carry_everything_and_end_by_themselves(forwarder, backends):
    number = free()
    await forwarder.answer({"set": [port([await backends.add()], number)]})
    assert await ask(number, b"x" * 3_000_000) == b"0 3000000", "the client's end is passed on, the answer comes after it"


async def test_a_backend_that_refuses_is_passed_over(forwarder, backends):
    number = free()
    await forwarder.answer({"set": [port([["127.0.0.1", free()], await backends.add()], number)]})
    assert {await ask(number) for _ in range(4)} == {b"0 0"}


async def test_who_waits_for_a_backend_that_is_dropped_is_given_another_at_once(forwarder, backends):
    number = free()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.socket() as one, socket.socket() as other:
        for filling in (one, other):
            filling.setblocking(False)
            filling.connect_ex(deaf.getsockname())  # its queue is full: who asks next is not answered
        await forwarder.answer({"set": [port([list(deaf.getsockname())], number)]})
        asked = asyncio.create_task(ask(number))
        await asyncio.sleep(0.05)
        assert not asked.done()
        began = asyncio.get_running_loop().time()
        await forwarder.answer({"set": [port([await backends.add()], number)]})
        assert await asked == b"0 0"
        assert asyncio.get_running_loop().time() - began < 0.5


async def test_nobody_there_is_a_reset(forwarder):
    number = free()
    await forwarder.answer({"set": [port([["127.0.0.1", free()]], number)]})
    with pytest.raises(ConnectionResetError):
        await ask(number)


async def test_a_change_of_backends_keeps_the_listener_and_removal_closes_it(forwarder, backends):
    number, one, other = free(), await backends.add(), await backends.add()
    await forwarder.answer({"set": [port([one], number)]})
    await forwarder.answer({"set": [port([other], number)]})
    assert await ask(number) == b"1 0"
    assert (await forwarder.answer({"remove": ["default/web/TCP"]}))["ports"] == 0
    with pytest.raises(ConnectionRefusedError):
        await ask(number)


async def test_a_taken_port_is_said_and_harms_no_other(forwarder, backends):
    number, taken = free(), backends
    busy = (await taken.add())[1]
    answer = await forwarder.answer({"set": [port([], busy) | {"id": "a"}, port([await backends.add()], number) | {"id": "b"}]})
    assert list(answer["failed"]) == ["a"] and answer["ports"] == 1
    assert await ask(number) == b"1 0"


async def test_udp_goes_both_ways_and_leaves_a_backend_that_is_gone(forwarder):
    class Echo(asyncio.DatagramProtocol):
        def __init__(self, name: bytes) -> None:
            self.name = name

        def connection_made(self, transport) -> None:
            self.transport = transport

        def datagram_received(self, data, addr) -> None:
            self.transport.sendto(self.name + data, addr)

    loop = asyncio.get_running_loop()
    places = []
    for name in (b"a", b"b"):
        transport, _ = await loop.create_datagram_endpoint(lambda name=name: Echo(name), ("127.0.0.1", 0))
        places.append(list(transport.get_extra_info("sockname")))
    number = free(socket.SOCK_DGRAM)
    await forwarder.answer({"set": [port(places, number, "UDP")]})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", number))

        async def said() -> bytes:
            client.send(b"!")
            async with asyncio.timeout(2):
                return await loop.sock_recv(client, 100)

        first = await said()
        assert await said() == first, "one conversation, one backend"
        left = [place for place, name in zip(places, (b"a!", b"b!"), strict=True) if name != first]
        await forwarder.answer({"set": [port(left, number, "UDP")]})
        assert await said() != first


async def test_another_version_of_the_program_makes_it_end(forwarder):
    assert (await forwarder.answer({"program": "other", "set": []}))["otherProgram"]
    assert forwarder.ended.is_set()


def test_affinity_keeps_a_client_while_it_is_young_and_its_backend_is_there():
    balance = Balance()
    one, two = ("10.0.0.1", 1), ("10.0.0.2", 1)
    balance.set([one, two], 60)
    first = balance.pick("x", 0)[0]
    balance.served("x", first, 0)
    assert [balance.pick("x", now)[0] for now in (1, 30, 60)] == [first] * 3
    assert {balance.pick("x", 61)[0], balance.pick("x", 61)[0]} == {one, two}
    assert balance.set([two if first == one else one], 60) == [first]
    assert balance.pick("x", 1)[0] != first
