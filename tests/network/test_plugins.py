"""What all network plug-ins have in common: they are offered, small enough packets go through them, and their packages are known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.errors import UsageError
from labctl.lab.settings import BY_NAME
from labctl.master.settings import Values
from labctl.network.network import PLUGINS, plugin, pod_mtu
from labctl.network.plugin import Place
from labctl.network.settings import NetworkSettings
from labctl.providers import debian
from labctl.providers.namespace.box import Box
from labctl.providers.settings import NamespaceSettings

ONE = Place("minion-1", "10.245.1.11", "10.246.1.0/24")
TWO = Place("minion-2", "10.245.1.12", "10.246.2.0/24")


def test_what_can_be_chosen_is_what_there_is():
    option = BY_NAME["network"]
    with pytest.raises(ValueError, match=f"write one of {', '.join(PLUGINS)}$"):
        option.parse("carrier-pigeon")
    assert option.default == Values().network == NetworkSettings().plugin == next(iter(PLUGINS))


def test_an_unknown_plug_in_names_those_there_are():
    with pytest.raises(UsageError, match="choose one of route"):
        plugin("carrier-pigeon")


@pytest.mark.parametrize("name", PLUGINS)
def test_every_minion_reaches_the_virtual_addresses_forwards_and_masquerades(name):
    planned = plugin(name).plan(ONE, [ONE, TWO], NetworkSettings())
    assert plugin(name).name == name
    assert planned.routes[0].to == "10.247.0.0/16" and planned.routes[0].link
    assert planned.sysctls["net.ipv4.ip_forward"] == 1
    assert planned.masquerade.source == ONE.pod_range
    assert planned.accept == ("10.246.0.0/16",)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plan_depends_on_nothing_but_what_is_seen(name):
    assert plugin(name).plan(ONE, [ONE, TWO], NetworkSettings()) == plugin(name).plan(ONE, [ONE, TWO], NetworkSettings())


def test_pods_have_the_links_mtu_less_what_the_network_adds():
    mtus = {name: pod_mtu(NetworkSettings(plugin=name)) for name in PLUGINS}
    assert mtus == {"route": 1500, "vxlan": 1450, "ovs": 1450, "bgp": 1500}


def test_a_networks_packages_are_only_in_its_own_root_file_system(tmp_path):
    paths = {name: Box(tmp_path, NamespaceSettings(pod_network=name)).path() for name in PLUGINS}
    assert paths["route"] == paths["vxlan"] == Box(tmp_path, NamespaceSettings()).path()
    assert len(set(paths.values())) == 3
    assert "bird2" in debian.packages(*debian.minion_lists("bgp"))
    assert "bird2" not in debian.packages(*debian.minion_lists("route"))
    assert "openvswitch-switch" in debian.packages(*debian.minion_lists("ovs"))


def test_the_document_has_every_network_and_its_mtu():
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    assert re.findall(r"^## (\w+)$", text, re.M)[: len(PLUGINS)] == list(PLUGINS)
    assert re.search(r"^\| \| (.+) \|$", text, re.M)[1].split(" | ") == [f"`{name}`" for name in PLUGINS]
    mtus = re.search(r"^\| a pod's MTU.+?1500 \| (.+) \|$", text, re.M)[1].split(" | ")
    assert [int(mtu) for mtu in mtus] == [pod_mtu(NetworkSettings(plugin=name)) for name in PLUGINS]
