"""The rendered rules in real kernels: packets from pods, minions and outside, on both flavours of iptables."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest

from labctl.network.plugin import Place
from labctl.network.route import RoutePlugin
from labctl.network.settings import NetworkSettings
from labctl.proxy.chains import Rules, digest, parse, same
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.hostports import HostPort
from labctl.proxy.matches import Packet, World
from labctl.proxy.patch import diff
from labctl.proxy.rules import BASE, Base, Entry, Facts, rules
from labctl.proxy.tracer import Tables, trace
from tests.minions import Minions, Namespace

pytestmark = pytest.mark.root
PLACES = [Place(f"minion-{n}", f"10.245.1.{10 + n}", f"10.246.{n}.0/24") for n in (1, 2)]
VIP = "10.247.0.9"
P1, P2, P3 = "10.246.1.2", "10.246.1.3", "10.246.2.2"


class Lab:
    """Two minions, three pods, and the pure steps applied by hand: what the Proxy does, without the Proxy."""

    def __init__(self, minions: Minions, flavour: str) -> None:
        self.minions = minions
        self.flavour = flavour
        self.facts: dict[str, Facts] = {}

    async def start(self) -> None:
        for number in (1, 2):
            await self.minions.add(number)
            name = f"minion-{number}"
            said = await self.minions.call(name, "facts", {"flavour": self.flavour})
            assert said["flavour"] == self.flavour
            self.facts[name] = Facts(
                name, f"10.245.1.{10 + number}", recent=said["recent"], random_fully=said["randomFully"], log=said["log"]
            )
            program = RoutePlugin().plan(PLACES[number - 1], PLACES, NetworkSettings()).params()
            assert (await self.minions.call(name, "network", program))["changed"]
            assert not (await self.minions.call(name, "network", program))["changed"]
        for address in (P1, P2, P3):
            self.minions.pod(address)
        self.minions.lab.batch("route add 10.247.0.0/16 via 10.245.1.11", "route add 192.0.2.0/24 via 10.245.1.12")

    def wanted(self, name: str, *entries: Entry) -> Rules:
        """The rules that a minion needs for these entries."""
        table = {str(number): (entry,) for number, entry in enumerate(entries)}
        return rules({BASE: (Base(tuple(place.address for place in PLACES)),)} | table, self.facts[name])

    async def serve(self, *entries: Entry) -> None:
        """Every minion has exactly these, read back in iptables' own words."""
        for name in self.facts:
            wanted = self.wanted(name, *entries)
            actual = parse((await self.minions.call(name, "dump", {}))["rules"])
            patch = diff(wanted, actual)
            if patch:
                await self.minions.call(name, "apply", {"rules": patch.text(), "commits": len(patch.commits())})
            dump = (await self.minions.call(name, "dump", {}))["rules"]
            assert same(parse(dump), wanted), diff(wanted, parse(dump)).text()
            assert (await self.minions.call(name, "digest", {}))["rules"] == digest(wanted)

    def answers(self, place: str, address: str = VIP, port: int = 80, times: int = 40) -> Counter:
        """Who answers, and whom they see."""
        return Counter(self.space(place).tcp(address, port) for _ in range(times))

    def space(self, place: str) -> Namespace:
        return {"lab": self.minions.lab, **self.minions.nodes, **self.minions.pods}[place]

    def refused(self, place: str, address: str = VIP, port: int = 80) -> None:
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            self.answers(place, address, port, times=1)
        assert time.monotonic() - began < 0.5, "at once"


def web(*addresses: str, **more) -> Frontend:
    given = {"service": "default/web", "name": "http", "protocol": "TCP", "address": VIP, "port": 80} | more
    return Frontend(backends=tuple(Backend(a, 8080, f"minion-{a.split('.')[2]}") for a in sorted(addresses)), **given)


@pytest.fixture(params=["nft", "legacy"])
async def lab(request) -> AsyncIterator[Lab]:
    minions = Minions()
    try:
        made = Lab(minions, request.param)
        await made.start()
        yield made
    finally:
        await minions.close()


def who(found: Counter) -> set[str]:
    return {answer for answer, _ in found}


async def test_a_virtual_address_from_everywhere(lab):
    await lab.serve(web(P1, P2, P3))
    for place, seen in (("minion-1", {"10.245.1.11"}), ("minion-2", {"10.245.1.12"}), ("lab", {"10.245.1.11"})):
        found = lab.answers(place)
        assert who(found) == {P1, P2, P3} and {saw for _, saw in found} == seen, place
    found = lab.answers(P1, times=40)
    assert who(found) == {P1, P2, P3}
    for answer, saw in found:
        assert saw == ("10.245.1.11" if answer == P1 else P1), "a pod is known by its own address, but to itself"


async def test_no_endpoints_is_refused_at_once_from_everywhere(lab):
    await lab.serve(web(P1))
    assert who(lab.answers("minion-2")) == {P1}
    await lab.serve(web(node_port=30080, external_addresses=("192.0.2.7",)))
    for place in ("minion-1", "minion-2", P1, P3, "lab"):
        for _ in range(10):  # the kernel sends ICMP to one client six times, then once a second
            lab.refused(place)
        lab.refused(place, "10.245.1.12", 30080)
        lab.refused(place, "192.0.2.7")
    lab.refused(P1, VIP, 81)
    lab.refused(P1, "10.247.77.77", 80)


async def test_a_udp_client_is_refused_too(lab):
    await lab.serve(web(protocol="UDP", port=53))
    for place, refusal in (
        ("minion-1", PermissionError),
        (P1, ConnectionRefusedError),
    ):  # a sender on the same machine is told by send itself
        with pytest.raises(refusal):
            {**lab.minions.nodes, **lab.minions.pods}[place].udp(VIP, 53)


async def test_node_ports_and_external_addresses(lab):
    await lab.serve(web(P1, P3, node_port=30080, external_addresses=("192.0.2.7",)))
    for place in ("lab", "minion-1", P2, P1):
        for address, port in (("10.245.1.11", 30080), ("10.245.1.12", 30080), ("192.0.2.7", 80)):
            assert who(lab.answers(place, address, port)) == {P1, P3}, (place, address)
    lab.refused("lab", "10.245.1.11", 30081)


async def test_local_traffic_policy_keeps_the_clients_address(lab):
    await lab.serve(web(P1, P3, node_port=30080, external_local=True))
    assert set(lab.answers("lab", "10.245.1.11", 30080)) == {(P1, "10.245.1.1")}
    assert set(lab.answers("lab", "10.245.1.12", 30080)) == {(P3, "10.245.1.1")}


async def test_who_of_the_lab_asks_a_local_port_is_served_where_no_endpoint_is(lab):
    await lab.serve(web(P3, node_port=30080, external_addresses=("192.0.2.7",), external_local=True))
    for place in ("minion-1", "minion-2", P1, P2, P3):
        for address, port in (("10.245.1.11", 30080), ("10.245.1.12", 30080), ("192.0.2.7", 80)):
            assert who(lab.answers(place, address, port, times=3)) == {P3}, (place, address)
    with pytest.raises(TimeoutError):
        lab.minions.lab.tcp("10.245.1.11", 30080, timeout_s=0.3)
    assert set(lab.answers("lab", "10.245.1.12", 30080)) == {(P3, "10.245.1.1")}


async def test_a_host_port_leads_to_its_pod_from_everywhere(lab):
    both = [HostPort("default/a", "minion-1", protocol, "", 8088, P1, 8080) for protocol in ("TCP", "UDP")]
    one_address = HostPort("default/b", "minion-1", "TCP", "10.245.1.11", 8089, P2, 8080)
    by_loopback = HostPort("default/c", "minion-1", "TCP", "127.0.0.1", 8090, P2, 8080)
    await lab.serve(*both, one_address, by_loopback)
    seen = {"lab": "10.245.1.1", "minion-1": "10.245.1.11", "minion-2": "10.245.1.12", P2: P2, P1: "10.245.1.11", P3: "10.245.1.12"}
    for place, source in seen.items():
        assert set(lab.answers(place, "10.245.1.11", 8088, times=2)) == {(P1, source)}, place
        assert lab.space(place).udp("10.245.1.11", 8088) == (P1, source), place
    assert who(lab.answers("minion-1", "127.0.0.1", 8088, times=2)) == {P1}
    assert who(lab.answers("minion-1", "127.0.0.1", 8090, times=2)) == {P2}
    assert who(lab.answers("lab", "10.245.1.11", 8089, times=2)) == {P2}
    for place, address, port in (("minion-1", "127.0.0.1", 8089), ("lab", "10.245.1.11", 8090), ("lab", "10.245.1.12", 8088)):
        lab.refused(place, address, port)
    lab.minions.lab.batch("route add 127.0.0.1/32 via 10.245.1.11 table 99")
    lab.minions.lab.batch("rule add to 127.0.0.1 priority 0 table 99")
    with pytest.raises(OSError):
        lab.minions.lab.tcp("127.0.0.1", 8090, timeout_s=0.3)


async def test_affinity(lab):
    await lab.serve(web(P1, P2, P3, affinity_s=60))
    for place in ("minion-1", P2):
        assert len(who(lab.answers(place))) == 1
    spread = {answer for _ in range(30) for answer in who(lab.answers("lab", times=1))}
    assert len(spread) == 1


DNS = {"service": "default/dns", "name": "dns", "protocol": "UDP", "address": "10.247.0.10", "port": 53}
LOGS = {"service": "default/logs", "name": "logs", "protocol": "UDP", "address": "10.247.0.11", "port": 514}


async def test_udp_and_what_conntrack_remembers(lab):
    """Exactly the entries of an endpoint that is gone from a Service go, though its pod serves another Service and is asked by its own address."""
    await lab.serve(web(P1, P3, **DNS, node_port=30053), web(P1, **LOGS))
    node = lab.minions.nodes["minion-1"]
    assert {node.udp("10.247.0.10", 53)[0] for _ in range(30)} == {P1, P3}
    stuck = node.udp("10.247.0.10", 53, source_port=40_000)[0]
    gone, left = stuck, P3 if stuck == P1 else P1
    assert node.udp("10.247.0.11", 514, source_port=40_001)[0] == P1
    assert node.udp(gone, 8080, source_port=40_002)[0] == gone
    await lab.serve(web(left, **DNS, node_port=30053), web(P1, **LOGS))
    assert node.udp("10.247.0.10", 53, source_port=40_000)[0] == gone, "the kernel remembers"
    before = remembered(node)
    fronts = [{"address": a, "port": p, "serving": [left]} for a, p in (("10.247.0.10", 53), ("", 30053))]
    assert (await lab.minions.call("minion-1", "conntrack", {"udp": fronts}))["deleted"] == 1
    assert before - remembered(node) == {e for e in before if e[0] in ("10.247.0.10", "10.245.1.11") and e[2] == gone} != set()
    assert node.udp("10.247.0.10", 53, source_port=40_000)[0] == left


async def test_udp_that_began_before_the_first_endpoint_finds_it(lab):
    node = lab.minions.nodes["minion-1"]
    await lab.serve()
    node.within(lambda: _send("10.247.0.10", 53, 40_000))
    vain = [e for e in remembered(node) if e[0] == "10.247.0.10"]
    await lab.serve(web(P3, **DNS))
    if vain:
        await lab.minions.call("minion-1", "conntrack", {"udp": [{"address": "10.247.0.10", "port": 53, "serving": [P3]}]})
    assert node.udp("10.247.0.10", 53, source_port=40_000)[0] == P3


def _send(address: str, port: int, source_port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.bind(("", source_port))
        one.sendto(b"?", (address, port))


def remembered(node) -> set[tuple[str, int, str]]:
    """(where it was sent, the port, who answers) of each UDP entry."""
    lines = node.run("conntrack", "-L", "-p", "udp").splitlines()
    words = [[word.partition("=")[2] for word in line.split() if word.startswith(("src=", "dst=", "dport="))] for line in lines]
    return {(found[1], int(found[2]), found[3]) for found in words}


async def test_nobody_waits_for_a_pod_whose_machine_lost_its_power(lab):
    """Who had just asked it is answered by another pod; who was connected is told at once. Without help TCP asks again after 1 s, or never."""
    await lab.serve(web(P3, node_port=30080))
    lab.minions.pods[P3].server.holds = True
    askers = [("minion-1", VIP, 80), (P1, VIP, 80), ("lab", "10.245.1.11", 30080)]
    idle = [await asyncio.to_thread(lab.space(place).within, lambda a=address, p=port: _connected(a, p)) for place, address, port in askers]
    unplugged = lab.minions.nodes["minion-2"].name[2:]
    lab.minions.lab.batch(f"link set m{unplugged} down")
    began = time.monotonic()
    asked = [asyncio.create_task(asyncio.to_thread(lab.space(place).tcp, address, port, 4)) for place, address, port in askers]
    while lab.minions.nodes["minion-1"].run("conntrack", "-L", "-p", "tcp").count("SYN_SENT") < 3:
        await asyncio.sleep(0.01)
    assert time.monotonic() - began < 0.9, "their first packets are on their way, and were not repeated yet"
    wanted = lab.wanted("minion-1", web(P2, node_port=30080))
    patch = diff(wanted, parse((await lab.minions.call("minion-1", "dump", {}))["rules"]))
    await lab.minions.call("minion-1", "apply", {"rules": patch.text(), "commits": len(patch.commits())})
    told = time.monotonic()
    done = await lab.minions.call("minion-1", "conntrack", {"tcp": [{"address": P3, "port": 8080}]})
    assert done["sent"] >= 6
    assert {(await one)[0] for one in asked} == {P2}
    assert time.monotonic() - told < 0.6, "TCP itself repeats its first packet after a second"
    for one in idle:
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(one.recv, 100)
        one.close()
    assert time.monotonic() - told < 0.6


async def test_who_waits_for_an_endpoint_that_left_is_answered_by_another_and_who_is_connected_stays(lab):
    """Entries that nobody answered would lead the next connection from the same port to an endpoint that has left."""
    await lab.serve(web(P3))
    lab.minions.pods[P3].server.holds = True
    idle = await asyncio.to_thread(lab.space("minion-1").within, lambda: _connected(VIP, 80))
    unplugged = lab.minions.nodes["minion-2"].name[2:]
    lab.minions.lab.batch(f"link set m{unplugged} down")
    asked = asyncio.create_task(asyncio.to_thread(lab.space("minion-1").tcp, VIP, 80, 4))
    node = lab.minions.nodes["minion-1"]
    while "SYN_SENT" not in node.run("conntrack", "-L", "-p", "tcp"):
        await asyncio.sleep(0.01)
    patch = diff(lab.wanted("minion-1", web(P2)), parse((await lab.minions.call("minion-1", "dump", {}))["rules"]))
    await lab.minions.call("minion-1", "apply", {"rules": patch.text(), "commits": len(patch.commits())})
    told = time.monotonic()
    done = await lab.minions.call("minion-1", "conntrack", {"unanswered": [{"address": P3, "port": 8080}]})
    assert (done["deleted"], done["sent"]) == (1, 1)
    assert (await asked)[0] == P2 and time.monotonic() - told < 0.5, "TCP itself repeats its first packet after a second"
    (left,) = [line for line in node.run("conntrack", "-L", "-p", "tcp", "--reply-src", P3).splitlines() if "ESTABLISHED" in line]
    assert f"sport={idle.getsockname()[1]}" in left
    idle.close()


async def test_who_asked_while_rules_were_flushed_is_answered_when_tcp_asks_again(lab):
    node = lab.minions.nodes["minion-1"]
    node.run("ip", "route", "replace", "10.247.0.0/16", "dev", "eth0")  # as on every minion (network/plugin.py)
    node.run("ip", "neighbour", "replace", VIP, "lladdr", "02:00:00:00:00:01", "dev", "eth0")  # so that it does not end when ARP gives up
    asked = asyncio.create_task(asyncio.to_thread(lab.space("minion-1").tcp, VIP, 80, 8))
    while "SYN_SENT" not in node.run("conntrack", "-L", "-p", "tcp"):
        await asyncio.sleep(0.01)
    await lab.serve(web(P2))
    assert (await lab.minions.call("minion-1", "conntrack", {"unrouted": [{"address": VIP, "port": 80}]}))["deleted"] == 1
    assert (await asked)[0] == P2


def _connected(address: str, port: int) -> socket.socket:
    """A connection whose greeting was read, and whose server keeps it open."""
    made = socket.create_connection((address, port), timeout=4)
    made.recv(200)
    return made


async def test_the_tracer_says_what_the_kernel_does(lab):
    """A machine's whole dump, other rooms' rules included, walked in Python: the same verdicts and ends as real connections."""
    await lab.serve(web(P1, P3, node_port=30080), web(address="10.247.0.11", service="default/empty"))
    node = lab.minions.nodes["minion-1"]
    tables = Tables.read(node.run(f"iptables-{lab.flavour}-save"))
    here = World(local=frozenset(("10.245.1.11",)), rng=Random(3))
    for place, source, interface in (("minion-1", "10.245.1.11", ""), (P1, P1, "veth1")):
        for address, port in ((VIP, 80), ("10.245.1.11", 30080), ("10.247.0.11", 80), (VIP, 81)):
            traced = [trace(tables, Packet(source, address, "tcp", port, interface), here) for _ in range(40)]
            if traced[0].verdict == "REJECT":
                lab.refused(place, address, port)
            else:
                assert who(lab.answers(place, address, port)) == {t.packet.destination for t in traced} == {P1, P3}
    outward = trace(tables, Packet(P1, "10.245.1.1", "tcp", 9000, "veth1"), here)
    assert outward.masqueraded and "LABCTL-NETWORK" in {s.chain for s in outward.steps}


async def test_pods_reach_pods_and_the_world_as_themselves_and_as_their_minion(lab):
    assert set(lab.answers(P1, P3, 8080, times=1)) == {(P3, P1)}
    assert set(lab.answers("minion-1", P3, 8080, times=1)) == {(P3, "10.245.1.11")}
    from tests.minions import Server

    outside = Server(lab.minions.lab, "world", 9000)
    try:
        assert set(lab.answers(P3, "10.245.1.1", 9000, times=1)) == {("world", "10.245.1.12")}
    finally:
        outside.close()


async def test_a_hand_that_is_not_ours_is_noticed_within_two_seconds(lab):
    await lab.serve(web(P1, P3))
    said: asyncio.Queue = asyncio.Queue()
    lab.minions.listen(lambda name, method, params: said.put_nowait((name, method, params["rules"])))
    node = lab.minions.nodes["minion-1"]
    await lab.serve(web(P1))
    await lab.serve(web(P1, P3))
    node.run(f"iptables-{lab.flavour}", "-t", "nat", "-F")
    async with asyncio.timeout(2):
        name, method, found = await said.get()
    assert (name, method) == ("minion-1", "digest")
    assert found != digest(lab.wanted("minion-1", web(P1, P3)))
    await lab.serve(web(P1, P3))
    assert said.empty(), "our own changes are no news"
    node.run(f"iptables-{lab.flavour}", "-t", "nat", "-A", "PREROUTING", "-d", "192.0.2.99", "-j", "ACCEPT")
    async with asyncio.timeout(2):
        assert (await said.get())[2] == digest(lab.wanted("minion-1", web(P1, P3)))


async def test_the_helper_refuses_what_is_not_ours(lab):
    from labctl.errors import CommandFailed

    for hostile in (
        "*nat\n-F\nCOMMIT\n",
        "*nat\n-A PREROUTING -j ACCEPT\nCOMMIT\n",
        "*mangle\nCOMMIT\n",
        "*nat\n:INPUT DROP [0:0]\nCOMMIT\n",
    ):
        with pytest.raises(CommandFailed, match="no rule of labctl's"):
            await lab.minions.call("minion-1", "apply", {"rules": hostile, "commits": 1})
    with pytest.raises(CommandFailed, match="not for the master to set"):
        await lab.minions.call("minion-1", "network", {"address": "10.245.1.11", "sysctls": {"kernel.hostname": 1}})
    with pytest.raises(CommandFailed, match="no IPv4 address"):
        await lab.minions.call("minion-1", "conntrack", {"tcp": [{"address": "1.2.3.4; reboot", "port": 1}]})
    with pytest.raises(CommandFailed, match="no method"):
        await lab.minions.call("minion-1", "__init__", {})
