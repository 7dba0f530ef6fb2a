"""Host ports of pods: which there are, and where packets end that are sent to them."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from labctl.defaults import MACHINE_PORTS
from labctl.proxy.chains import NO_RULES
from labctl.proxy.flows import stale
from labctl.proxy.hostports import HostPort, host_ports
from labctl.proxy.matches import Packet, World
from labctl.proxy.rules import Facts, rules, rules_of
from labctl.proxy.steps import Step
from labctl.proxy.tracer import Tables, trace
from labctl.resources.kinds.core_v1.pod_view import Pod

NODE = Facts("minion-1", "10.245.1.11")
ELSEWHERE = Facts("minion-2", "10.245.1.12")
WEB = HostPort("default/web", "minion-1", "TCP", "", 8080, "10.246.1.5", 80)


def pod(*ports, ip="10.246.1.5", phase="Running", **spec):
    spec = {"nodeName": "minion-1", "containers": [{"name": "c", "ports": list(ports)}]} | spec
    meta = {"namespace": "default", "name": "web"}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": {"podIP": ip, "phase": phase}}, Pod)


PORT = {"containerPort": 80, "hostPort": 8080}


def test_a_pods_host_ports():
    several = [PORT, {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "10.245.1.11"}, {"containerPort": 81}]
    dns = HostPort("default/web", "minion-1", "UDP", "10.245.1.11", 53, "10.246.1.5", 53)
    assert host_ports(pod(*several)) == (WEB, dns)
    assert host_ports(pod({**PORT, "hostIP": "0.0.0.0"})) == (WEB,)
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [PORT]}
    assert host_ports(pod(initContainers=[sidecar])) == (WEB,)


@pytest.mark.parametrize("none", [pod(PORT, ip=""), pod(PORT, phase="Failed"), pod(PORT, hostNetwork=True), pod(PORT, nodeName=""), None])
def test_a_pod_without_a_place_or_of_the_hosts_network_forwards_nothing(none):
    assert host_ports(none) == ()


@pytest.mark.parametrize(("protocol", "number"), sorted(MACHINE_PORTS))
def test_no_rule_takes_a_port_of_the_machine_itself(protocol, number):
    """A pod with host port 22 had the master's SSH, and the rule that sent it there could not be taken away any more."""
    mine = {"containerPort": 80, "hostPort": number, "protocol": protocol}
    assert host_ports(pod(mine)) == host_ports(pod({**mine, "hostIP": "10.245.1.11"})) == ()
    assert len(host_ports(pod({**mine, "hostPort": number + 1000}))) == 1


def ended(packet, *entries, facts=NODE):
    here = World(local=frozenset((facts.address,)), rng=Random(1), recent={})
    return trace(Tables.of(rules({"pods/default/web": entries}, facts)), packet, here)


def test_its_node_sends_everybody_to_the_pod():
    for source, interface, masqueraded in (
        ("10.245.1.1", "eth0", False),
        ("10.245.1.12", "eth0", False),
        ("10.246.1.9", "veth1", False),
        ("10.246.1.5", "veth2", True),
        ("10.245.1.11", "", False),
    ):
        trace_ = ended(Packet(source, "10.245.1.11", "tcp", 8080, interface), WEB)
        assert (trace_.packet.destination, trace_.packet.port, trace_.masqueraded) == ("10.246.1.5", 80, masqueraded), source
    by_loopback = ended(Packet("127.0.0.1", "127.0.0.1", "tcp", 8080), WEB)
    assert (by_loopback.packet.destination, by_loopback.masqueraded) == ("10.246.1.5", True)


def test_another_protocol_port_address_or_node_is_not_meant():
    one_address = msgspec.structs.replace(WEB, address="10.245.1.99")
    for packet, entry in (
        (Packet("10.245.1.1", "10.245.1.11", "udp", 8080, "eth0"), WEB),
        (Packet("10.245.1.1", "10.245.1.11", "tcp", 8081, "eth0"), WEB),
        (Packet("10.245.1.1", "10.245.1.11", "tcp", 8080, "eth0"), one_address),
    ):
        assert ended(packet, entry).verdict == "LOCAL"
    assert rules_of((WEB,), ELSEWHERE) == NO_RULES


def test_nobody_outside_reaches_a_loopback_address():
    assert ended(Packet("10.245.1.1", "127.0.0.1", "tcp", 22, "eth0")).verdict == "DROP"


def test_two_protocols_and_two_addresses_of_one_port_are_told_apart():
    udp = msgspec.structs.replace(WEB, protocol="UDP", pod="default/dns", pod_address="10.246.1.6")
    assert ended(Packet("10.245.1.1", "10.245.1.11", "udp", 8080, "eth0"), WEB, udp).packet.destination == "10.246.1.6"
    assert ended(Packet("10.245.1.1", "10.245.1.11", "tcp", 8080, "eth0"), WEB, udp).packet.destination == "10.246.1.5"


def test_udp_connections_to_a_host_port_go_with_its_pod():
    udp = msgspec.structs.replace(WEB, protocol="UDP")
    here = rules_of((udp,), NODE)
    assert stale([Step(here, NO_RULES)], (), NODE, lambda _: False) == {"udp": [{"address": "", "port": 8080, "serving": []}]}
    assert stale([Step(NO_RULES, here)], (udp,), NODE, lambda _: False) == {
        "udp": [{"address": "", "port": 8080, "serving": ["10.246.1.5"]}]
    }
    assert stale([Step(NO_RULES, NO_RULES)], (udp,), ELSEWHERE, lambda _: False) == {}


@pytest.mark.parametrize(
    "odd", [pod({**PORT, "hostIP": "::1"}), pod({**PORT, "hostIP": "fd00::1"}), pod(PORT, ip="fd00::5"), pod(PORT, ip="10.0.0.1 -j ACCEPT")]
)
def test_an_address_that_iptables_would_refuse_is_in_no_rule(odd):
    """It refuses everything that it is given together, the rules of all others too."""
    assert host_ports(odd) == ()
