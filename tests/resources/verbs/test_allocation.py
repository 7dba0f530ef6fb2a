"""Virtual IPs and node ports: unique, kept, freed with what held them, and alive after a restart because they are keys."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.client import Client
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.settings import ResourceSettings
from labctl.store.log import LogStore
from labctl.store.memory import MemoryEngine
from tests.resources.conftest import Lab, StillClock, service


def spec(lab: Lab, name: str = "web") -> dict[str, Any]:
    found = lab.get("services", name)
    assert found
    return found["spec"]  # type: ignore[no-any-return]


async def test_a_service_gets_an_address_of_the_range(lab: Lab) -> None:
    await lab.create("services", service())
    said = spec(lab)
    assert ip_address(said["clusterIP"]) in ip_network("10.247.0.0/16")
    assert said["clusterIPs"] == [said["clusterIP"]]
    assert (said["ipFamilies"], said["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert f"ip/{said['clusterIP']}" in lab.claims()


async def test_the_address_stays_whatever_changes(lab: Lab) -> None:
    await lab.create("services", service())
    address = spec(lab)["clusterIP"]
    await lab.update("services", service(selector={"a": "b"}))
    await lab.patch("services", "web", {"spec": {"type": "NodePort"}})
    await lab.patch("services", "web", {"spec": {"clusterIP": None}})
    assert spec(lab)["clusterIP"] == address


async def test_an_address_can_be_asked_for(lab: Lab) -> None:
    await lab.create("services", service(clusterIP="10.247.0.10"))
    error = await lab.refused("services", service("other", clusterIP="10.247.0.10"))
    assert error.message == (
        'Service "other" is invalid: spec.clusterIPs: Invalid value: ["10.247.0.10"]: '
        "failed to allocate IP 10.247.0.10: provided IP is already allocated"
    )


async def test_an_address_outside_the_range(lab: Lab) -> None:
    error = await lab.refused("services", service(clusterIP="10.0.0.1"))
    assert error.message == (
        'Service "web" is invalid: spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate IP 10.0.0.1: '
        "the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 10.247.0.0/16"
    )


async def test_an_address_may_not_change_once_set(lab: Lab) -> None:
    await lab.create("services", service())
    with pytest.raises(ApiError) as caught:
        await lab.patch("services", "web", {"spec": {"clusterIP": "10.247.0.77", "clusterIPs": ["10.247.0.77"]}})
    assert caught.value.message == 'Service "web" is invalid: spec.clusterIPs[0]: Invalid value: ["10.247.0.77"]: may not change once set'


async def test_headless_and_external_services_need_none(lab: Lab) -> None:
    before = lab.claims()
    await lab.create("services", service("headless", clusterIP="None"))
    await lab.create("services", {"metadata": {"name": "outside"}, "spec": {"type": "ExternalName", "externalName": "example.com"}})
    assert lab.claims() == before
    assert spec(lab, "headless")["clusterIPs"] == ["None"]
    assert "clusterIP" not in spec(lab, "outside")


async def test_a_type_without_an_address_frees_it(lab: Lab) -> None:
    before = lab.claims()
    await lab.create("services", service(type="NodePort"))
    port = spec(lab)["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767 and f"nodeport/{port}" in lab.claims()
    await lab.patch("services", "web", {"spec": {"type": "ClusterIP"}})
    assert "nodePort" not in spec(lab)["ports"][0] and f"nodeport/{port}" not in lab.claims()
    await lab.patch("services", "web", {"spec": {"type": "ExternalName", "externalName": "example.com"}})
    assert lab.claims() == before


async def test_a_node_port_is_kept_and_can_be_asked_for(lab: Lab) -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}, {"name": "dns-tcp", "port": 53, "nodePort": 30053}]
    await lab.create("services", service(type="NodePort", ports=ports))
    await lab.update("services", service(type="NodePort", ports=[{**port, "nodePort": 0} for port in ports]))
    assert [port["nodePort"] for port in spec(lab)["ports"]] == [30053, 30053]
    error = await lab.refused("services", service("other", type="NodePort", ports=[{"port": 80, "nodePort": 30053}]))
    assert error.message == 'Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated'


@pytest.mark.parametrize("finalizers", [[], ["example.com/guard"]])
async def test_a_node_port_of_two_protocols_is_freed_with_its_service(lab: Lab, finalizers: list[str]) -> None:
    before = lab.claims()
    ports = [{"name": protocol.lower(), "port": 53, "protocol": protocol, "nodePort": 30053} for protocol in ("TCP", "UDP")]
    await lab.create("services", service(type="NodePort", ports=ports) | {"metadata": {"name": "web", "finalizers": finalizers}})
    await lab.delete("services", "web")
    if finalizers:
        await lab.patch("services", "web", {"metadata": {"finalizers": None}})
    assert (lab.names("services"), lab.claims()) == (["kubernetes"], before)


async def test_a_node_port_outside_the_range(lab: Lab) -> None:
    error = await lab.refused("services", service(type="NodePort", ports=[{"port": 80, "nodePort": 80}]))
    assert error.message == (
        'Service "web" is invalid: spec.ports[0].nodePort: Invalid value: 80: '
        "provided port is not in the valid range. The range of valid ports is 30000-32767"
    )


async def test_many_at_once_never_share_one() -> None:
    lab = Lab(ResourceSettings(service_range="10.247.0.0/26", node_port_first=30000, node_port_last=30060, write_attempts=64))
    await lab.client.create("namespaces", {"metadata": {"name": "default"}})
    await asyncio.gather(*(lab.create("services", service(f"s{i}", type="NodePort")) for i in range(40)))
    assert len({spec(lab, f"s{i}")["clusterIP"] for i in range(40)}) == 40
    assert len({spec(lab, f"s{i}")["ports"][0]["nodePort"] for i in range(40)}) == 40


async def test_a_range_that_is_full_says_so() -> None:
    lab = Lab(ResourceSettings(service_range="10.247.0.0/29", dns_address="10.247.0.2"))
    await lab.client.create("namespaces", {"metadata": {"name": "default"}})
    for number in range(4):
        await lab.create("services", service(f"s{number}"))
    error = await lab.refused("services", service())
    assert error.code == 422 and "range is full" in error.message


async def test_claims_survive_a_restart() -> None:
    engine, clock, journal = MemoryEngine(), StillClock(), Lab().journal
    for expected in ("made", "refused"):
        store = LogStore(engine)
        client = Client(Resources(store, builtin_registry(), clock, journal, Random(1)))
        if expected == "made":
            await client.create("namespaces", {"metadata": {"name": "default"}})
            await client.create("services", {**service("a", clusterIP="10.247.0.9"), "metadata": {"name": "a", "namespace": "default"}})
        else:
            with pytest.raises(ApiError) as caught:
                await client.create("services", {**service("b", clusterIP="10.247.0.9"), "metadata": {"name": "b", "namespace": "default"}})
            assert "provided IP is already allocated" in caught.value.message
        await store.close()


CHANGES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["create", "delete", "ClusterIP", "NodePort", "None", "ExternalName"]),
        st.integers(30000, 30003),
    ),
    max_size=20,
)


@settings(max_examples=50)
@given(changes=CHANGES)
def test_claims_are_exactly_what_services_hold(changes: list[tuple[str, str, int]]) -> None:
    """Whatever is created, changed and deleted, refused or not: no claim without its Service, no Service without its claims."""

    async def play() -> None:
        lab = Lab(ResourceSettings(service_range="10.247.0.0/28", node_port_first=30000, node_port_last=30003))
        await lab.client.create("namespaces", {"metadata": {"name": "default"}})
        for name, what, port in changes:
            await _change(lab, name, what, port)
            held = {claim.removeprefix("claims/") for said in services(lab) for claim in lab.kind("services").claims(said)}
            assert set(lab.claims()) == held

    asyncio.run(play())


def services(lab: Lab) -> list[dict[str, Any]]:
    return [said for name in lab.names("services") if (said := lab.get("services", name))]


async def _change(lab: Lab, name: str, what: str, port: int) -> None:
    ports = [{"name": protocol.lower(), "port": 80, "protocol": protocol, "nodePort": port} for protocol in ("TCP", "UDP")]
    try:
        if what == "create":
            await lab.create("services", service(name, type="NodePort", ports=ports))
        elif what == "delete":
            await lab.delete("services", name)
        elif what == "None":
            await lab.create("services", service(name, clusterIP="None"))
        elif what == "ExternalName":
            await lab.patch(
                "services", name, {"spec": {"type": what, "externalName": "example.com", "clusterIP": None, "clusterIPs": None}}
            )
        else:
            await lab.patch("services", name, {"spec": {"type": what}})
    except ApiError as error:
        assert error.code in (404, 409, 422), error
