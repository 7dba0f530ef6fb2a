"""The Proxy on a real store and runner: what reaches which minion, when, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio

import pytest

from labctl.proxy.settings import ProxySettings
from labctl.resources.kinds.shared import condition_status

A, B = ("a", "10.246.1.5", "minion-1"), ("b", "10.246.2.5", "minion-2")


def drained(world, pod: str) -> bool:
    view = world.client.get("pods", f"default/{pod}")
    return condition_status(view.status.conditions, "labctl.internal/Drained") == "True"


def events(world, reason: str) -> list:
    return [e for e in world.client.list("events", "default") if e.reason == reason]


async def test_every_minion_gets_every_service(world):
    await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A, B)
    await world.minion(2)
    await world.settled()
    assert world.right("minion-1") and world.right("minion-2")
    assert "10.246.2.5:8080" in world.helpers.minions["minion-2"].dump()


async def test_a_node_that_moves_to_another_zone_gets_that_zones_endpoints(world):
    await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A, B, zones=("a", "b"))
    await world.settled()
    for zone, address in (("a", A[1]), ("b", B[1]), (None, "")):
        await world.client.patch("nodes", "minion-1", {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}})
        await world.settled()
        said = world.helpers.minions["minion-1"].dump()
        assert [each in said for each in (A[1], B[1])] == [each == address or not zone for each in (A[1], B[1])]


async def test_a_service_is_left_alone_as_long_as_a_label_says_so(world):
    await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A)
    for value, served in (("mine", False), (None, True)):
        await world.client.patch("services", "default/web", {"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": value}}})
        await world.settled()
        assert (A[1] in world.helpers.minions["minion-1"].dump()) == served


async def test_one_more_service_sends_its_own_lines_and_reads_nothing_back(world):
    helper = await world.minion(1)
    for n in range(20):
        await world.service(f"s{n}")
    await world.settled()
    helper.calls.clear()
    await world.service("new")
    await world.endpoints("new", A)
    await world.settled()
    sent = [params["rules"] for method, params in helper.calls if method == "apply"]
    assert set(helper.methods()) == {"apply"}
    assert "default/s" not in "".join(sent) and "default/new" in "".join(sent)
    assert world.right("minion-1")


async def test_what_changes_while_a_minion_is_busy_is_one_more_round(world):
    helper = await world.minion(1)
    await world.settled()
    helper.calls.clear()
    helper.delay_s = 0.05
    for n in range(10):
        await world.service(f"s{n}")
    await world.settled()
    assert helper.methods().count("apply") <= 3
    assert world.right("minion-1")


async def test_a_slow_minion_delays_no_other(world):
    slow, quick = await world.minion(1), await world.minion(2)
    await world.settled()
    slow.delay_s = 60.0
    await world.service("web")
    await world.endpoints("web", A)
    await world.until(lambda: "10.246.1.5" in quick.dump())
    assert not world.right("minion-1")


async def test_a_flushed_table_is_repaired_and_told(world):
    helper = await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    world.helpers.flush("minion-1")
    await world.settled()
    assert world.right("minion-1")
    await world.events.flush()
    (event,) = events(world, "ProxyRulesRepaired")
    assert event.involved_object.name == "minion-1" and event.type == "Warning"
    helper.calls.clear()
    helper.tables["nat"]["PREROUTING"].insert(0, "-j ACCEPT")
    world.helpers.touched("minion-1")
    await world.settled()
    assert set(helper.methods()) <= {"network"}, "a rule that is not ours is not ours to judge"


async def test_a_single_rule_that_somebody_deleted_comes_back_alone(world):
    helper = await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    chain = next(c for c in helper.tables["nat"] if c.startswith("LABCTL-SVC"))
    helper.tables["nat"][chain].pop()
    helper.calls.clear()
    world.helpers.touched("minion-1")
    await world.settled()
    assert world.right("minion-1")
    (sent,) = [params["rules"] for method, params in helper.calls if method == "apply"]
    assert sent.count(":LABCTL") == 1


async def test_a_minion_that_was_away_gets_everything_when_it_is_back(world):
    helper = await world.minion(1)
    await world.settled()
    world.helpers.lose("minion-1")
    await world.service("web")
    await world.endpoints("web", A)
    await world.until(lambda: "default/web" in world.proxy.table)
    helper.tables = type(helper)("x").tables  # it was rebooted meanwhile
    world.helpers.reconnect("minion-1")
    await world.until(lambda: world.right("minion-1"))


async def test_of_machines_that_are_not_connected_no_change_is_noted(world):
    """They read everything when they come. In a lab of thousands, waking each of them for each change took most of the time."""
    await world.minion(1)
    away = await world.minion(2)
    world.helpers.lose("minion-2")
    await world.until(lambda: len(world.proxy._minions) == 2)
    for n in range(5):
        await world.service(f"s{n}")
    await world.until(lambda: world.right("minion-1") and len(world.proxy.table) > 5)
    assert not world.proxy._minions["minion-2"].dirty
    away.calls.clear()
    world.helpers.reconnect("minion-2")
    await world.until(lambda: world.right("minion-2"))


async def test_of_many_machines_that_are_away_a_change_costs_nothing(world):
    """Each change of a Service once asked of every machine whether it is connected: of 5,000 machines that took longer than all else that the proxy does."""
    await world.minion(1)

    async def cost(name: str) -> int:
        asked = []
        connected = world.helpers.connected
        world.helpers.connected = lambda machine: asked.append(machine) or connected(machine)
        await world.service(name)
        await world.endpoints(name, A)
        await world.until(lambda: world.right("minion-1") and f"default/{name}" in world.proxy.table)
        await world.settled()
        del world.helpers.connected
        return asked.count("minion-2")

    await world.minion(2)
    await world.until(lambda: len(world.proxy._minions) == 2)
    await world.settled()
    assert await cost("near")
    world.helpers.lose("minion-2")
    assert not await cost("away")
    world.helpers.reconnect("minion-2")
    await world.until(lambda: world.right("minion-2"))


async def test_an_end_while_a_minion_was_away_is_looked_at_when_it_is_back(world):
    helper = await world.minion(1)
    await world.pod("a")
    await world.service("web")
    await world.endpoints("web", A, B)
    await world.settled()
    await world.endpoints("web", B)  # its pod lives: connections to it go on
    await world.settled()
    world.helpers.lose("minion-1")
    await world.client.delete("pods", "default/a", grace_s=0)
    await world.until(lambda: world.client.get("pods", "default/a") is None and world.runner.idle)
    helper.forgotten.clear()
    world.helpers.reconnect("minion-1")
    await world.until(lambda: bool(helper.forgotten))
    assert helper.forgotten[-1]["tcp"] == [{"address": A[1], "port": 8080}]


async def test_a_change_that_came_while_a_minions_facts_were_asked_counts_as_done(world):
    """A pod that is leaving waits for the slowest minion: one that has everything must not be taken for one that is behind."""
    helper = await world.minion(1)
    helper.delay_s = 0.02
    await world.until(lambda: "minion-1" in world.proxy._minions)
    await world.service("web")
    await world.endpoints("web", A)
    await world.until(lambda: world.right("minion-1") and "default/web" in world.proxy.table)
    await world.settled()


async def test_a_pods_host_port_comes_with_its_address_and_goes_with_the_pod(world):
    helper = await world.minion(1)
    port = {"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}
    spec = {"containers": [{"name": "c", "image": "x", "ports": [port]}], "nodeName": "minion-1"}
    await world.client.create("pods", {"metadata": {"namespace": "default", "name": "web"}, "spec": spec})
    await world.settled()
    assert "10.246.1.5" not in helper.dump()
    await world.client.patch("pods", "default/web", {"status": {"podIP": "10.246.1.5", "podIPs": [{"ip": "10.246.1.5"}]}}, "status")
    await world.settled()
    assert "--dport 8080" in helper.dump() and "--to-destination 10.246.1.5:80" in helper.dump()
    await world.client.patch("pods", "default/web", {"status": {"phase": "Succeeded"}}, "status")
    await world.settled()
    assert "10.246.1.5" not in helper.dump() and world.right("minion-1")


async def test_a_restarted_master_changes_nothing_that_is_right(world):
    helper = await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    helper.calls.clear()
    world.helpers.reconnect("minion-1")
    await world.until(lambda: "dump" in helper.methods())
    await world.settled()
    assert "apply" not in helper.methods()


async def test_a_refused_restore_is_tried_again_from_what_is_there(world):
    helper = await world.minion(1)
    await world.settled()
    helper.fail_next = "iptables-restore: line 3 failed"
    await world.service("web")
    await world.until(lambda: world.right("minion-1") and "default/web" in world.proxy.table)
    await world.events.flush()
    assert "line 3 failed" in events(world, "ProxyRulesFailed")[0].message


async def test_a_deleted_service_leaves_nothing(world):
    helper = await world.minion(1)
    await world.settled()
    before = helper.dump()
    await world.service("web", type="NodePort", externalIPs=["192.0.2.1"])
    await world.endpoints("web", A)
    await world.settled()
    assert helper.dump() != before
    await world.client.delete("services", "default/web")
    await world.settled()
    assert helper.dump() == before


async def test_no_service_takes_a_machines_own_ports_at_its_own_address(world):
    """A Service with a minion as its external address had the master's SSH to that minion, or refused it where it had no endpoints."""
    helper = await world.minion(1)
    ports = [{"name": name, "port": port, "targetPort": 8080} for name, port in (("ssh", 22), ("web", 80))]
    await world.service("web", ports=ports, externalIPs=["10.245.1.11", "192.0.2.1"])
    await world.endpoints("web", A)
    await world.settled()
    lines = [line.split() for line in helper.dump().splitlines() if "-d" in line.split() and "--dport" in line]
    reached = {(words[words.index("-d") + 1], words[words.index("--dport") + 1]) for words in lines}
    assert {each for each in reached if not each[0].startswith("10.247.")} == {
        ("192.0.2.1/32", "22"),
        ("192.0.2.1/32", "80"),
        ("10.245.1.11/32", "80"),
    }


async def test_no_service_takes_the_apis_own_address(world):
    """Who may make a Service would have had every agent's requests to the API, or ended them all."""
    helper = await world.minion(1)
    await world.service("kubernetes", selector=None, ports=[{"port": 443, "targetPort": 6443}])
    meta = {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}}
    body = {"endpoints": [{"addresses": ["10.245.0.1"]}], "ports": [{"name": "", "port": 6443, "protocol": "TCP"}]}
    await world.client.create("endpointslices.discovery.k8s.io", {"metadata": meta, "addressType": "IPv4", **body})
    ports = [{"name": name, "port": port, "targetPort": 8080} for name, port in (("api", 6443), ("web", 80))]
    await world.service("web", ports=ports, externalIPs=["10.245.0.1", "192.0.2.1"])
    await world.endpoints("web", A)
    await world.settled()
    lines = [line.split() for line in helper.dump().splitlines() if "-d" in line.split() and "--dport" in line]
    reached = {(words[words.index("-d") + 1], words[words.index("--dport") + 1]) for words in lines}
    assert {each for each in reached if not each[0].startswith("10.247.")} == {
        ("192.0.2.1/32", "6443"),
        ("192.0.2.1/32", "80"),
        ("10.245.0.1/32", "80"),
    }


async def test_udp_connections_of_a_gone_endpoint_are_forgotten_and_tcp_ones_only_of_a_dead_one(world):
    helper = await world.minion(1)
    await world.pod("b")
    ports = [{"name": "t", "port": 80}, {"name": "u", "port": 53, "protocol": "UDP"}]
    await world.service("dns", ports=ports)
    meta = {"namespace": "default", "name": "dns-x", "labels": {"kubernetes.io/service-name": "dns"}}

    def body(*pods):
        found = [{"addresses": [a], "targetRef": {"kind": "Pod", "namespace": "default", "name": p}} for p, a, _ in pods]
        named = [{"name": "t", "port": 8080, "protocol": "TCP"}, {"name": "u", "port": 5353, "protocol": "UDP"}]
        return {"metadata": meta, "addressType": "IPv4", "endpoints": found, "ports": named}

    await world.client.create("endpointslices.discovery.k8s.io", body(A, B))
    await world.settled()
    helper.forgotten.clear()
    await world.client.replace("endpointslices.discovery.k8s.io", body(A))
    await world.settled()
    vip = world.client.get("services", "default/dns").spec.cluster_ip
    left = [{"address": "10.246.2.5", "port": 8080}]
    assert helper.forgotten == [{"udp": [{"address": vip, "port": 53, "serving": ["10.246.1.5"]}], "unanswered": left}]
    helper.forgotten.clear()
    await world.client.replace("endpointslices.discovery.k8s.io", body())  # no pod `a` exists: it is dead
    await world.settled()
    tcp = [{"address": "10.246.1.5", "port": 8080}]
    assert helper.forgotten == [{"udp": [{"address": vip, "port": 53, "serving": []}], "tcp": tcp}]


async def test_connections_of_an_endpoint_that_left_before_its_nodes_death_was_told_are_forgotten_then(world):
    helper = await world.minion(1)
    await world.minion(2)
    await world.pod("b", "minion-2")
    await world.service("web")
    await world.endpoints("web", B)
    await world.settled()
    await world.endpoints("web")
    await world.settled()
    assert [list(each) for each in helper.forgotten] == [["unanswered"]]
    helper.forgotten.clear()
    taint = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}
    await world.client.patch("nodes", "minion-2", {"spec": {"taints": [taint]}})
    await world.until(lambda: bool(helper.forgotten))
    assert helper.forgotten == [{"tcp": [{"address": B[1], "port": 8080}]}]
    await world.settled()


async def test_connections_of_a_drained_pod_are_forgotten_when_it_is_gone(world):
    """Its entries would lead new connections from a client's port that is used again to an address where nobody is."""
    helper = await world.minion(1)
    await world.pod("b")
    await world.client.patch("pods", "default/b", {"status": {"podIP": B[1]}}, "status")
    await world.service("web")
    await world.endpoints("web", A, B)
    await world.settled()
    await world.client.delete("pods", "default/b")
    await world.endpoints("web", A)
    await world.until(lambda: drained(world, "b"))
    await world.settled()
    assert [list(each) for each in helper.forgotten] == [["unanswered"]], "it may still end its connections itself"
    helper.forgotten.clear()
    await world.client.delete("pods", "default/b", grace_s=0)
    await world.until(lambda: bool(helper.forgotten))
    assert helper.forgotten == [{"tcp": [{"address": B[1], "port": 8080}]}]


async def test_affinity_without_xt_recent_is_told_on_the_service(world):
    helper = await world.minion(1)
    helper.recent = False
    await world.service("web", sessionAffinity="ClientIP")
    await world.endpoints("web", A)
    await world.settled()
    await world.events.flush()
    assert "xt_recent" in events(world, "ProxyFallback")[0].message


# -- leaving in order --------------------------------------------------------------------------------------------------------------------------


async def test_a_leaving_pod_is_drained_when_every_reachable_minion_dropped_it(world):
    slow, _quick = await world.minion(1), await world.minion(2)
    await world.pod("a")
    await world.service("web")
    await world.endpoints("web", A, B)
    await world.settled()
    slow.delay_s = 0.1
    await world.client.delete("pods", "default/a")
    await world.endpoints("web", B)
    await world.until(lambda: "10.246.1.5" not in world.helpers.minions["minion-2"].dump())
    assert not drained(world, "a")
    await world.until(lambda: drained(world, "a"))
    assert "10.246.1.5" not in slow.dump()


async def test_a_pod_still_in_the_endpoints_is_not_drained(world):
    await world.minion(1)
    await world.pod("a")
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    await world.client.delete("pods", "default/a")
    await world.pod("lonely")
    await world.client.delete("pods", "default/lonely")
    await world.until(lambda: drained(world, "lonely"))
    assert not drained(world, "a")


@pytest.mark.parametrize("away", ["lost", "fenced"])
async def test_a_minion_that_is_away_is_not_waited_for(world, away):
    gone = await world.minion(1)
    await world.minion(2)
    await world.pod("a")
    await world.service("web")
    await world.endpoints("web", A, B)
    await world.settled()
    gone.delay_s = 60.0
    await world.client.delete("pods", "default/a")
    await world.endpoints("web", B)
    await world.until(lambda: "10.246.1.5" not in world.helpers.minions["minion-2"].dump())
    assert not drained(world, "a")
    if away == "lost":
        world.helpers.lose("minion-1")
    else:
        taint = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}
        await world.client.patch("nodes", "minion-1", {"spec": {"taints": [taint]}})
    await world.until(lambda: drained(world, "a"))


async def _leaving_while_both_are_lost(world):
    """A pod leaves its Service while neither minion has a connection, though both agents speak."""
    for number in (1, 2):
        await world.minion(number)
        await ready(world, f"minion-{number}", "True")
    await world.pod("a")
    await world.service("web")
    await world.endpoints("web", A, B)
    await world.settled()
    for number in (1, 2):
        world.helpers.lose(f"minion-{number}")
    await world.client.delete("pods", "default/a")
    await world.endpoints("web", B)
    await quiet(world)
    assert all(A[1] in world.helpers.minions[f"minion-{number}"].dump() for number in (1, 2))


async def quiet(world) -> None:
    """Return when what the drain had to write, if anything, is written: after writes that were asked for later."""
    for name in ("later", "still-later", "last"):
        await world.settled()
        await world.pod(name)
        await world.client.delete("pods", f"default/{name}", grace_s=0)
    await world.settled()


async def ready(world, minion: str, status: str) -> None:
    await world.client.patch("nodes", minion, {"status": {"conditions": [{"type": "Ready", "status": status}]}}, "status")


async def test_minions_that_lost_only_their_connection_send_to_a_leaving_pod_and_are_waited_for(world):
    await _leaving_while_both_are_lost(world)
    assert not drained(world, "a"), "nobody could tell them to send it nothing more"
    world.helpers.reconnect("minion-1")
    await quiet(world)
    assert A[1] not in world.helpers.minions["minion-1"].dump() and not drained(world, "a")
    world.helpers.reconnect("minion-2")
    await world.until(lambda: drained(world, "a"))
    assert A[1] not in world.helpers.minions["minion-2"].dump()


async def test_minions_that_are_lost_are_not_waited_for_once_they_are_silent(world):
    await _leaving_while_both_are_lost(world)
    await ready(world, "minion-1", "Unknown")
    await quiet(world)
    assert not drained(world, "a")
    await ready(world, "minion-2", "Unknown")
    await world.until(lambda: drained(world, "a"))


async def test_a_master_that_has_just_begun_waits_for_minions_that_are_not_connected_yet(world):
    """They still have the rules that the master before it gave them."""
    await world.minion(1)
    world.helpers.lose("minion-1")
    await ready(world, "minion-1", "True")
    await world.pod("a")
    await world.client.delete("pods", "default/a")
    await quiet(world)
    assert not drained(world, "a")
    world.helpers.reconnect("minion-1")
    await world.until(lambda: drained(world, "a"))


# -- userspace mode ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [ProxySettings(mode="userspace")])
async def test_userspace_draws_a_port_that_stays_and_listens_before_it_is_sent_to(world):
    helper = await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A, B)
    await world.until(lambda: bool(helper.forwarded))
    await world.settled()
    (port,) = helper.forwarded.values()
    assert 20_000 <= port["port"] <= 29_999 and port["address"] == "10.245.1.11"
    assert port["backends"] == [["10.246.1.5", 8080], ["10.246.2.5", 8080]]
    assert f"10.245.1.11:{port['port']}" in helper.dump() and world.right("minion-1")
    await world.endpoints("web", B)
    await world.until(lambda: [p["backends"] for p in helper.forwarded.values()] == [[["10.246.2.5", 8080]]])
    assert next(iter(helper.forwarded.values()))["port"] == port["port"]
    await world.client.delete("services", "default/web")
    await world.until(lambda: not helper.forwarded)
    assert helper.methods()[-2:] == ["apply", "forward"], "nobody may be sent to a closed port"


@pytest.mark.parametrize("settings", [ProxySettings(mode="userspace", local_port_first=20_000, local_port_last=20_002)])
async def test_two_services_never_share_a_local_port(world):
    await world.minion(1)
    for name in ("a", "b", "c"):
        await world.service(name)

    def drawn() -> set:
        return {s.metadata.annotations.get("labctl.internal/local-ports") for s in world.client.list("services", "default")}

    await world.until(lambda: None not in drawn() and len(drawn()) == 3)


@pytest.mark.parametrize("settings", [ProxySettings(mode="userspace")])
async def test_a_forwarder_that_died_is_given_everything_again(world):
    helper = await world.minion(1)
    await world.service("web")
    await world.endpoints("web", A)
    await world.until(lambda: bool(helper.forwarded))
    await world.settled()
    helper.forwarded = {}
    world.helpers.tell("minion-1", "digest", {"rules": "", "forwarder": "lost"})
    await world.until(lambda: bool(helper.forwarded))


async def test_a_connection_that_comes_back_in_the_middle_of_a_round_is_no_mistake(world, caplog):
    """What the machine can do was forgotten while a round with it was under way; the round goes by what it began with, and another follows."""
    helper = await world.minion(1)
    for n in range(20):
        await world.service(f"s{n}")
    await world.settled()
    for turn in range(8):
        helper.delay_s = 0.01
        await world.service(f"new{turn}")
        await world.endpoints(f"new{turn}", A)
        calls = len(helper.calls)
        await world.until(lambda: len(helper.calls) > calls or turn % 2 == 0)
        world.helpers.lose("minion-1")
        world.helpers.reconnect("minion-1")
        await world.until(lambda: len(helper.calls) > calls)
        world.helpers.tell("minion-1", "helper", {"state": "ended"})
        helper.delay_s = 0.0
        await world.settled()
    assert world.right("minion-1")
    assert "AssertionError" not in caplog.text
    assert not [one for one in world.journal.lines if "could not program" in one.text]


def _fail(proxy, key):
    del proxy._dirty[key]
    raise ZeroDivisionError(key)


async def test_a_service_that_can_not_be_compiled_costs_no_other(world, monkeypatch):
    """Several changes come in one turn; a mistake about one must not lose those that were compiled before or after it."""
    compile_ = world.proxy._compile
    monkeypatch.setattr(world.proxy, "_compile", lambda view, key: _fail(world.proxy, key) if key == "default/bad" else compile_(view, key))
    await world.minion(1)
    await asyncio.gather(*(world.service(name) for name in ("a", "bad", "z")))
    await asyncio.gather(*(world.endpoints(name, A) for name in ("a", "bad", "z")))
    await world.settled()
    dump = world.helpers.minions["minion-1"].dump()
    assert "default/a" in dump and "default/z" in dump
    assert world.right("minion-1")


async def test_causes_of_services_that_are_gone_are_bounded(world):
    proxy = world.proxy
    for n in range(5_000):
        proxy._note_cause(f"default/s{n}", n)
    assert len(proxy._causes) <= 1_000 + len(proxy.table)
    assert proxy.cause("default/s4999") == 4999


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("facts", None),
        ("facts", {"flavour": ["nft"], "recent": True, "randomFully": True}),
        ("dump", {"rules": 7}),
        ("dump", []),
        ("network", {"changed": "many"}),
        ("network", None),
    ],
)
async def test_an_answer_of_another_shape_costs_that_minion_alone(world, method, answer):
    bad, _ = await world.minion(1), await world.minion(2)
    world.helpers.minions["minion-1"].answer = lambda asked, params, was=bad.answer: answer if asked == method else was(asked, params)
    world.helpers.lose("minion-1")
    world.helpers.reconnect("minion-1")
    await world.service("web")
    await world.endpoints("web", A)
    await world.until(lambda: world.right("minion-2"))
    await world.until(lambda: any("is not what it must be" in line.text for line in world.journal.lines))
