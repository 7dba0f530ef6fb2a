"""The walk that `labctl trace` shows: shares that are exact, counters, connections, differences; and texts that no real machine would say."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import LabctlError
from labctl.proxy.chains import as_text, parse, same
from labctl.proxy.dump import BYTES_MAX, Dump
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.matches import Packet
from labctl.proxy.rules import BASE, Base, Facts, rules
from labctl.proxy.walk import open_connections, walk

NODE = Facts(node="minion-1", address="10.245.1.11")
LOCAL = frozenset(("10.245.1.11",))
VIP, CLIENT, POD = "10.247.0.10", "10.245.1.11", "10.246.1.9"


def web(count, **more):
    backends = tuple(Backend(f"10.246.2.{n + 1}", 80, "minion-2", f"default/web-{n}") for n in range(count))
    return Frontend("default/web", "", "TCP", VIP, 80, backends, **more)


def text(frontend, counters=True, facts=NODE):
    """What iptables-save says of these rules; the n-th line was hit n times."""
    lines = as_text(rules({BASE: (Base(("10.245.1.11", "10.245.1.12")),), "default/web": (frontend,)}, facts)).splitlines()
    return "\n".join(f"[{n}:{n * 60}] {line}" if counters and line.startswith("-A") else line for n, line in enumerate(lines)) + "\n"


def walked(frontend, said=None, packet=None, wanted=None, facts=NODE, **more):
    said = text(frontend, facts=facts) if said is None else said
    packet = packet or Packet(CLIENT, VIP, "tcp", 80)
    return walk("minion-1", packet, Dump(said), LOCAL, frontend, text(frontend, False, facts) if wanted is None else wanted, **more)


@given(st.integers(1, 40))
def test_every_endpoint_has_its_exact_share(count):
    told = walked(web(count))
    assert [end.verdict for end in told.ends] == ["FORWARD"] * count
    assert all(end.probability == pytest.approx(1 / count, abs=1e-6) for end in told.ends)
    assert sum(end.probability for end in told.ends) == pytest.approx(1)
    assert {end.pod for end in told.ends} == {f"default/web-{n}" for n in range(count)}
    assert told.differences == ()


def test_steps_counters_and_who_is_seen():
    told = walked(web(2))
    assert [step.chain for step in told.steps][:2] == ["OUTPUT", "LABCTL-SERVICES"] and all(step.packets for step in told.steps)
    assert all(end.masqueraded and end.new_connections > 0 and end.bytes == end.new_connections * 60 for end in told.ends)
    from_pod = walked(web(2), packet=Packet(POD, VIP, "tcp", 80, "veth1"))
    assert [step.chain for step in from_pod.steps][0] == "PREROUTING" and not any(end.masqueraded for end in from_pod.ends)


def test_a_client_that_is_remembered_goes_to_its_endpoint_only():
    frontend = web(3, affinity_s=60)
    chains = parse(text(frontend, False)).nat.owned
    [chain] = [name for name, lines in chains.items() if any("to-destination 10.246.2.2:80" in line for line in lines)]
    told = walked(frontend, recent={chain: frozenset((CLIENT,))})
    assert [(end.address, end.probability, end.remembers_client) for end in told.ends] == [("10.246.2.2", 1.0, True)]
    assert len(walked(frontend, recent={chain: frozenset(("10.245.1.99",))}).ends) == 3


@pytest.mark.parametrize(
    "frontend, packet, verdict",
    [
        (web(0), Packet(CLIENT, VIP, "tcp", 80), "REJECT"),
        (web(2), Packet(CLIENT, VIP, "tcp", 81), "REJECT"),
        (web(2, node_port=30080), Packet("10.245.1.12", "10.245.1.11", "tcp", 30080, "eth0"), "FORWARD"),
        (web(2, node_port=30080, external_local=True), Packet("10.245.1.1", "10.245.1.11", "tcp", 30080, "eth0"), "DROP"),
        (web(2, external_addresses=("192.0.2.7",)), Packet(POD, "192.0.2.7", "tcp", 80, "veth1"), "FORWARD"),
        (web(2), Packet(CLIENT, "10.245.1.11", "tcp", 22), "LOCAL"),
    ],
)
def test_what_else_an_address_may_be(frontend, packet, verdict):
    assert {end.verdict for end in walked(frontend, packet=packet).ends} == {verdict}


def test_in_userspace_mode_the_forwarder_is_the_end():
    facts = Facts(node="minion-1", address="10.245.1.11", userspace=True)
    [end] = walked(web(3, local_port=20001), facts=facts).ends
    assert (end.verdict, end.address, end.port) == ("LOCAL", "10.245.1.11", 20001)


def test_differences_are_told_line_by_line():
    frontend, older = web(2), web(3)
    told = walked(frontend, said=text(older))
    assert any(line.startswith("+ nat LABCTL-SVC") for line in told.differences)
    flushed = walked(frontend, said="*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n")
    assert flushed.ends[0].address == VIP and any(line.startswith("- nat OUTPUT -j LABCTL-SERVICES") for line in flushed.differences)
    assert walk("minion-1", Packet(CLIENT, VIP), Dump(text(frontend)), LOCAL, frontend, None).wanted is False


@given(st.integers(0, 5))
def test_rules_as_text_are_read_back(count):
    made = rules({BASE: (Base(),), "default/web": (web(count),)}, NODE)
    assert same(parse(as_text(made)), made)


def test_connections_are_counted_by_who_answers():
    lines = [
        f"tcp      6 86399 ESTABLISHED src=10.245.1.11 dst={VIP} sport=40{n} dport=80 src=10.246.2.{n % 2 + 1} dst=10.245.1.11 sport=80 dport=40{n} [ASSURED] mark=0 use=1"
        for n in range(3)
    ]
    lines += [
        f"ipv4     2 udp      17 25 src=1.2.3.4 dst={VIP} sport=9 dport=80 src=10.246.2.1 dst=1.2.3.4 sport=80 dport=9 use=2",
        "x" * 5000,
        "",
    ]
    assert open_connections(lines, Packet(CLIENT, VIP, "tcp", 80)) == {("10.246.2.1", 80): 2, ("10.246.2.2", 80): 1}
    assert walked(web(2), connections=lines).ends[0].open_connections == 2


def test_lines_of_others_are_passed_over_and_told():
    said = text(web(2)).replace("*nat\n", "*nat\n-A OUTPUT -m owner --uid-owner 1000 -j DOCKER\n[1:2] -A OUTPUT -m bpf 'oops\n")
    told = walked(web(2), said=said)
    assert len(told.ends) == 2 and len(told.unread) == 2


HOSTILE = {
    "nothing": "",
    "a loop": "*nat\n-A OUTPUT -j A\n-A A -j B\n-A B -j A\n",
    "no options": "*nat\n-A OUTPUT -j DNAT\n-A OUTPUT -j MARK\n",
    "no numbers": "*nat\n-A OUTPUT -j DNAT --to-destination x:y\n",
    "a tree without end": "*nat\n-A OUTPUT -j C0\n" + "".join(f"-A C{n} -j C{n + 1}\n" * 20 for n in range(14)),
    "many ways": "*nat\n" + "-A OUTPUT -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x1/0x1\n" * 40,
    "noise": "*\n:\n-A\n-A \n[9:9] -A\n*nat\n-A OUTPUT\n:x\n[" + "9" * 99 + ":1] -A OUTPUT -j X\n" + "\x00\x1b[31m\n",
    "long lines": "*nat\n-A OUTPUT -m comment --comment " + "x" * 100_000 + " -j ACCEPT\n",
    "many lines": "*nat\n" + "-A OUTPUT -d 10.247.0.99/32 -j ACCEPT\n" * 200_000,
    "many chains": "*nat\n" + "".join(f":C{n} - [0:0]\n" for n in range(200_000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_machine_costs_little_and_at_most_one_line(name):
    """In a process of its own, with a bound on its memory and its time."""
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from tests.proxy.test_walk import HOSTILE, walked, web
from labctl.errors import LabctlError
try:
    told = walked(web(3), said=HOSTILE[sys.argv[1]])
    assert len(told.differences) <= 50 and len(told.unread) <= 20, told
except LabctlError as error:
    assert len(error.message) < 300 and "\\n" not in error.message
"""
    done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


def test_rules_that_are_too_long_are_refused():
    with pytest.raises(LabctlError, match="longer than"):
        Dump("x" * (BYTES_MAX + 1))
