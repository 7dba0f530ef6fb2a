"""What the proxy wants of an address: whose it is, what is refused, and that the rules are those of the minion."""

import asyncio

import pytest

from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.api.query import parse as query
from labctl.errors import ApiError
from labctl.master.wanted import add_routes
from labctl.proxy.chains import parse
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.settings import ProxySettings
from labctl.resources.registry import builtin_registry
from labctl.sim.objects import node, service
from labctl.sim.picture import Picture

WEB = Frontend(
    "default/web",
    "",
    "TCP",
    "10.247.0.10",
    80,
    (Backend("10.246.1.2", 8080, "minion-1", "default/a"),),
    node_port=30080,
    external_addresses=("192.0.2.7",),
)
DNS = Frontend("default/dns", "", "UDP", "10.247.0.10", 53)


class Proxy:
    table = {"": (), "default/web": (WEB,), "default/dns": (DNS,)}
    settings = ProxySettings()

    def wanted(self, minion, service):
        return "*filter\nCOMMIT\n*nat\n:LABCTL-SVC-X - [0:0]\nCOMMIT\n" if minion == "minion-1" and service else None

    def programmed(self, service):
        return {"minion-1": True, "minion-2": False}


def asked(words):
    picture = Picture((), builtin_registry())
    for name, address in (("minion-1", "10.245.1.11"), ("minion-2", "10.245.1.12")):
        one = node(name)
        one["status"]["addresses"] = [{"type": "InternalIP", "address": address}]
        picture.put(one)
    picture.put(service("web", {"name": "web"}))
    bare = service("bare", {"name": "web"})
    bare["spec"]["clusterIP"] = "None"
    picture.put(bare)
    other = service("other", {})
    other["spec"] = {"type": "ExternalName", "externalName": "example.org"}
    picture.put(other)
    routes = Extensions()
    add_routes(routes, picture.view, Proxy())
    handler, params = routes._find("GET", "/labctl/v1/wanted")
    return asyncio.run(handler(ExtensionRequest(None, params, query(words))))


@pytest.mark.parametrize(
    "words, what, port",
    [
        ("to=10.247.0.10&port=80", "virtual IP", 80),
        ("to=10.247.0.10", "virtual IP", 80),
        ("service=default/web", "virtual IP", 80),
        ("to=192.0.2.7&port=80", "external address", 80),
        ("to=10.245.1.12&port=30080", "node port", 30080),
        ("to=10.247.0.10&port=53&protocol=udp", "virtual IP", 53),
        ("to=10.245.1.12&port=22", "address of a minion", 22),
        ("to=10.247.9.9&port=80", "no Service's", 80),
    ],
)
def test_whose_an_address_is(words, what, port):
    told = asked(f"minion=minion-1&{words}")
    assert (told["what"], told["port"]) == (what, port)
    assert (told["frontend"] is not None) == (what not in ("address of a minion", "no Service's"))


def test_rules_are_text_that_is_read_back_and_nothing_is_said_of_a_minion_that_nobody_knows():
    told = asked("minion=minion-1&service=default/web")
    assert "LABCTL-SVC-X" in parse(told["rules"]).nat.owned and told["programmed"]
    told = asked("minion=minion-2&service=default/web")
    assert told["rules"] is None and not told["programmed"]


@pytest.mark.parametrize(
    "words, code, said",
    [
        ("minion=nobody&to=10.247.0.10", 404, "there is no minion 'nobody': there are minion-1, minion-2"),
        ("minion=minion-1&to=" + "9" * 5000, 400, "is no IPv4 address"),
        ("minion=minion-1&to=10.247.0.10&protocol=icmp", 400, "'ICMP' is none of tcp, udp, sctp"),
        ("minion=minion-1&service=default/nobody", 404, 'services "nobody" not found'),
        ("minion=minion-1&service=default/bare", 400, "is headless"),
        ("minion=minion-1&service=default/other", 400, "another name for example.org"),
        ("minion=minion-1&service=default/web&port=81", 404, "has no port 81/tcp: it has 80/tcp"),
    ],
)
def test_what_is_refused_is_one_line(words, code, said):
    with pytest.raises(ApiError) as refused:
        asked(words)
    assert refused.value.code == code and said in refused.value.message and len(refused.value.message) < 300
