"""Packets sent through the rendered rules: where they end, and that no change leaves anything behind."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.proxy.chains import NO_RULES, Rules, as_text, merge, parse, probability, same
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.hostports import HostPort
from labctl.proxy.matches import Packet, World
from labctl.proxy.patch import LINES_AT_ONCE, NEVER_CUT, Patch, diff, join
from labctl.proxy.rules import BASE, Base, Facts, _relevant, _render, base, rules, rules_of
from labctl.proxy.steps import REMEMBERED, _steps, moved, step
from labctl.proxy.tracer import Tables, trace
from labctl.sim.helpers import FakeHelper
from tests.work import calls

NODE = Facts(node="minion-1", address="10.245.1.11")
LOCAL = frozenset(("10.245.1.11",))
POD = "10.246.1.200"
MINIONS = ("10.245.1.11", "10.245.1.12")


def world(seed=0) -> World:
    return World(local=LOCAL, rng=Random(seed), recent={})


def restored(rules_: Rules, change: Patch, at_once: int = LINES_AT_ONCE) -> Rules:
    """What a machine has after the patch; it refuses what iptables-restore refuses, after every commit."""
    helper = FakeHelper("minion-1")
    for each in (diff(rules_, NO_RULES), change):
        for commit in each.commits(at_once):
            helper.answer("apply", {"rules": commit, "commits": 1})
    return parse(helper.dump())


# -- strategies: small worlds, so that they collide ------------------------------------------------------------------------------------------

backends = st.lists(
    st.builds(
        Backend,
        st.sampled_from([f"10.246.{n}.{h}" for n in (1, 2) for h in (2, 3, 4)]),
        st.sampled_from([80, 8080]),
        st.sampled_from(["minion-1", "minion-2", ""]),
    ),
    unique_by=lambda b: (b.address, b.port),
    max_size=5,
).map(lambda found: tuple(sorted(found)))


@st.composite
def tables(draw):
    table = {}
    for number in draw(st.sets(st.integers(1, 6), max_size=5)):
        ports = []
        for name, protocol in draw(st.sets(st.sampled_from([("a", "TCP"), ("b", "TCP"), ("c", "UDP")]), min_size=1)):
            ports.append(
                Frontend(
                    service=f"default/s{number}",
                    name=name,
                    protocol=protocol,
                    address=f"10.247.0.{number}",
                    port={"a": 80, "b": 81, "c": 80}[name],
                    backends=draw(backends),
                    leaving=draw(backends),
                    node_port=draw(st.sampled_from([0, 30000 + number * 10 + ord(name)])),
                    external_addresses=draw(st.sampled_from([(), (f"192.0.2.{number}",)])),
                    affinity_s=draw(st.sampled_from([0, 60])),
                    external_local=draw(st.booleans()),
                    internal_local=draw(st.booleans()),
                    local_port=20000 + number * 10 + ord(name),
                )
            )
        table[f"default/s{number}"] = tuple(ports)
    for number in draw(st.sets(st.integers(1, 3), max_size=2)):
        place = draw(st.sampled_from(["minion-1", "minion-2"]))
        port = HostPort(f"default/p{number}", place, draw(st.sampled_from(["TCP", "UDP"])), "", 8000 + number, f"10.246.9.{number}", 80)
        table[f"pods/default/p{number}"] = (port,)
    return table


facts = st.builds(
    lambda recent, random_fully, userspace: Facts("minion-1", "10.245.1.11", recent, random_fully, userspace),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


# -- properties ------------------------------------------------------------------------------------------------------------------------------


@given(tables(), st.integers(0, 99))
def test_every_packet_to_a_service_ends_at_one_of_its_ready_endpoints(table, seed):
    walked = Tables.of(rules(table | {BASE: (Base(MINIONS),)}, NODE))
    for frontend in (f for ports in table.values() for f in ports if isinstance(f, Frontend)):
        near = frontend.near("minion-1")
        inside = near if frontend.internal_local else frontend.serving
        outside = near if frontend.external_local else frontend.serving
        ways = [(frontend.address, frontend.port, inside, inside)]
        ways += [(address, frontend.port, frontend.serving, outside) for address in frontend.external_addresses]
        ways += [("10.245.1.11", frontend.node_port, frontend.serving, outside)] if frontend.node_port else []
        for address, port, for_the_lab, for_others in ways:
            for source, interface in (("10.245.1.11", ""), (POD, "veth1"), ("10.245.1.12", "eth0"), ("10.245.1.1", "eth0")):
                allowed = for_others if source == "10.245.1.1" else for_the_lab
                ended = trace(walked, Packet(source, address, frontend.protocol.lower(), port, interface), world(seed))
                if allowed:
                    assert ended.verdict == "FORWARD", ended
                    assert (ended.packet.destination, ended.packet.port) in {(b.address, b.port) for b in allowed}
                else:
                    assert ended.verdict in ("REJECT", "DROP"), ended


@given(tables(), facts)
def test_no_chain_is_lost_and_none_dangles(table, facts):
    unused = {"nat: nothing jumps to LABCTL-INSIDE", "nat: nothing jumps to LABCTL-MARK"}  # while nobody needs them
    assert set(Tables.of(rules(table, facts)).dangling()) <= unused


@given(tables(), tables(), facts, st.sampled_from([1, 4, LINES_AT_ONCE, NEVER_CUT]))
def test_a_patch_makes_one_world_of_the_other(before, after, facts, at_once):
    old, new = rules(before, facts), rules(after, facts)
    assert same(restored(old, diff(new, old), at_once), new)
    assert not diff(new, new)


@given(tables(), tables(), st.sampled_from([1, 4, LINES_AT_ONCE]))
@settings(max_examples=50)
def test_no_commit_of_a_patch_breaks_what_stays(before, after, at_once):
    """Between any two commits, who asks for a Service port that is served before and after is sent to an endpoint, old or new."""
    old, new = rules(before, NODE), rules(after, NODE)
    helper = FakeHelper("minion-1")
    helper.answer("apply", {"rules": diff(old, NO_RULES).text(), "commits": len(diff(old, NO_RULES).commits())})
    both = [
        (was, now)
        for key in before.keys() & after.keys()
        for was in before[key]
        for now in after[key]
        if isinstance(was, Frontend) and was.id == now.id
    ]
    staying = [(was, now) for was, now in both if (was.protocol, was.port) == (now.protocol, now.port)]
    for commit in diff(new, old).commits(at_once):
        helper.answer("apply", {"rules": commit, "commits": 1})
        walked = Tables.of(parse(helper.dump()))
        for was, now in staying:
            wanted = [f.near("minion-1") if f.internal_local else f.serving for f in (was, now)]
            if all(wanted):
                ended = trace(walked, Packet(POD, now.address, now.protocol.lower(), now.port, "veth1"), world())
                assert (ended.packet.destination, ended.packet.port) in {(b.address, b.port) for some in wanted for b in some}


@given(tables(), tables(), facts)
@settings(max_examples=50)
def test_changing_service_by_service_is_changing_all(before, after, facts):
    old, new = rules(before, facts), rules(after, facts)
    parts = [
        diff(rules_of(after.get(key, ()), facts), rules_of(before.get(key, ()), facts)) for key in sorted(before.keys() | after.keys())
    ]
    assert same(restored(old, join(parts)), new)


@given(tables(), tables(), facts)
@settings(max_examples=50)
def test_rules_made_of_the_last_ones_are_those_made_anew(before, after, facts):
    for table in (before, after):
        for entries in table.values():
            anew = merge(_render(entry, _relevant(entry, facts)).rules for entry in entries if isinstance(entry, Frontend))
            assert not isinstance(entries[0], Frontend) or same(rules_of(entries, facts), anew)
            assert rules_of(entries, facts) is rules_of(entries, facts) or not isinstance(entries[0], Frontend)


def _large(pods: range, port: str = "") -> Frontend:
    found = tuple(sorted(Backend(f"10.246.{n // 250}.{n % 250 + 2}", 80, "minion-2", f"default/p{n}") for n in pods))
    return Frontend("default/large", port, "TCP", "10.247.9.9", 80 if not port else 81, found)


def test_of_a_large_service_a_change_of_one_endpoint_costs_the_change_and_one_chain():
    """Of 200 endpoints, all chains were named, rendered and parsed anew."""
    rules_of((_large(range(200)),), NODE)
    assert calls(lambda: rules_of((_large(range(1, 201)),), NODE), "chain_name") <= 6
    kept, anew = (rules_of((_large(range(n, 200 + n)),), NODE).nat.owned for n in (3, 4))
    assert sum(anew.get(chain) is lines for chain, lines in kept.items()) == 199


@pytest.mark.parametrize("ports", [("",), ("", "b")])
def test_machines_that_take_the_same_step_share_what_it_is(ports):
    """Each minion compared, and read, the rules of a Service by itself: with 47 of them a change of one endpoint cost 47 times as much."""

    def change(at: int, machines: int) -> None:
        each = [Facts(node=f"minion-{n}", address=f"10.245.1.{n}") for n in range(10, 10 + machines)]
        had, has = ([rules_of(tuple(_large(range(n, n + 100), port) for port in ports), one) for one in each] for n in (at, at + 1))
        for taken in map(step, had, has):
            assert taken.patch and len(moved([taken])[0]) == 1

    alone = calls(lambda: change(1000, 1), "destinations")
    assert 0 < calls(lambda: change(2000, 10), "destinations") == alone
    for at in range(REMEMBERED + 10):
        step(Rules(missing=(str(at),)), NO_RULES)
    assert len(_steps) == REMEMBERED


@given(tables(), facts)
def test_without_services_only_the_base_is_left(table, facts):
    assert same(restored(rules(table, facts), diff(rules({}, facts), rules(table, facts))), base(facts))


@given(tables(), facts)
def test_names_fit_and_lines_are_single(table, facts):
    text = diff(rules(table, facts), NO_RULES).text()
    assert all(len(line[1:].split()[0]) <= 28 for line in text.splitlines() if line.startswith(":"))
    assert all(line[:1] in ":*-C" for line in text.splitlines())


# -- single cases ----------------------------------------------------------------------------------------------------------------------------


def web(count=3, **more) -> Frontend:
    return Frontend(
        "default/web",
        "http",
        "TCP",
        "10.247.0.9",
        80,
        tuple(Backend(f"10.246.{1 + n % 2}.{n + 2}", 8080, f"minion-{1 + n % 2}") for n in range(count)),
        **more,
    )


def send(frontend, packet, world_, facts=NODE):
    return trace(Tables.of(rules({"default/web": (frontend,)}, facts)), packet, world_)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_endpoints_share_alike(count):
    walked, here = Tables.of(rules({"default/web": (web(count),)}, NODE)), world(1)
    tries = 700 * count
    ends = Counter(trace(walked, Packet(POD, "10.247.0.9", "tcp", 80, "veth1"), here).packet.destination for _ in range(tries))
    assert len(ends) == count
    assert all(600 < n < 800 for n in ends.values()), ends


def test_a_client_with_affinity_stays_and_others_spread():
    walked, here = Tables.of(rules({"default/web": (web(affinity_s=60),)}, NODE)), world(2)

    def end(source, now):
        here.now = now
        return trace(walked, Packet(source, "10.247.0.9", "tcp", 80, "veth1"), here).packet.destination

    assert len({end("10.246.1.77", t) for t in range(0, 500, 50)}) == 1
    assert len({end(f"10.246.1.{n}", 600) for n in range(80, 120)}) == 3
    assert len({end("10.246.1.77", t) for t in range(1000, 100_000, 100)}) == 3, "after the timeout it may go anywhere"


def test_affinity_without_xt_recent_is_left_out_and_said():
    poor = Facts("minion-1", "10.245.1.11", recent=False)
    made = rules({"default/web": (web(affinity_s=60),)}, poor)
    assert made.missing == ("sessionAffinity ClientIP is ignored: this machine's kernel has no xt_recent",)
    assert "recent" not in diff(made, NO_RULES).text()


def test_who_is_masqueraded():
    def masqueraded(source, destination, port, interface, frontend):
        return send(frontend, Packet(source, destination, "tcp", port, interface), world()).masqueraded

    plain, local = web(1, node_port=30080, external_addresses=("192.0.2.7",)), web(1, node_port=30080, external_local=True)
    assert not masqueraded(POD, "10.247.0.9", 80, "veth1", plain), "a pod is known by its own address"
    assert masqueraded("10.246.1.2", "10.247.0.9", 80, "veth1", plain), "hairpin"
    assert masqueraded("10.245.1.1", "10.247.0.9", 80, "eth0", plain), "from outside through this machine"
    assert masqueraded("10.245.1.1", "10.245.1.11", 30080, "eth0", plain)
    assert masqueraded(POD, "192.0.2.7", 80, "veth1", plain)
    assert not masqueraded("10.245.1.1", "10.245.1.11", 30080, "eth0", local), "externalTrafficPolicy Local keeps the client's address"


def test_who_of_the_lab_asks_a_local_port_is_served_from_anywhere_and_answered_through_here():
    local = Frontend(
        "default/web", "http", "TCP", "10.247.0.9", 80, (Backend("10.246.2.3", 8080, "minion-2"),), node_port=30080, external_local=True
    )
    walked = Tables.of(rules({BASE: (Base(MINIONS),), "default/web": (local,)}, NODE))

    def ask(source, interface):
        return trace(walked, Packet(source, "10.245.1.11", "tcp", 30080, interface), world())

    for source, interface, masqueraded in (("10.245.1.11", "", True), ("10.245.1.12", "eth0", True), (POD, "veth1", False)):
        ended = ask(source, interface)
        assert (ended.packet.destination, ended.masqueraded) == ("10.246.2.3", masqueraded), source
    assert ask("10.245.1.1", "eth0").verdict == "DROP", "somebody outside has a load balancer that asks the next minion"


def test_the_mark_does_not_leave_the_machine():
    assert send(web(1), Packet("10.246.1.2", "10.247.0.9", "tcp", 80, "veth1"), world()).packet.mark == 0


def test_a_port_that_no_service_has_is_refused():
    for port, protocol in ((81, "tcp"), (80, "udp")):
        assert send(web(), Packet(POD, "10.247.0.9", protocol, port, "veth1"), world()).verdict == "REJECT"


def test_other_traffic_is_left_alone():
    for destination in ("10.246.2.9", "10.245.1.12", "192.0.2.1"):
        ended = send(web(), Packet(POD, destination, "tcp", 80, "veth1"), world())
        assert (ended.verdict, ended.masqueraded, ended.packet.destination) == ("FORWARD", False, destination)


def test_hints_lead_each_machine_to_its_own_endpoint_and_zone():
    near = [Backend(f"10.246.{n}.2", 80, f"minion-{n}", for_zones=("ab"[n - 1],), for_nodes=(f"minion-{n}",)) for n in (1, 2)]
    for by, facts in (("by_node", NODE), ("by_zone", msgspec.structs.replace(NODE, node="minion-3", zone="a"))):
        web = msgspec.structs.replace(Frontend("default/web", "", "TCP", "10.247.0.9", 80, tuple(near)), **{by: True})
        here, elsewhere = rules_of((web,), facts), rules_of((web,), msgspec.structs.replace(facts, node="minion-9", zone="c"))
        assert "10.246.1.2:80" in as_text(here) and "10.246.2.2:80" not in as_text(here)
        assert "10.246.2.2:80" in as_text(elsewhere) and "10.246.1.2:80" in as_text(elsewhere)


def test_a_trace_names_its_rules():
    ended = send(web(1), Packet(POD, "10.247.0.9", "tcp", 80, "veth1"), world())
    assert [s.chain for s in ended.steps if s.table == "nat"][:2] == ["PREROUTING", "LABCTL-SERVICES"]
    assert "default/web:http -> 10.246.1.2:8080" in " ".join(s.rule for s in ended.steps)


def test_userspace_goes_to_the_forwarder_and_nobody_else_may():
    facts = Facts("minion-1", "10.245.1.11", userspace=True)
    front = web(2, local_port=23456, node_port=30080)
    for destination, port in (("10.247.0.9", 80), ("10.245.1.11", 30080)):
        ended = send(front, Packet(POD, destination, "tcp", port, "veth1"), world(), facts)
        assert (ended.verdict, ended.packet.destination, ended.packet.port) == ("LOCAL", "10.245.1.11", 23456)
    assert send(front, Packet(POD, "10.245.1.11", "tcp", 23456, "veth1"), world(), facts).verdict == "REJECT"


def test_one_more_service_touches_only_its_own_chains():
    made = diff(rules_of((web(2),), NODE), NO_RULES)
    assert len(made.commits()) == 1
    assert {line for line in made.text().splitlines() if line.startswith(":")} == {f":{chain} - [0:0]" for chain, _ in made.nat.created}
    assert len(made.nat.created) == 3


def test_a_refusal_comes_before_the_last_translation_goes():
    full, empty = rules_of((web(2, node_port=30080),), NODE), rules_of((web(0, node_port=30080),), NODE)
    assert [line for line in diff(empty, full).text().splitlines() if line.startswith("*")] == ["*filter", "*nat"]
    assert [line for line in diff(full, empty).text().splitlines() if line.startswith("*")] == ["*nat", "*filter"]


def test_probabilities_are_the_kernels_to_the_last_digit():
    assert [probability(n) for n in (1, 2, 3, 7)] == ["1.00000000000", "0.50000000000", "0.33333333349", "0.14285714272"]


def test_other_peoples_rules_are_not_ours():
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER\n-A PREROUTING -j LABCTL-SERVICES\n-A POSTROUTING -j LABCTL-NETWORK\nCOMMIT\n"
    assert parse(text).nat.shared == ("PREROUTING -j LABCTL-SERVICES",)
    assert merge([parse(text), NO_RULES]).nat.owned == {}


def test_a_load_balancers_address_is_for_its_source_ranges():
    fenced = web(1, external_addresses=("10.245.1.225", "192.0.2.7"), fenced_addresses=("10.245.1.225",), source_ranges=("10.1.0.0/16",))

    def verdict(source, destination):
        return send(fenced, Packet(source, destination, "tcp", 80, "eth0"), world()).verdict

    assert verdict("10.1.2.3", "10.245.1.225") == "FORWARD"
    assert verdict("10.2.2.3", "10.245.1.225") == "DROP"
    assert verdict("10.2.2.3", "192.0.2.7") == "FORWARD", "an external address is no load balancer's"
    assert verdict("10.2.2.3", "10.247.0.9") == "FORWARD"
