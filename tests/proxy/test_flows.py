"""Which connections are forgotten, rule by rule (proxy/flows.py). Real kernels are asked in test_real.py."""

from __future__ import annotations

import pytest

from labctl.proxy.chains import NO_RULES
from labctl.proxy.flows import stale, unrouted
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.rules import Facts, rules_of
from labctl.proxy.steps import Step, moved

FACTS = Facts("minion-1", "10.245.1.11")
A, B = Backend("10.246.1.5", 5353, "minion-1", "default/a"), Backend("10.246.2.5", 5353, "minion-2", "default/b")


def dns(*backends: Backend, **more) -> Frontend:
    given = {"protocol": "UDP", "port": 53, "service": "kube-system/dns", "name": "dns", "address": "10.247.0.10"} | more
    return Frontend(backends=backends, **given)


def forgotten(before: Frontend | None, after: Frontend | None, facts: Facts = FACTS, dead: tuple[str, ...] = ()):
    had, has = (rules_of((one,), facts) if one else NO_RULES for one in (before, after))
    return stale([Step(had, has)], (after,) if after else (), facts, lambda address: address in dead)


@pytest.mark.parametrize(
    ("before", "after", "serving"),
    [
        (dns(A, B), dns(A), [A.address]),  # an endpoint ended
        (dns(A), dns(), []),  # the last one ended
        (dns(), dns(A), [A.address]),  # the first one came
        (dns(A, B), dns(A, leaving=(B,)), [A.address, B.address]),  # one is leaving and still serves
        (dns(A, B, internal_local=True), dns(A, B), [A.address, B.address]),  # a policy moves new connections only
        (dns(A), None, []),  # the Service is gone
        (dns(), None, []),
    ],
)
def test_a_udp_entry_stays_where_its_answers_come_from_an_address_that_serves(before, after, serving):
    assert forgotten(before, after) == {"udp": [{"address": "10.247.0.10", "port": 53, "serving": serving}]}


def test_every_way_to_a_port_is_looked_at():
    outside = {"node_port": 30053, "external_addresses": ("192.0.2.7",)}
    ways = [("", 30053), ("10.247.0.10", 53), ("192.0.2.7", 53)]
    for found in (forgotten(dns(A, B, **outside), dns(A, **outside)), forgotten(dns(A, **outside), None), forgotten(dns(**outside), None)):
        assert [(each["address"], each["port"]) for each in found["udp"]] == ways
    left = forgotten(dns(A, **outside), dns(A))["udp"]
    assert {(each["address"], each["port"]): each["serving"] for each in left} == {
        w: [A.address] if w[0] == "10.247.0.10" else [] for w in ways
    }


def test_tcp_entries_go_where_the_endpoint_is_dead_and_those_without_an_answer_where_it_left():
    one, both = dns(A, protocol="TCP"), dns(A, B, protocol="TCP")
    for dead in ((), (A.address,)):
        assert forgotten(both, one, dead=dead) == {"unanswered": [{"address": B.address, "port": 5353}]}
    assert forgotten(one, both) == {}

    assert forgotten(both, one, dead=(B.address,)) == {"tcp": [{"address": B.address, "port": 5353}]}


def test_where_rules_are_there_again_entries_go_that_lead_to_no_endpoint():
    web, nothing = rules_of((dns(A, protocol="TCP"),), FACTS), NO_RULES
    assert unrouted([Step(nothing, web)]) == [{"address": "10.247.0.10", "port": 53}]
    assert unrouted([Step(web, web)]) == unrouted([Step(web, nothing)]) == []


def test_an_endpoint_that_another_key_still_serves_did_not_leave():
    one, two = dns(A, protocol="TCP"), dns(A, protocol="TCP", service="default/other")
    first, second = (rules_of((each,), FACTS) for each in (one, two))
    endpoint = (A.address, A.port)
    assert moved([Step(first, NO_RULES)]) == ({endpoint}, frozenset())
    assert moved([Step(first, NO_RULES), Step(second, second)]) == (frozenset(), frozenset())
    assert moved([Step(first, NO_RULES), Step(NO_RULES, second)]) == (frozenset(), {endpoint})


def test_in_userspace_mode_the_forwarder_looks_after_its_endpoints():
    facts = Facts("minion-1", "10.245.1.11", userspace=True)
    (entry,) = forgotten(dns(A, B, local_port=20_001), dns(A, local_port=20_001), facts)["udp"]
    assert entry["serving"] == ["10.245.1.11"]
