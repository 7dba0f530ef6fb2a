"""What names a Service has. The same rows go into the minions' own zone, which must understand all of them."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from labctl.agent.dns import wire
from labctl.agent.dns.zone import Settings, Zone
from labctl.dns.records import namespace_rows, service_rows
from labctl.resources.kinds.core_v1.endpoints import Endpoints
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.discovery_v1.endpointslice import EndpointSlice

HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


def service(**spec):
    return msgspec.convert({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.247.3.4", **spec}}, Service)


def pieces(*endpoints, ports=(HTTP,), type_="IPv4"):
    return [
        msgspec.convert(
            {"metadata": {"name": "web-1", "namespace": "shop"}, "addressType": type_, "endpoints": endpoints, "ports": ports},
            EndpointSlice,
        )
    ]


def endpoint(address, ready=True, hostname=""):
    return {"addresses": [address], "conditions": {"ready": ready}, "hostname": hostname}


def zone_of(*rows):
    zone = Zone(Settings("cluster.local", "10.247.0.10", ("10.247.0.0/16", "10.246.0.0/16")))
    zone.set("shop/web", [list(row) for row in rows])
    zone.set("namespace:shop", [list(row) for row in namespace_rows("shop")])
    return zone


def answers(zone, name, type_=wire.A):
    found = zone.find(name.encode(), type_)
    return found.code, sorted(record.data for record in found.answers)


def test_a_service_with_a_virtual_address():
    rows = service_rows(service(ports=[HTTP, {"port": 81}]), (), None)
    assert rows == (
        ("A", "web.shop.svc", "10.247.3.4"),
        ("PTR", "10.247.3.4", "web.shop.svc"),
        ("SRV", "_http._tcp.web.shop.svc", 80, "web.shop.svc"),
    )


def test_a_headless_service_names_its_ready_endpoints():
    found = pieces(endpoint("10.246.1.5", hostname="db-0"), endpoint("10.246.2.5"), endpoint("10.246.3.5", ready=False, hostname="db-2"))
    rows = service_rows(service(clusterIP="None", ports=[HTTP]), found, None)
    assert set(rows) == {
        ("A", "web.shop.svc", "10.246.1.5"),
        ("A", "web.shop.svc", "10.246.2.5"),
        ("A", "db-0.web.shop.svc", "10.246.1.5"),
        ("A", "10-246-2-5.web.shop.svc", "10.246.2.5"),
        ("PTR", "10.246.1.5", "db-0.web.shop.svc"),
        ("PTR", "10.246.2.5", "10-246-2-5.web.shop.svc"),
        ("SRV", "_http._tcp.web.shop.svc", 80, "db-0.web.shop.svc"),
        ("SRV", "_http._tcp.web.shop.svc", 80, "10-246-2-5.web.shop.svc"),
    }


def test_a_headless_service_without_ready_endpoints_has_no_name():
    zone = zone_of(*service_rows(service(clusterIP="None"), pieces(endpoint("10.246.1.5", ready=False)), None))
    assert answers(zone, "web.shop.svc.cluster.local") == (wire.NO_SUCH_NAME, [])


def test_endpoints_that_people_write_count_where_there_are_no_slices():
    plain = msgspec.convert(
        {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [HTTP]}]}, Endpoints
    )
    rows = service_rows(service(clusterIP="None"), (), plain)
    assert {row[2] for row in rows if row[0] == "A"} == {"192.0.2.1"}
    rows = service_rows(service(clusterIP="None", publishNotReadyAddresses=True), (), plain)
    assert {row[2] for row in rows if row[0] == "A"} == {"192.0.2.1", "192.0.2.2"}


def test_addresses_of_version_6_are_aaaa():
    rows = service_rows(service(clusterIP="None"), pieces(endpoint("2001:db8::1"), type_="IPv6"), None)
    assert ("AAAA", "2001-db8--1.web.shop.svc", "2001:db8::1") in rows
    assert answers(zone_of(*rows), "web.shop.svc.cluster.local", wire.AAAA)[1] == [bytes.fromhex("20010db8" + "0" * 23 + "1")]


def test_an_external_name_is_a_cname_and_an_address_is_an_address():
    assert service_rows(service(type="ExternalName", externalName="db.example.com."), (), None) == (
        ("CNAME", "web.shop.svc", "db.example.com"),
    )
    assert service_rows(service(type="ExternalName", externalName="192.0.2.7"), (), None) == (("A", "web.shop.svc", "192.0.2.7"),)


def test_a_service_without_an_address_yet_has_no_name():
    assert service_rows(service(clusterIP=""), (), None) == ()


def test_names_above_others_exist_without_records():
    zone = zone_of(*service_rows(service(ports=[HTTP]), (), None))
    for name in ("svc.cluster.local", "shop.svc.cluster.local", "_tcp.web.shop.svc.cluster.local", "shop.pod.cluster.local"):
        assert answers(zone, name) == (wire.NO_ERROR, []), name
    assert answers(zone, "web.shop.svc.cluster.local", wire.AAAA) == (wire.NO_ERROR, [])
    for name in ("nobody.shop.svc.cluster.local", "web.other.svc.cluster.local", "web.cluster.local", "sub.web.shop.svc.cluster.local"):
        assert answers(zone, name) == (wire.NO_SUCH_NAME, []), name


def test_pods_are_named_by_their_addresses():
    zone = zone_of()
    assert answers(zone, "10-246-1-5.shop.pod.cluster.local") == (wire.NO_ERROR, [bytes([10, 246, 1, 5])])
    for name in ("10-246-1-5.other.pod.cluster.local", "8-8-8-8.shop.pod.cluster.local", "10-246-1-500.shop.pod.cluster.local"):
        assert answers(zone, name)[0] == wire.NO_SUCH_NAME, name


def test_addresses_of_the_lab_that_nobody_has_are_not_asked_of_others():
    zone = zone_of(("PTR", "10.247.3.4", "web.shop.svc"))
    assert answers(zone, "4.3.247.10.in-addr.arpa", wire.PTR)[1] == [b"\3web\4shop\3svc\7cluster\5local\0"]
    assert zone.owns(b"9.9.246.10.in-addr.arpa") and not zone.owns(b"8.8.8.8.in-addr.arpa")
    assert answers(zone, "9.9.246.10.in-addr.arpa", wire.PTR)[0] == wire.NO_SUCH_NAME


def test_cnames_are_followed_but_not_in_circles():
    zone = zone_of(
        ("CNAME", "a.shop.svc", "b.shop.svc.cluster.local"),
        ("CNAME", "b.shop.svc", "web.shop.svc.cluster.local"),
        ("A", "web.shop.svc", "10.0.0.1"),
    )
    found = zone.find(b"a.shop.svc.cluster.local", wire.A)
    assert [record.type for record in found.answers] == [wire.CNAME, wire.CNAME, wire.A]
    zone.set("shop/web", [["CNAME", "a.shop.svc", "a.shop.svc.cluster.local"]])
    assert zone.find(b"a.shop.svc.cluster.local", wire.A).code == wire.SERVER_FAILURE
    zone.set("shop/web", [["CNAME", "a.shop.svc", "db.example.com"]])
    assert zone.find(b"a.shop.svc.cluster.local", wire.A).outside == b"db.example.com"


def test_rows_that_are_none_harm_no_others():
    zone = zone_of(("A", "web.shop.svc", "10.0.0.1"))
    before = dict(zone._names)
    for row in (
        ["A", "x.svc", "no address"],
        ["A"],
        ["MX", "x.svc", 1],
        ["A", "x" * 64 + ".svc", "10.0.0.1"],
        ["SRV", "x.svc", 99999, "y"],
        ["CNAME", "x", "ü"],
    ):
        try:
            zone.set("bad", [["A", "good.svc", "10.0.0.2"], row])
        except ValueError:
            pass
        else:
            raise AssertionError(row)
        assert zone._names == before


label = st.sampled_from(["a", "b", "web", "db-0"])
addresses = st.integers(1, 4).map(lambda n: f"10.246.1.{n}")
endpoints_ = st.builds(endpoint, addresses, st.sampled_from([True, False, None]), st.sampled_from(["", "db-0", "db-1"]))
services = st.builds(
    lambda name, kind, port: msgspec.convert(
        {"metadata": {"name": name, "namespace": "shop"}, "spec": {"ports": [{"name": port, "port": 80}], **kind}}, Service
    ),
    label,
    st.sampled_from(
        [{"clusterIP": "10.247.3.4"}, {"clusterIP": "None"}, {"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}]
    ),
    st.sampled_from(["", "http"]),
)
changes = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.tuples(services, st.lists(endpoints_, max_size=3)))), max_size=12)


@given(changes)
def test_a_zone_is_what_its_rows_say_whatever_came_before(history):
    zone, rows = Zone(Settings()), {}
    for key, given_ in history:
        if given_ is None:
            zone.remove(str(key))
            rows.pop(str(key), None)
        else:
            rows[str(key)] = [list(row) for row in service_rows(given_[0], pieces(*given_[1]), None)]
            zone.set(str(key), rows[str(key)])
    fresh = Zone(Settings())
    for key in random.Random(1).sample(sorted(rows), len(rows)):
        fresh.set(key, rows[key])
    plain = lambda z: ({n: {t: sorted(d) for t, d in s.items()} for n, s in z._names.items()}, z._below)  # noqa: E731
    assert plain(zone) == plain(fresh)
