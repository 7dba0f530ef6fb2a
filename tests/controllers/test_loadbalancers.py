"""Addresses of Services of type LoadBalancer."""

import pytest

from labctl.controllers.loadbalancers import ALL, LoadBalancers
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import Patch, Record
from labctl.sim.picture import Picture

RANGE = "10.245.1.248/29"  # six addresses


def service(name, had="", type_="LoadBalancer", **spec):
    status = {"loadBalancer": {"ingress": [{"ip": had}]} if had else {}}
    spec = {"type": type_, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], **spec}
    metadata = {"name": name, "namespace": "default", "uid": name}
    return {"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}


def planned(*services, range_=RANGE):
    picture = Picture([LoadBalancers(ControllerSettings(load_balancers=range_))])
    for each in services:
        picture.put(each)
    actions = picture.plan(ALL, "service-lb-controller").actions
    given = {each.key: each.patch["status"]["loadBalancer"]["ingress"] for each in actions if isinstance(each, Patch)}
    said = {each.key: each.message for each in actions if isinstance(each, Record)}
    return {key.partition("/")[2]: ingress and ingress[0]["ip"] for key, ingress in given.items()}, said


def test_each_gets_an_address_of_its_own():
    given, _ = planned(*(service(f"s{n}") for n in range(4)), service("has", had="10.245.1.250"))
    assert sorted(given.values()) == ["10.245.1.249", "10.245.1.251", "10.245.1.252", "10.245.1.253"]


def test_who_has_one_keeps_it_and_a_wrong_one_is_replaced():
    assert planned(service("has", had="10.245.1.253"))[0] == {}
    assert planned(service("has", had="10.9.9.9"))[0] == {"has": "10.245.1.249"}
    given, _ = planned(service("one", had="10.245.1.249"), service("two", had="10.245.1.249"))
    assert len(given) == 1 and set(given.values()) == {"10.245.1.250"}


def test_the_address_that_was_asked_for():
    assert planned(service("s", loadBalancerIP="10.245.1.252"))[0] == {"s": "10.245.1.252"}
    assert planned(service("s", had="10.245.1.249", loadBalancerIP="10.245.1.252"))[0] == {"s": "10.245.1.252"}
    given, said = planned(service("a", had="10.245.1.252"), service("s", loadBalancerIP="10.245.1.252"))
    assert given == {} and "already in use by service default/a" in said["default/s"]
    given, said = planned(service("s", loadBalancerIP="10.9.9.9"))
    assert given == {} and "address 10.9.9.9 is not in the range" in said["default/s"]


def test_a_range_that_is_full_is_said():
    given, said = planned(*(service(f"s{n}") for n in range(7)))
    assert len(given) == 6 and list(said.values())[-1].endswith("no address is left in the range 10.245.1.248/29")


def test_what_is_not_ours_and_what_needs_none_any_more():
    assert planned(service("other", loadBalancerClass="metallb.example/l2"))[0] == {}
    assert planned(service("other", had="10.9.9.9", loadBalancerClass="metallb.example/l2"))[0] == {}
    assert planned(service("plain", had="10.245.1.249", type_="ClusterIP"))[0] == {"plain": None}


@pytest.mark.parametrize("range_", [""])
def test_a_lab_without_a_range_gives_none(range_):
    assert planned(service("s"), range_=range_) == ({}, {})
