"""Addresses of IPv4: the quick answers are those of Python's `ipaddress`, and cost the same in a large lab."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labctl.controllers.endpoints import in_order
from labctl.proxy import frontends
from labctl.resources import names
from labctl.resources.addresses import ipv4, is_ordinary_ipv4
from labctl.resources.kinds.core_v1 import endpoints
from labctl.resources.kinds.discovery_v1 import endpointslice
from tests.work import calls

ADDRESSES = st.ip_addresses(v=4).map(str)
NEARLY = st.text(st.sampled_from("0123456789.:x -%\n\0²"), max_size=18)


@given(st.one_of(ADDRESSES, NEARLY, st.text(max_size=20)))
@example("01.2.3.4")
@example("1.2.3")
@example("1.2.3.256")
@example("1.2.3.4\0")
@example("\ud800")
def test_what_an_address_of_ipv4_is(text: str) -> None:
    try:
        wanted = IPv4Address(text).packed
    except ValueError:
        wanted = None
    assert ipv4(text) == wanted


@given(ADDRESSES)
@example("0.0.0.0")
@example("127.0.0.1")
@example("169.254.1.1")
@example("224.0.0.1")
@example("255.255.255.255")
def test_an_ordinary_address_passes_every_rule(text: str) -> None:
    address = ip_address(text)
    apart = address.is_loopback or address.is_unspecified or address.is_link_local
    if is_ordinary_ipv4(text):
        assert not (apart or address.is_multicast)
    assert bool(names.outside_address(text)) == (apart or text.startswith("224.0.0."))
    assert frontends._usable(text) == (not (apart or address.is_multicast))


@given(st.lists(st.one_of(ADDRESSES, st.ip_addresses(v=6).map(str)), max_size=5))
def test_addresses_stand_in_the_order_of_their_numbers(texts: list[str]) -> None:
    assert sorted(texts, key=in_order) == sorted(texts, key=lambda text: ip_address(text).packed)


def _lab(services: int) -> list[list[str]]:
    """Return the addresses behind each of so many Services of 100 pods."""
    return [[f"10.{128 + number // 250}.{number % 250}.{pod + 2}" for pod in range(100)] for number in range(services)]


def _written(addresses: list[str]) -> None:
    """Check a Service's endpoints, in both kinds, and read them for the proxy."""
    ports = [{"name": "", "port": 80, "protocol": "TCP"}]
    slice_ = {"addressType": "IPv4", "endpoints": [{"addresses": [each]} for each in addresses], "ports": ports}
    assert not list(endpointslice.validate(slice_, None))
    assert not list(endpoints.validate({"subsets": [{"addresses": [{"ip": each} for each in addresses], "ports": ports}]}, None))
    assert all(map(frontends._usable, sorted(addresses, key=in_order)))


@pytest.mark.parametrize("services", [700])
def test_a_write_of_endpoints_costs_the_same_in_a_large_lab(services: int) -> None:
    """70,000 addresses, which are written one Service after the other, are more than a memory of 65,536 answers holds."""
    lab = _lab(services)
    for addresses in lab:
        _written(addresses)
    alone = _lab(1)[0]
    _written(alone)
    assert calls(lambda: _written(lab[0])) == calls(lambda: _written(alone)) == calls(lambda: _written(lab[1]))
