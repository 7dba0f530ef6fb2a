"""What Services mean: objects as the API has them, in; frontends, out."""

from __future__ import annotations

import msgspec
import pytest

from labctl.proxy.frontends import Backend, Frontend, frontends
from labctl.resources.kinds.core_v1.endpoints import Endpoints
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.discovery_v1.endpointslice import EndpointSlice


def service(name="web", **spec):
    spec = {"clusterIP": "10.247.0.9", "ports": [{"port": 80}]} | spec
    return msgspec.convert({"metadata": {"namespace": "default", "name": name}, "spec": spec}, Service)


def slices(addresses, ports=({"name": "", "port": 8080},), name="web", **more):
    found = [a if isinstance(a, dict) else {"addresses": [a]} for a in addresses]
    meta = {"namespace": "default", "name": f"{name}-x1", "labels": {"kubernetes.io/service-name": name}}
    return msgspec.convert({"metadata": meta, "addressType": "IPv4", "endpoints": found, "ports": list(ports)} | more, EndpointSlice)


def plain(subsets, name="web"):
    return msgspec.convert({"metadata": {"namespace": "default", "name": name}, "subsets": subsets}, Endpoints)


def only(*objects) -> Frontend:
    services = [o for o in objects if isinstance(o, Service)]
    (ports,) = frontends(services, [o for o in objects if not isinstance(o, Service)]).values()
    (port,) = ports
    return port


def test_a_service_port_has_the_ready_endpoints_of_its_slices():
    ready = {
        "addresses": ["10.246.1.5"],
        "conditions": {"ready": True},
        "nodeName": "minion-1",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "a"},
    }
    unready = {"addresses": ["10.246.1.6"], "conditions": {"ready": False}}
    leaving = {"addresses": ["10.246.1.7"], "conditions": {"ready": False, "serving": True, "terminating": True}}
    found = only(service(), slices([ready, unready, leaving, "10.246.2.2"]))
    assert found.backends == (Backend("10.246.1.5", 8080, "minion-1", "default/a"), Backend("10.246.2.2", 8080))
    assert found.serving == found.backends and not found.leaving, "who is leaving is used nowhere"


def endpoint(address, node, **conditions):
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def test_who_is_leaving_and_still_serves_answers_where_nobody_is_ready():
    leaving = endpoint("10.246.1.7", "minion-1", ready=False, serving=True, terminating=True)
    ended = endpoint("10.246.1.8", "minion-1", ready=False, serving=False, terminating=True)
    unready = endpoint("10.246.1.9", "minion-1", ready=False, serving=False, terminating=False)
    found = only(service(), slices([leaving, ended, unready]))
    assert not found.backends and [b.address for b in found.serving] == ["10.246.1.7"]


def test_a_policy_of_local_makes_that_choice_among_the_endpoints_of_a_node():
    leaving = endpoint("10.246.1.7", "minion-1", ready=False, serving=True, terminating=True)
    ready = endpoint("10.246.2.2", "minion-2", ready=True)
    also_leaving = endpoint("10.246.2.3", "minion-2", ready=False, serving=True, terminating=True)
    for spec in ({"internalTrafficPolicy": "Local"}, {"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.7"]}):
        found = only(service(**spec), slices([leaving, ready, also_leaving]))
        assert [b.address for b in found.serving] == ["10.246.2.2"]
        assert [[b.address for b in found.near(f"minion-{n}")] for n in (1, 2, 3)] == [["10.246.1.7"], ["10.246.2.2"], []]


@pytest.mark.parametrize(
    ("hints", "node", "zone", "reached"),
    [
        ([{"forNodes": ["minion-1"]}, {"forNodes": ["minion-2"]}], "minion-1", "", ["10.246.1.1"]),
        ([{"forNodes": ["minion-1"]}, {"forNodes": ["minion-2"]}], "minion-3", "", ["10.246.1.1", "10.246.1.2"]),
        ([{"forNodes": ["minion-1"], "forZones": ["a"]}, {"forNodes": ["minion-2"], "forZones": ["b"]}], "minion-3", "b", ["10.246.1.2"]),
        ([{"forZones": ["a"]}, {"forZones": ["b"]}], "minion-1", "a", ["10.246.1.1"]),
        ([{"forZones": ["a"]}, {"forZones": ["b"]}], "minion-1", "", ["10.246.1.1", "10.246.1.2"]),
        ([{"forZones": ["a"]}, {}], "minion-1", "a", ["10.246.1.1", "10.246.1.2"]),
    ],
)
def test_hints_narrow_who_answers_unless_nobody_would_be_left(hints, node, zone, reached):
    found = [
        {
            **endpoint(f"10.246.1.{n}", f"minion-{n}", ready=True),
            "hints": {kind: [{"name": each} for each in some] for kind, some in said.items()},
        }
        for n, said in enumerate(hints, 1)
    ]
    assert [each.address for each in only(service(), slices(found)).close(node, zone)] == reached


def test_an_address_published_before_it_is_ready_counts_as_ready_while_it_leaves():
    published = endpoint("10.246.1.7", "minion-1", ready=True, serving=False, terminating=True)
    assert [b.address for b in only(service(publishNotReadyAddresses=True), slices([published])).backends] == ["10.246.1.7"]


def test_ports_find_their_endpoints_by_name_and_protocol():
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "lost", "port": 99}]
    there = [
        {"name": "http", "port": 8080},
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "lost", "port": 1, "protocol": "UDP"},
    ]
    (found,) = frontends([service(ports=ports)], [slices(["10.246.1.5"], there)]).values()
    assert [(f.name, f.protocol, [b.port for b in f.backends]) for f in found] == [
        ("http", "TCP", [8080]),
        ("dns", "UDP", [5353]),
        ("lost", "TCP", []),
    ]


def test_named_target_ports_may_differ_between_slices():
    one, other = slices(["10.246.1.5"], [{"name": "", "port": 8080}]), slices(["10.246.2.5"], [{"name": "", "port": 9090}])
    assert [(b.address, b.port) for b in only(service(), one, other).backends] == [("10.246.1.5", 8080), ("10.246.2.5", 9090)]


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIP": ""}, {"type": "ExternalName", "externalName": "x.example"}])
def test_what_has_no_address_has_no_frontend(spec):
    assert frontends([service(**spec)], [slices(["10.246.1.5"])]) == {"default/web": ()}


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_a_service_that_asks_for_another_proxy_or_none_has_no_frontend(label):
    labelled = msgspec.structs.replace(service(), metadata=msgspec.structs.replace(service().metadata, labels={label: ""}))
    assert frontends([labelled], [slices(["10.246.1.5"])]) == {"default/web": ()}


def test_endpoints_by_hand_serve_a_service_without_selector():
    found = only(
        service(), plain([{"addresses": [{"ip": "10.245.1.1"}], "notReadyAddresses": [{"ip": "10.245.1.2"}], "ports": [{"port": 6443}]}])
    )
    assert [(b.address, b.port) for b in found.backends] == [("10.245.1.1", 6443)]


def test_publish_not_ready_addresses_counts_them_in():
    found = only(service(publishNotReadyAddresses=True), plain([{"notReadyAddresses": [{"ip": "10.246.1.2"}], "ports": [{"port": 1}]}]))
    assert [b.address for b in found.backends] == ["10.246.1.2"]


def test_slices_win_over_endpoints_of_the_same_name():
    found = only(service(), slices(["10.246.1.5"]), plain([{"addresses": [{"ip": "10.246.1.9"}], "ports": [{"port": 1}]}]))
    assert [b.address for b in found.backends] == ["10.246.1.5"]


def test_addresses_no_packet_can_be_sent_to_are_left_out():
    hostile = ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "::1", "10.0.0.1 -j ACCEPT", "x;reboot"]
    found = only(service(externalIPs=["192.0.2.1", "127.0.0.1", "y"]), slices([*hostile, "10.246.1.5"]))
    assert [b.address for b in found.backends] == ["10.246.1.5"]
    assert found.external_addresses == ("192.0.2.1",)


def test_affinity_node_port_and_policies():
    found = only(
        service(
            type="NodePort",
            ports=[{"port": 80, "nodePort": 30080}],
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
            externalTrafficPolicy="Local",
        )
    )
    assert (found.node_port, found.affinity_s, found.external_local, found.internal_local) == (30080, 60, True, False)


def test_a_node_port_left_on_a_cluster_ip_service_opens_nothing():
    assert only(service(ports=[{"port": 80, "nodePort": 30080}])).node_port == 0


@pytest.mark.parametrize(
    ("said", "ranges"),
    [
        ([], ()),
        (["10.0.0.1/8", " 10.1.0.0/16 "], ("10.0.0.0/8", "10.1.0.0/16")),
        (["10.0.0.0/8", "0.0.0.0/0"], ()),
        (["fd00::/8"], ("255.255.255.255/32",)),
        (["rubbish"], ("255.255.255.255/32",)),
    ],
)
def test_source_ranges_fence_the_load_balancers_address(said, ranges):
    made = service(type="LoadBalancer", loadBalancerSourceRanges=said, externalIPs=["192.0.2.1"])
    ingress = msgspec.convert({"loadBalancer": {"ingress": [{"ip": "10.245.1.225"}]}}, type(made.status))
    found = only(msgspec.structs.replace(made, status=ingress), slices(["10.246.1.5"]))
    assert found.external_addresses == ("192.0.2.1", "10.245.1.225")
    assert found.source_ranges == ranges and found.fenced_addresses == (("10.245.1.225",) if ranges else ())
