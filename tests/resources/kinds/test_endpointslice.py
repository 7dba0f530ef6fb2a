"""EndpointSlices that people write: each field reaches every minion's rules or the names of a lab, so each is checked as Kubernetes does."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.proxy import frontends
from labctl.resources import names
from labctl.resources.kinds.discovery_v1 import endpointslice


def of(ports: Any = ({"name": "", "port": 80, "protocol": "TCP"},), type_: str = "IPv4", **endpoint: Any) -> dict[str, Any]:
    return {"addressType": type_, "endpoints": [{"addresses": ["10.1.2.3"], **endpoint}], "ports": list(ports)}


GOOD = [
    of(),
    of([{"name": "a"}, {"name": "b", "port": 65535, "protocol": "SCTP"}], hostname="a", nodeName="minion-1"),
    of(type_="IPv6", addresses=["fd00::1"]),
    of(type_="FQDN", addresses=["a.example"]),
]
BAD = [
    (of([{"name": "a", "port": 9_999_999}]), "ports[0].port"),
    (of([{"name": "a", "port": -1}]), "ports[0].port"),
    (of([{"name": "a\nb", "port": 1}]), "ports[0].name"),
    (of([{"name": "a", "port": 1}, {"name": "a", "port": 2}]), "ports[1].name"),
    (of([{"name": "a", "port": 1, "protocol": "X;\n-A"}]), "ports[0].protocol"),
    (of(hostname="a\nb.*"), "endpoints[0].hostname"),
    (of(nodeName="x\ny"), "endpoints[0].nodeName"),
    (of(addresses=["fd00::1"]), "endpoints[0].addresses[0]"),
    (of(addresses=["10.1.2.3"] * 101), "endpoints[0].addresses"),
    (of(addresses=[]), "endpoints[0].addresses"),
    (of(type_="IPv6", addresses=["10.1.2.3"]), "endpoints[0].addresses[0]"),
    (of(type_="IPv6", addresses=["::ffff:127.0.0.1"]), "endpoints[0].addresses[0]"),
    (of(type_="FQDN", addresses=["a\nb"]), "endpoints[0].addresses[0]"),
]


@pytest.mark.parametrize("slice_", GOOD)
def test_good(slice_: dict[str, Any]) -> None:
    assert list(endpointslice.validate(slice_, None)) == []


@pytest.mark.parametrize(("slice_", "where"), BAD)
def test_bad(slice_: dict[str, Any], where: str) -> None:
    assert [error.field for error in endpointslice.validate(slice_, None)] == [where]
    assert list(endpointslice.validate(slice_, slice_)) == [], "what an older version stored can still be changed elsewhere"


@pytest.mark.parametrize("port", [0, -1, 65_536, 9_999_999])
def test_a_port_that_is_none_reaches_no_minion(port: int) -> None:
    kept = endpointslice.EndpointSlice(
        address_type="IPv4",
        endpoints=(endpointslice.Endpoint(addresses=("10.1.2.3",)),),
        ports=(endpointslice.SlicePort(port=port), endpointslice.SlicePort(port=81)),
    )
    assert [backend.port for _, _, backend, _ in frontends._from_slices([kept])] == [81]


@pytest.mark.parametrize("text", ["::ffff:127.0.0.1", "::127.0.0.1", "::1", "::", "127.0.0.1", "169.254.169.254", "fe80::1", "fd00::1%\nx"])
def test_addresses_that_nobody_outside_has(text: str) -> None:
    assert names.outside_address(text)


def test_a_zone_is_no_part_of_an_address() -> None:
    assert names.address("fd00::1%\n6.6.6.6 evil") and names.network("fd00::%x/64")
    assert not names.address("fd00::1") and not names.network("fd00::/64")
