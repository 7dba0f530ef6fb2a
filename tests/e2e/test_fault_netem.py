"""Faults of links that only a kernel with netem can do: delay, jitter, duplicate. Elsewhere they are refused (test_fault_objects.py), and this file is skipped.

`make test-in-vm` with this file as an argument tries them on namespace machines inside a virtual machine, whose kernel has netem.
"""

import json
import subprocess

import pytest

from tests.e2e.links import Links

TRY = "ip link add probe type veth peer name other && tc qdisc add dev probe root netem delay 1ms"
ADDRESS = {"minion-1": "10.245.1.11", "minion-2": "10.245.1.12"}
pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "--net", "--", "sh", "-c", TRY], capture_output=True).returncode != 0, reason="this kernel has no netem"
)


@pytest.fixture(scope="module")
def cluster(new_cluster):
    cluster = new_cluster("fault-netem")
    cluster.labctl("up", "--minions", "2", timeout_s=600)
    yield cluster
    cluster.destroy()


@pytest.fixture
def links(cluster, state):
    """The links, which have the same rules before and after."""
    links = Links(cluster)
    before = links.host_side(state / "s")
    yield links
    cluster.labctl("fault", "heal", "--all")
    assert links.host_side(state / "s") == before


def fault(cluster, *words: str) -> dict:
    return json.loads(cluster.labctl("fault", *words, "-o", "json").stdout)


def test_packets_are_late_both_ways(cluster, links):
    before = links.round_trip_s("minion-2", ADDRESS["minion-1"])
    fault(cluster, "delay", "minion-1", "-p", "time=100ms", "--to", "minion-2")
    assert 0.19 < links.round_trip_s("minion-2", ADDRESS["minion-1"]) - before < 0.3


@pytest.mark.parametrize("direction", ["in", "out"])
def test_packets_are_late_one_way(cluster, links, direction):
    before = links.round_trip_s("minion-2", ADDRESS["minion-1"])
    fault(cluster, "delay", "minion-1", "-p", "time=100ms", "--direction", direction)
    assert 0.09 < links.round_trip_s("minion-2", ADDRESS["minion-1"]) - before < 0.19


def test_packets_are_late_by_chance(cluster, links):
    before = links.round_trip_s("minion-2", ADDRESS["minion-1"])
    fault(cluster, "jitter", "minion-1", "-p", "time=200ms", "--direction", "in", "--to", "minion-2")
    assert 0.03 < links.round_trip_s("minion-2", ADDRESS["minion-1"]) - before < 0.2


def test_packets_come_twice(cluster, links):
    fault(cluster, "duplicate", "minion-1", "-p", "share=50%", "--direction", "in", "--to", "minion-2")
    distinct, all_ = links.arrived("minion-2", "minion-1", ADDRESS["minion-1"], 2_000)
    assert distinct > 1_900 and 1.4 < all_ / distinct < 1.6


def test_a_delay_and_a_rate_act_together(cluster, links):
    fault(cluster, "delay", "minion-1", "-p", "time=50ms", "--direction", "in", "--to", "minion-2")
    fault(cluster, "rate", "minion-1", "-p", "rate=4mbit", "--direction", "in", "--to", "minion-2")
    assert links.round_trip_s("minion-2", ADDRESS["minion-1"]) > 0.05
    assert 1e6 < links.bits_per_s("minion-2", "minion-1", ADDRESS["minion-1"], 3) < 5e6
