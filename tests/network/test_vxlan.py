"""The VXLAN plug-in's plan, and the real helper that carries it out between network namespaces."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from labctl.errors import CommandFailed
from labctl.network.plugin import Peer, Place, Route
from labctl.network.route import RoutePlugin
from labctl.network.settings import NetworkSettings
from labctl.network.vxlan import PORT, VNI, VxlanPlugin
from tests.minions import Minions

ONE = Place("minion-1", "10.245.1.11", "10.246.1.0/24")
TWO = Place("minion-2", "10.245.1.12", "10.246.2.0/24")
YOUNG = Place("minion-3", "10.245.1.13", "")
DEVICE = "labctl-vxlan"


def program(me: Place, *places: Place):
    return VxlanPlugin().plan(me, places, NetworkSettings())


def test_a_minion_is_told_all_about_every_other():
    planned = program(ONE, ONE, TWO, YOUNG)
    assert planned.routes == (Route("10.247.0.0/16", link=True), Route("10.246.2.0/24", via="10.246.2.0", device=DEVICE))
    assert planned.tunnel.peers == (Peer("10.245.1.12", "10.246.2.0", "0e:6c:0a:f6:02:00"),)
    assert (planned.tunnel.inner, planned.tunnel.mac) == ("10.246.1.0", "0e:6c:0a:f6:01:00")


def test_a_packet_with_all_that_is_put_around_it_fits_the_link():
    assert program(ONE, ONE).tunnel.mtu == 1450
    assert VxlanPlugin().plan(ONE, [ONE], NetworkSettings(link_mtu_bytes=9000)).tunnel.mtu == 8950


def test_a_minion_without_a_pod_range_is_not_of_the_overlay_yet():
    planned = program(YOUNG, ONE, TWO, YOUNG)
    assert planned.tunnel is None
    assert planned.routes == (Route("10.247.0.0/16", link=True),)


# -- on real namespaces


@pytest.fixture
async def minions() -> AsyncIterator[Minions]:
    made = Minions()
    try:
        for number in (1, 2):
            await made.add(number)
            await made.call(f"minion-{number}", "facts", {"flavour": "auto"})
        yield made
    finally:
        await made.close()


async def send(minions: Minions, planned, name: str = "minion-1") -> int:
    return (await minions.call(name, "network", planned.params()))["changed"]


def entries(minions: Minions, *words: str) -> list:
    return json.loads(minions.nodes["minion-1"].run(*words) or "[]")


@pytest.mark.root
async def test_pods_of_two_minions_reach_each_other_through_the_tunnel(minions):
    for me in (ONE, TWO):
        assert await send(minions, program(me, ONE, TWO), me.name)
        assert not await send(minions, program(me, ONE, TWO), me.name), "what is right is left alone"
    here, there = minions.pod("10.246.1.2"), minions.pod("10.246.2.2")
    assert here.tcp(there.address, 8080) == (there.address, here.address)
    received = entries(minions, "ip", "-j", "-s", "link", "show", DEVICE)[0]["stats64"]["rx"]["packets"]
    assert received > 0, "and they went that way"


def wrapped(source: str, to: str, mac: str) -> bytes:
    """A packet with a false sender, as VXLAN carries it."""
    data = struct.pack("!HHHH", 5555, 9000, 8 + 5, 0) + b"false"
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(to))
    total = sum(struct.unpack("!10H", head))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", total ^ 0xFFFF) + head[12:]
    frame = bytes.fromhex(mac.replace(":", "") + "0e6c0af60100" + "0800")
    return struct.pack("!II", 0x08000000, VNI << 8) + frame + head + data


def listening(pod, port: int) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", port))
        made.settimeout(5)
        return made

    return pod.within(make)


@pytest.mark.root
async def test_no_pod_speaks_to_the_tunnel_itself(minions):
    """A device takes what comes to its port from anybody: a pod could wrap packets itself, with another pod as the sender."""
    for me in (ONE, TWO):
        await send(minions, program(me, ONE, TWO), me.name)
    here, there = minions.pod("10.246.1.2"), minions.pod("10.246.2.2")
    heard = listening(there, 9000)
    with listening(here, 9001) as pod:
        for device in ("10.245.1.11", "10.245.1.12", "10.246.1.0", "10.246.2.0"):
            pod.sendto(wrapped("10.246.1.99", there.address, "0e:6c:0a:f6:02:00"), (device, PORT))
        pod.sendto(b"true", (there.address, 9000))
    with heard:
        assert heard.recvfrom(100) == (b"true", (here.address, 9001))
        assert not select.select([heard], [], [], 0)[0]
    assert here.udp(there.address, 8080) == (there.address, here.address)


@pytest.mark.root
async def test_a_minion_that_left_is_forgotten_and_another_network_leaves_no_device(minions):
    await send(minions, program(ONE, ONE, TWO))
    await send(minions, program(ONE, ONE))
    assert entries(minions, "bridge", "-j", "fdb", "show", "dev", DEVICE) == []
    assert entries(minions, "ip", "-j", "neighbour", "show", "dev", DEVICE) == []
    await send(minions, RoutePlugin().plan(ONE, [ONE, TWO], NetworkSettings()))
    assert DEVICE not in minions.nodes["minion-1"].run("ip", "link")


HARM = (
    f"ip link delete {DEVICE}",
    f"bridge fdb del 0e:6c:0a:f6:02:00 dev {DEVICE} dst 10.245.1.12 self",
    f"ip neighbour del 10.246.2.0 dev {DEVICE}",
    f"ip link set {DEVICE} down",
)


@pytest.mark.root
@pytest.mark.parametrize("harm", HARM)
async def test_harm_is_told_and_mended_by_the_same_plan(minions, harm):
    told: asyncio.Queue = asyncio.Queue()
    minions.listen(lambda _name, method, params: told.put_nowait(method) if method == "digest" and params["routes"] else None)
    await send(minions, program(ONE, ONE, TWO))
    minions.nodes["minion-1"].run(*harm.split())
    async with asyncio.timeout(5):
        await told.get()
    assert await send(minions, program(ONE, ONE, TWO))
    assert not await send(minions, program(ONE, ONE, TWO))
    (fdb,) = entries(minions, "bridge", "-j", "fdb", "show", "dev", DEVICE)
    assert (fdb["mac"], fdb["dst"]) == ("0e:6c:0a:f6:02:00", "10.245.1.12")


@pytest.mark.root
async def test_nothing_that_is_no_address_reaches_a_command(minions):
    params = program(ONE, ONE, TWO).params()
    params["tunnel"]["peers"][0]["mac"] = "0e:6c:0a:f6:02:00 dev eth0"
    with pytest.raises(CommandFailed, match="no hardware address"):
        await minions.call("minion-1", "network", params)
    params = program(ONE, ONE, TWO).params()
    params["routes"][1]["device"] = "eth0; reboot"
    with pytest.raises(CommandFailed, match="none of labctl-vxlan"):
        await minions.call("minion-1", "network", params)
