"""NetworkPolicies: packets sent through the rules end as a plain reading of the policies says."""

from __future__ import annotations

from ipaddress import collapse_addresses, ip_address, ip_network
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.proxy.chains import NO_RULES
from labctl.proxy.matches import Packet, World
from labctl.proxy.patch import diff
from labctl.proxy.policies import _blocks, _fenceable, fences
from labctl.proxy.rules import Facts, rules
from labctl.proxy.tracer import Tables, trace
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.networking_v1.networkpolicy import IPBlock, NetworkPolicy

NODES = {"minion-1": Facts("minion-1", "10.245.1.11"), "minion-2": Facts("minion-2", "10.245.1.12")}
LABELS = {"shop": {"team": "shop"}, "bank": {"team": "bank"}}


def pod(namespace, name, address, node="minion-1", phase="Running", **labels):
    ports = [{"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 5353, "protocol": "UDP"}]
    return msgspec.convert(
        {
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports if name != "bare" else []}]},
            "status": {"podIP": address, "phase": phase},
        },
        Pod,
    )


PODS = [
    pod("shop", "front", "10.246.1.2", app="front"),
    pod("shop", "store", "10.246.2.2", "minion-2", app="store", tier="back"),
    pod("shop", "bare", "10.246.1.3", app="bare", tier="back"),
    pod("bank", "till", "10.246.1.4", app="till"),
    pod("bank", "vault", "10.246.2.4", "minion-2", app="vault", tier="back"),
]
OUTSIDE = ("10.245.1.1", "192.0.2.1", "192.0.2.129")


class Cluster:
    def pods(self, namespace):
        return [one for one in PODS if one.metadata.namespace == namespace]

    def namespaces(self):
        return LABELS.items()


def policy(name="p", namespace="shop", selector=None, **spec):
    spec = {"podSelector": selector or {}} | spec
    if "policyTypes" not in spec:
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return NetworkPolicy.decoder()(msgspec.json.encode({"metadata": {"namespace": namespace, "name": name}, "spec": spec}))


def table(*policies):
    return {f"policies/{name}": fences([p for p in policies if p.metadata.namespace == name], name, Cluster()) for name in LABELS}


def passes(policies, source, destination, port=8080, protocol="tcp"):
    """Whether a connection is let through on the client's node and on the server's."""
    where = {one.status.pod_ip: one.spec.node_name for one in PODS}
    for name in sorted({where[a] for a in (source, destination) if a in where}):
        here = World(local=frozenset((NODES[name].address,)), rng=Random(1), recent={})
        packet = Packet(source, destination, protocol, port, "eth0")
        if trace(Tables.of(rules(table(*policies), NODES[name])), packet, here).verdict != "FORWARD":
            return False
    return True


FRONT, STORE, BARE, TILL, VAULT = (one.status.pod_ip for one in PODS)
BACK = {"matchLabels": {"tier": "back"}}


def test_without_a_policy_everything_passes():
    assert passes([], TILL, STORE) and passes([], OUTSIDE[0], STORE)


def test_a_policy_without_rules_lets_nobody_in_and_everybody_out():
    closed = [policy()]
    assert not passes(closed, FRONT, STORE) and not passes(closed, OUTSIDE[0], FRONT) and not passes(closed, FRONT, BARE)
    assert passes(closed, FRONT, TILL) and passes(closed, STORE, STORE), "out, elsewhere, and to itself"


def test_egress_alone_leaves_ingress_open():
    closed = [policy(policyTypes=["Egress"])]
    assert not passes(closed, FRONT, STORE) and not passes(closed, FRONT, OUTSIDE[0]) and passes(closed, TILL, STORE)


def test_rules_without_peers_or_ports_mean_all_of_them():
    assert passes([policy(ingress=[{}])], OUTSIDE[1], STORE, 1, "udp")
    only_web = [policy(ingress=[{"ports": [{"port": 8080}]}])]
    assert passes(only_web, OUTSIDE[1], STORE, 8080) and not passes(only_web, OUTSIDE[1], STORE, 8081)
    only_tcp = [policy(ingress=[{"ports": [{"protocol": "TCP"}]}])]
    assert passes(only_tcp, TILL, STORE, 9, "tcp") and not passes(only_tcp, TILL, STORE, 9, "udp")


@pytest.mark.parametrize(
    ("peer", "let_in"),
    [
        ({"podSelector": {"matchLabels": {"app": "front"}}}, {FRONT}),
        ({"podSelector": {}}, {FRONT, BARE}),
        ({"namespaceSelector": {"matchLabels": {"team": "bank"}}}, {TILL, VAULT}),
        ({"namespaceSelector": {}}, {FRONT, BARE, TILL, VAULT}),
        ({"namespaceSelector": {"matchLabels": {"team": "bank"}}, "podSelector": BACK}, {VAULT}),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["front"]}]}}, {BARE}),
        ({"ipBlock": {"cidr": "192.0.2.0/24"}}, {"192.0.2.1", "192.0.2.129"}),
        ({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}, {"192.0.2.1"}),
        ({"ipBlock": {"cidr": "2001:db8::/64"}}, set()),
    ],
)
def test_every_form_of_a_peer(peer, let_in):
    made = [policy(selector={"matchLabels": {"app": "store"}}, ingress=[{"from": [peer]}])]
    assert {a for a in (FRONT, BARE, TILL, VAULT, *OUTSIDE) if passes(made, a, STORE)} == let_in


def test_ports_by_range_and_by_name():
    ranged = [policy(ingress=[{"ports": [{"port": 8000, "endPort": 8080}]}])]
    assert [passes(ranged, TILL, STORE, n) for n in (7999, 8000, 8080, 8081)] == [False, True, True, False]
    named = [policy(ingress=[{"ports": [{"port": "web"}, {"port": "dns", "protocol": "UDP"}]}])]
    assert passes(named, TILL, STORE, 8080) and passes(named, TILL, STORE, 5353, "udp") and not passes(named, TILL, STORE, 80)
    assert not passes(named, TILL, BARE, 8080), "it has no port of that name"
    out = [policy(egress=[{"to": [{"namespaceSelector": {}}], "ports": [{"port": "web"}]}], policyTypes=["Egress"])]
    assert passes(out, FRONT, VAULT, 8080) and not passes(out, FRONT, VAULT, 80) and not passes(out, FRONT, BARE, 8080)


def test_a_named_port_in_a_block_is_that_of_the_pod_which_has_the_address():
    block = {"ipBlock": {"cidr": "10.246.0.0/16", "except": [f"{VAULT}/32"]}}
    out = [policy(egress=[{"to": [block], "ports": [{"port": "web"}]}], policyTypes=["Egress"])]
    assert passes(out, FRONT, STORE, 8080) and not passes(out, FRONT, STORE, 80)
    assert not passes(out, FRONT, BARE, 8080) and not passes(out, FRONT, VAULT, 8080) and not passes(out, FRONT, OUTSIDE[1], 8080)


def test_pods_are_looked_through_once_for_all_named_ports_of_a_policy():
    """A policy of 5,000 rules held the master for half a minute in a lab of 500 pods: all of them were looked through for each rule."""

    class Counting(Cluster):
        looks = 0

        def namespaces(self):
            self.looks += 1
            return super().namespaces()

    cluster = Counting()
    rules_ = [{"to": [{"ipBlock": {"cidr": f"10.246.{number}.0/24"}}], "ports": [{"port": "web"}]} for number in range(200)]
    side, *_ = fences([policy(egress=rules_, policyTypes=["Egress"])], "shop", cluster)
    opened = {opening.peers for opening in side.openings}
    assert opened == {(f"{one.status.pod_ip}/32",) for one in PODS if one.metadata.name != "bare"} and cluster.looks == 1


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"ports": [{"port": "web"}]}, True),
        ({"to": [{"ipBlock": {"cidr": "10.246.0.0/16"}}], "ports": [{"port": "web"}]}, True),
        ({"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}, False),
        ({"to": [{"namespaceSelector": {}}]}, True),
        ({"ports": [{"port": 80}]}, False),
    ],
)
def test_which_policies_depend_on_pods_of_other_namespaces(rule, says):
    assert policy(egress=[rule], policyTypes=["Egress"]).names_other_namespaces == says


def test_a_rule_for_ports_of_sctp_opens_no_others():
    only = policy(ingress=[{"ports": [{"port": 8080, "protocol": "SCTP"}]}])
    assert not passes([only], "10.246.2.2", "10.246.1.2")
    beside = policy(ingress=[{"ports": [{"port": 8080, "protocol": "SCTP"}, {"port": 8080}]}])
    assert passes([beside], "10.246.2.2", "10.246.1.2") and not passes([beside], "10.246.2.2", "10.246.1.2", port=81)


def test_what_one_of_several_policies_allows_passes_and_both_ends_are_asked():
    both = [
        policy("a", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "front"}}}]}]),
        policy("b", ingress=[{"ports": [{"port": 53}]}]),
    ]
    assert passes(both, FRONT, STORE, 8080) and passes(both, TILL, STORE, 53) and not passes(both, TILL, STORE, 8080)
    locked_in = [*both, policy("c", "bank", policyTypes=["Egress"])]
    assert not passes(locked_in, TILL, STORE, 53)


# -- against a plain reading

selectors = st.sampled_from([{}, BACK, {"matchLabels": {"app": "front"}}, {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}])
spaces = st.sampled_from([{}, {"matchLabels": {"team": "bank"}}])
peers = st.one_of(
    st.builds(lambda s: {"podSelector": s}, selectors),
    st.builds(lambda n: {"namespaceSelector": n}, spaces),
    st.builds(lambda n, s: {"namespaceSelector": n, "podSelector": s}, spaces, selectors),
    st.sampled_from([{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}, {"ipBlock": {"cidr": "10.246.0.0/16"}}]),
)
ports = st.sampled_from(
    [{"port": 8080}, {"port": 80, "endPort": 8080}, {"port": "web"}, {"protocol": "UDP"}, {"port": "dns", "protocol": "UDP"}, {"port": 53}]
)


def rule(side):
    return st.fixed_dictionaries({}, optional={side: st.lists(peers, max_size=2), "ports": st.lists(ports, max_size=2)})


policies = st.lists(
    st.builds(
        lambda namespace, selector, ingress, egress, types: (namespace, selector, ingress, egress, types),
        st.sampled_from(["shop", "bank"]),
        selectors,
        st.lists(rule("from"), max_size=2),
        st.lists(rule("to"), max_size=2),
        st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
    ),
    max_size=3,
).map(lambda all_: [policy(f"p{n}", ns, s, ingress=i, egress=e, policyTypes=t) for n, (ns, s, i, e, t) in enumerate(all_)])


def allowed(all_, source, destination, port, protocol):
    """The same question, answered from the policies' own words."""
    by_address = {one.status.pod_ip: one for one in PODS}
    if source == destination:
        return True
    for direction, own, other in (("Egress", source, destination), ("Ingress", destination, source)):
        about = by_address.get(own)
        mine = [p for p in all_ if about and p.metadata.namespace == about.metadata.namespace and direction in p.spec.policy_types]
        mine = [p for p in mine if p.pods().matches(about.metadata.labels)]
        rules_ = [(p, r) for p in mine for r in (p.spec.ingress if direction == "Ingress" else p.spec.egress)]
        asked = by_address.get(destination)
        if mine and not any(
            _peer_fits(p, r.peers, by_address.get(other), other) and _port_fits(r.ports, asked, port, protocol) for p, r in rules_
        ):
            return False
    return True


def _peer_fits(of, wanted, found, address):
    for one in wanted:
        if one.ip_block is not None:
            inside = ip_address(address) in ip_network(one.ip_block.cidr)
            if inside and not any(ip_address(address) in ip_network(out) for out in one.ip_block.except_):
                return True
        elif found is not None and one.pods().matches(found.metadata.labels):
            space, chosen = found.metadata.namespace, one.namespaces()
            if space == of.metadata.namespace if chosen is None else chosen.matches(LABELS[space]):
                return True
    return not wanted


def _port_fits(wanted, asked, port, protocol):
    names = {(p.name, p.protocol): p.container_port for c in asked.spec.containers for p in c.ports} if asked else {}
    for one in wanted:
        if one.protocol.lower() != protocol:
            continue
        first = names.get((one.port, one.protocol)) if isinstance(one.port, str) else one.port
        if one.port is None or (first and first <= port <= (one.end_port or first)):
            return True
    return not wanted


@given(policies, st.sampled_from([8080, 5353, 53, 1000]), st.sampled_from(["tcp", "udp"]))
@settings(max_examples=60, deadline=None)
def test_the_rules_do_what_the_policies_say(all_, port, protocol):
    everybody = [one.status.pod_ip for one in PODS]
    for source in (*everybody, *OUTSIDE):
        for destination in everybody if source in OUTSIDE else (*everybody, OUTSIDE[1]):
            said = allowed(all_, source, destination, port, protocol)
            assert passes(all_, source, destination, port, protocol) == said, (source, destination)


@given(policies, st.sampled_from(sorted(NODES)))
@settings(max_examples=40)
def test_no_chain_dangles_and_all_of_it_is_what_the_helper_takes(all_, node):
    from labctl.agent.helper import check

    made = rules(table(*all_), NODES[node])
    unused = {f"nat: nothing jumps to LABCTL-{name}" for name in ("INSIDE", "MARK")}
    assert set(Tables.of(made).dangling()) <= unused
    check.rules(diff(made, NO_RULES).text())


def test_what_is_left_of_a_block_is_computed_once_for_each_exception():
    """Each exception was taken out of each piece that was left: with 5,000 of them the master stood still for minutes."""
    out = [f"10.{number // 250}.{number % 250}.7/32" for number in range(2_000)]
    block = IPBlock(cidr="10.0.0.0/8", except_=(*out, "10.0.0.0/30", "10.0.0.1/32", "fd00::/64", "10.255.0.0/16"))
    left = [ip_network(each) for each in _blocks(block)]
    addresses = (1 << 24) - 2_000 - 4 - (1 << 16)
    assert sum(each.num_addresses for each in left) == addresses
    assert list(collapse_addresses(left)) == left
    assert list(_blocks(IPBlock(cidr="10.0.0.0/24", except_=("10.0.0.0/8",)))) == []


def test_a_pod_whose_address_is_none_is_in_no_rule():
    assert not _fenceable(pod("shop", "odd", "10.0.0.1 -j ACCEPT"))
