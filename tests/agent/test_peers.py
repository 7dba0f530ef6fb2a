"""Heartbeats between minions: only a peer that lives now counts as heard, whatever is sent."""

import asyncio

import pytest

from labctl.agent.node import NodeKeeper
from labctl.agent.peers import NONCES_KEPT, Heartbeats, Table
from labctl.agent.settings import of
from labctl.sim.clock import run

KEY = b"k" * 32
ADDRESS = {"a": ("10.0.0.1", 10054), "b": ("10.0.0.2", 10054), "c": ("10.0.0.3", 10054)}


def tables(now=0.0):
    a, b = Table("a"), Table("b")
    a.set([("b", ADDRESS["b"], KEY)], now)
    b.set([("a", ADDRESS["a"], KEY)], now)
    return a, b


def send(sender, receiver, origin, now):
    [(_, packet)] = sender.packets()
    return packet, receiver.take(packet, ADDRESS[origin][0], now)


def meet(a, b, now=1.0):
    """Exchange heartbeats until each has heard the other."""
    for turn in range(3):
        send(a, b, "a", now)
        send(b, a, "b", now)
    assert a.report(now) == "b=0.0" and b.report(now) == "a=0.0"


def test_two_that_live_hear_each_other_and_count_the_silence():
    a, b = tables()
    assert a.report(0.5) == "", "who was never heard is not named"
    meet(a, b)
    assert a.report(3.5) == "b=2.5"


def test_a_packet_that_is_sent_again_proves_nothing():
    a, b = tables()
    meet(a, b)
    old, proved = send(b, a, "b", 1.2)
    assert proved
    for _ in range(NONCES_KEPT + 1):
        a.packets()
    assert not a.take(old, ADDRESS["b"][0], 9.0)
    assert a.report(9.0) == "b=7.8"


@pytest.mark.parametrize(
    "forge",
    [
        lambda p: p[:-1] + bytes([p[-1] ^ 1]),
        lambda p: p[:20],
        lambda p: p + b"x" * 200,
        lambda p: b"",
        lambda p: b"LB1" + p[3:19] + b"\xff" * 30,
    ],
)
def test_a_forged_packet_is_passed_over(forge):
    a, b = tables()
    meet(a, b)
    [(_, packet)] = b.packets()
    assert not a.take(forge(packet), ADDRESS["b"][0], 2.0)
    assert a.report(3.0) == "b=2.0"


def test_one_minion_cannot_speak_for_another():
    a, b = tables()
    meet(a, b)
    thief = Table("b")
    thief.set([("a", ADDRESS["a"], b"its own key with a".ljust(32))], 0.0)
    [(_, packet)] = thief.packets()
    assert not a.take(packet, ADDRESS["b"][0], 2.0)
    [(_, packet)] = b.packets()
    assert not a.take(packet, ADDRESS["c"][0], 2.0), "from another address"


def test_who_comes_back_is_heard_again():
    a, b = tables()
    meet(a, b)
    again = Table("b")
    again.set([("a", ADDRESS["a"], KEY)], 60.0)
    for turn in range(4):
        send(again, a, "b", 61.0 + turn / 5)
        send(a, again, "a", 61.1 + turn / 5)
    assert float(a.report(62.0).partition("=")[2]) < 1 and float(again.report(62.0).partition("=")[2]) < 1


def test_a_minion_that_stood_still_knows_nothing_of_the_others():
    a, b = tables()
    meet(a, b)
    a.stood_still(60.0)
    assert a.report(60.5) == "b=0.5"


def test_a_peer_that_was_never_heard_is_named_only_beside_one_that_is():
    a, b = tables()
    told = [("b", ADDRESS["b"], KEY), ("c", ADDRESS["c"], KEY)]
    a.set(told, 0.0)
    assert a.report(10.0) == ""
    meet_at = 10.0
    for _ in range(3):
        for address, packet in a.packets():
            if address == ADDRESS["b"]:
                b.take(packet, ADDRESS["a"][0], meet_at)
        send(b, a, "b", meet_at)
    assert a.report(10.0) == "b=0.0 c=10.0"
    a.set(told, 11.0)
    assert a.report(10.5) == "b=0.5 c=10.5", "who stays keeps what was heard"
    a.set([("c", ADDRESS["c"], KEY)], 12.0)
    assert a.report(12.0) == ""


async def test_an_older_event_of_the_nodes_watch_is_passed_over(tmp_path):
    settings = of({"node": "a", "url": "http://127.0.0.1:1", "stateDir": str(tmp_path)}, str(tmp_path))
    keeper = NodeKeeper(settings, "boot", "10.0.0.1", None, lambda _cidr: None, list, lambda _text: None)
    told = []

    async def report(always=False):
        told.append(keeper._node["metadata"]["resourceVersion"])

    keeper.report = report
    for revision in ("7", "5", "8"):
        await keeper._event("MODIFIED", {"metadata": {"resourceVersion": revision}})
    assert told == ["7", "8"]


@pytest.mark.parametrize(("beat_s", "asked"), [(0.2, 6), (0.0, 1)])
def test_the_master_is_asked_often_while_peers_are_missing(beat_s, asked):
    """A node that registers first has no peers yet. Until it has some, nobody could give up the next one that falls silent."""
    count = 0

    class Master:
        async def get(self, path, timeout_s):
            nonlocal count
            count += 1
            return {"port": 10054, "beatSeconds": beat_s, "peers": []}

    async def three_seconds():
        beats = asyncio.create_task(Heartbeats("a", "", Master(), lambda _line: None).run())
        await asyncio.sleep(2.9)
        beats.cancel()

    run(three_seconds())
    assert count == asked
