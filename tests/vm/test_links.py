"""Rules on the links of real virtual machines: on the host's tap devices, seen from inside the machines."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from labctl.providers.linkrules import script
from labctl.providers.protocol import LinkRule
from labctl.providers.vagrant.provider import VagrantProvider
from tests.e2e.links import CONNECT, RECEIVE, SEND
from tests.vm.labs import NEEDS_A_LIBVIRTD, PATIENCE, Lab

pytestmark = [NEEDS_A_LIBVIRTD, pytest.mark.root, pytest.mark.timeout(600)]

FROM_2 = ("10.245.1.12", "10.246.2.0/24")
COUNT = 1_000
PORT = 20_001


@pytest.fixture
def lab(virtual: Lab) -> Iterator[Lab]:
    virtual.put_right()
    before = host_side()
    yield virtual
    for name in virtual.provider.machines():
        for tag in list(virtual.provider.link_rules(name)):
            virtual.provider.remove_rule(name, tag)
    assert host_side() == before


def host_side() -> str:
    """What a rule could leave behind."""
    done = subprocess.run(
        ["sh", "-c", "nft -s list ruleset; tc qdisc show | sed s/8...:/N:/; ip -o link | grep ifb"], capture_output=True, text=True
    )
    return done.stdout


def add(lab: Lab, rule: LinkRule) -> VagrantProvider:
    """Give minion-1's link the rule, or skip where this host's kernel can't."""
    if why_not := lab.provider.why_no_rule(rule):
        pytest.skip(why_not)
    lab.provider.add_rule("minion-1", "one", rule)
    return lab.provider


def arrived(lab: Lab) -> tuple[int, int]:
    """Of the packets that minion-2 sends to minion-1: how many arrived, and how often in all."""
    receive = f"python3 -c {shlex.quote(RECEIVE)} {PORT} {3 * PATIENCE:g}"
    send = f"python3 -c {shlex.quote(SEND)} 10.245.1.11 {PORT} {COUNT}"
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(lab.on, "minion-1", receive)
        lab.on("minion-1", f"until ss -lun | grep -q :{PORT}; do sleep 0.05; done")
        lab.on("minion-2", send)
        distinct, all_ = receiving.result().split()[-2:]
    return int(distinct), int(all_)


def round_trip_s(lab: Lab) -> float:
    return float(lab.on("minion-2", f"python3 -c {shlex.quote(CONNECT)} 10.245.1.11 22"))


def test_packets_are_lost_in_that_share(lab: Lab) -> None:
    provider = add(lab, LinkRule("loss", "in", FROM_2, share=0.3))
    assert 0.62 * COUNT < arrived(lab)[0] < 0.78 * COUNT
    provider.remove_rule("minion-1", "one")
    assert arrived(lab)[0] > 0.98 * COUNT


def test_one_way_is_cut(lab: Lab) -> None:
    provider = add(lab, LinkRule("cut", "in", FROM_2))
    assert arrived(lab)[0] == 0
    provider.remove_rule("minion-1", "one")
    assert arrived(lab)[0] > 0.98 * COUNT


def test_packets_are_late(lab: Lab) -> None:
    before = round_trip_s(lab)
    add(lab, LinkRule("delay", "both", FROM_2, delay_s=0.1))
    assert 0.19 < round_trip_s(lab) - before < 0.4


def test_packets_come_twice(lab: Lab) -> None:
    add(lab, LinkRule("duplicate", "in", FROM_2, share=0.5))
    distinct, all_ = arrived(lab)
    assert 1.4 < all_ / distinct < 1.6


INSIDE = """
set -e
ip netns add far
trap 'ip netns del far' EXIT
ip link add m1-abcdef type veth peer name eth0 netns far
ip address add 10.99.0.1/24 dev m1-abcdef
ip link set m1-abcdef up
ip -n far address add 10.99.0.2/24 dev eth0
ip -n far link set eth0 up
ip netns exec far python3 -m http.server 80 >/dev/null 2>&1 &
server=$!
trap 'kill $server; ip netns del far' EXIT
until ip netns exec far ss -ltn | grep -q :80; do sleep 0.1; done
{rules}
python3 -c {connect} 10.99.0.2 80
"""
"""A link of the form that a namespace machine has, inside a virtual machine, whose kernel has netem: the rules are those that a host with such a kernel gets."""


@pytest.mark.parametrize(
    ("rule", "least_s", "most_s"),
    [
        (LinkRule("delay", "both", delay_s=0.2), 0.4, 0.6),
        (LinkRule("delay", "in", ("10.99.0.1",), delay_s=0.2), 0.2, 0.4),
        (LinkRule("delay", "out", ("10.99.0.1",), delay_s=0.2), 0.2, 0.4),
        (LinkRule("delay", "out", ("10.99.0.9",), delay_s=0.2), 0.0, 0.2),
    ],
)
def test_a_kernel_with_netem_delays_in_that_direction(virtual: Lab, rule: LinkRule, least_s: float, most_s: float) -> None:
    virtual.put_right()
    text = INSIDE.format(rules=script("m1-abcdef", {"a": rule}), connect=shlex.quote(CONNECT))
    assert least_s <= float(virtual.on("minion-1", text)) < most_s * PATIENCE


def test_a_kernel_with_netem_sends_twice(virtual: Lab) -> None:
    virtual.put_right()
    rules = (
        script("m1-abcdef", {"a": LinkRule("duplicate", "in", share=1.0)}) + "before=$(cat /sys/class/net/m1-abcdef/statistics/tx_packets)"
    )
    text = INSIDE.format(rules=rules, connect=shlex.quote(CONNECT)) + "echo $before $(cat /sys/class/net/m1-abcdef/statistics/tx_packets)"
    text += "\ntc -s qdisc show dev m1-abcdef | grep -A1 netem | grep Sent\n"
    _, counts, sent = virtual.on("minion-1", text).splitlines()[:3]
    before, after = map(int, counts.split())
    assert after - before > 9 * 2 * 3, (counts, sent)  # nine connections: at least SYN, ACK and FIN of each, each of them twice
