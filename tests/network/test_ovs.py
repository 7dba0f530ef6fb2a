"""The Open vSwitch plug-in's plan, and what the helper makes of it before any switch is asked."""

from __future__ import annotations

import json

import pytest

from labctl.agent.helper import check, ovs
from labctl.network.ovs import OvsPlugin
from labctl.network.plugin import Place
from labctl.network.settings import NetworkSettings

PLACES = [Place(f"minion-{n}", f"10.245.1.{10 + n}", f"10.246.{n}.0/24") for n in (1, 2, 200)]


def switch(me: Place) -> dict:
    """As it arrives at the helper."""
    return json.loads(json.dumps(OvsPlugin().plan(me, PLACES, NetworkSettings()).params()))["switch"]


def test_ports_are_called_by_the_minions_numbers():
    assert switch(PLACES[0])["number"] == 1
    assert [peer["number"] for peer in switch(PLACES[0])["peers"]] == [2, 200]
    assert list(ovs.checked(switch(PLACES[0]))["ports"]) == ["labctl-v2", "labctl-v200"]


def test_each_two_minions_agree_on_a_tunnel_that_nobody_else_has():
    keys = {me.name: {peer["address"]: peer["key"] for peer in ovs.checked(switch(me))["peers"]} for me in PLACES}
    for me in PLACES:
        for other in PLACES:
            if me is not other:
                assert keys[me.name][other.address] == keys[other.name][me.address]
    assert len({key for of in keys.values() for key in of.values()}) == 3


def test_flows_send_what_is_for_a_peer_to_its_tunnel_and_flood_nothing():
    assert ovs.flows(ovs.checked(switch(PLACES[0]))) == [
        "priority=10,dl_dst=0e:6c:0a:f6:01:00,actions=LOCAL",
        "priority=10,in_port=LOCAL,dl_dst=0e:6c:0a:f6:02:00,actions=output:2",
        "priority=10,in_port=LOCAL,dl_dst=0e:6c:0a:f6:c8:00,actions=output:200",
    ]


def test_a_port_that_is_no_number_is_refused():
    told = switch(PLACES[0])
    told["peers"][0]["number"] = "2 -- emer-reset"
    with pytest.raises(check.Refused):
        ovs.checked(told)
