"""The route plug-in's plan, and the Network that sends it."""

from __future__ import annotations

from labctl.network.plugin import Masquerade, Place, Route
from labctl.network.route import RoutePlugin
from labctl.network.settings import NetworkSettings

ONE = Place("minion-1", "10.245.1.11", "10.246.1.0/24")
TWO = Place("minion-2", "10.245.1.12", "10.246.2.0/24")
YOUNG = Place("minion-3", "10.245.1.13", "")


def test_a_minion_reaches_every_other_pod_range_and_the_virtual_addresses():
    program = RoutePlugin().plan(ONE, [ONE, TWO, YOUNG], NetworkSettings())
    assert program.routes == (Route("10.247.0.0/16", link=True), Route("10.246.2.0/24", via="10.245.1.12"))
    assert program.masquerade == Masquerade("10.246.1.0/24", "10.246.0.0/16")
    assert list(program.params()["routes"]) == [{"to": "10.247.0.0/16", "link": True}, {"to": "10.246.2.0/24", "via": "10.245.1.12"}]


def test_a_minion_without_a_pod_range_masquerades_nothing_yet():
    assert RoutePlugin().plan(YOUNG, [ONE, YOUNG], NetworkSettings()).masquerade is None
