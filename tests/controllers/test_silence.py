"""When a node that the master does not hear is given up, with the timing of a lab: its peers are asked. And how fast silent nodes may lose their pods."""

import math

import pytest

from labctl.controllers.nodes import Nodes
from labctl.controllers.peers import peers_of, read_heard
from labctl.controllers.settings import ControllerSettings
from labctl.resources.kinds.coordination_v1.lease import HEARD
from labctl.sim.objects import node, pod
from labctl.sim.picture import Picture

LAB = ControllerSettings(lease_s=0.5, lease_grace_s=2.0, eviction_s=0.0, peers=4, eviction_rate=1.0, eviction_slow_rate=0.1)
KUBERNETES = ControllerSettings()


class Room:
    """Nodes that renew their leases, or don't, and say what they heard of each other."""

    def __init__(self, count, settings=LAB, zones=1):
        self.picture = Picture([Nodes(settings)])
        self.names = [f"minion-{number}" for number in range(1, count + 1)]
        self.settings = settings
        self.renewals = 0
        for number, name in enumerate(self.names):
            made = node(name)
            made["metadata"]["labels"]["topology.kubernetes.io/zone"] = f"zone-{number % zones}"
            self.picture.put(made)
            self.picture.put({**pod(f"pod-{name}", node=name, ready=True), "metadata": {"name": f"pod-{name}", "namespace": "default"}})
            self.renew(name)

    def renew(self, name, **heard):
        self.renewals += 1
        said = {HEARD: " ".join(f"{peer.replace('_', '-')}={seconds}" for peer, seconds in heard.items())} if heard else {}
        metadata = {"name": name, "namespace": "kube-node-lease", "annotations": said}
        self.picture.put({"kind": "Lease", "metadata": metadata, "spec": {"holderIdentity": name, "leaseTransitions": self.renewals}})

    def live(self, seconds, silent=(), heard=None):
        """Let time pass. `heard(peer, name)` says how many seconds a living node says that another one was silent; None: nothing."""
        end = self.picture.clock.time + seconds
        while self.picture.clock.time < end:
            for name in self.names:
                if name not in silent:
                    said = {other.replace("-", "_"): heard(name, other) for other in self.names if other != name} if heard else {}
                    self.renew(name, **{other: value for other, value in said.items() if value is not None})
            self.picture.clock.time += self.settings.lease_s / 2
            for name in self.names:
                self.plan(name)

    def plan(self, name):
        for action in self.picture.plan(name).actions:
            obj = self.picture.view.raw(action.kind, action.key)
            for part, change in action.patch.items():
                obj[part] = {key: value for key, value in {**obj.get(part, {}), **change}.items() if value is not None}
            self.picture.put(obj)

    def ready(self):
        return {name for name in self.names if self.picture.view.get("nodes", name).ready}

    def losing_pods(self):
        return {name for name in self.names if any(t.effect == "NoExecute" for t in self.picture.view.get("nodes", name).spec.taints)}

    def pods_ready(self):
        return {p.spec.node_name for p in self.picture.view.all("pods") if p.ready}


def silent_to_all(dead):
    return lambda _peer, other: 5.0 if other in dead else 0.1


def test_a_node_that_nobody_hears_is_given_up_after_the_short_grace():
    room = Room(3)
    room.live(1.7, {"minion-1"}, silent_to_all({"minion-1"}))
    assert room.ready() == set(room.names)
    room.live(1.0, {"minion-1"}, silent_to_all({"minion-1"}))
    assert room.ready() == room.pods_ready() == {"minion-2", "minion-3"}
    assert room.losing_pods() == {"minion-1"}


def test_a_node_that_its_peers_hear_keeps_its_pods_and_its_place_in_the_endpoints_for_kubernetes_grace():
    room = Room(3)
    room.live(38, {"minion-1"}, silent_to_all(()))
    assert room.ready() == room.pods_ready() == set(room.names)
    room.live(4, {"minion-1"}, silent_to_all(()))
    assert room.ready() == room.pods_ready() == {"minion-2", "minion-3"} and not room.losing_pods()


def test_nobody_keeps_a_dead_node_for_ever():
    room = Room(3)
    room.live(342, {"minion-1"}, silent_to_all(()))
    assert room.losing_pods() == {"minion-1"}


def test_a_master_that_is_cut_off_gives_nobody_up():
    room = Room(5)
    room.live(2, (), silent_to_all(()))
    room.live(38, set(room.names), silent_to_all(()))
    assert room.ready() == room.pods_ready() == set(room.names)
    room.live(400, set(room.names), silent_to_all(()))
    assert not room.losing_pods(), "nobody is left who could take the pods"


def test_a_hostile_minion_cannot_have_a_node_given_up_that_the_master_hears():
    room = Room(2)
    room.live(60, (), silent_to_all({"minion-1"}))
    assert room.ready() == set(room.names)


def test_one_liar_is_outvoted():
    room = Room(4)

    def heard(peer, other):
        return 5.0 if (peer, other) == ("minion-2", "minion-1") else 0.1

    room.live(10, {"minion-1"}, heard)
    assert room.ready() == set(room.names)


def test_only_the_peers_of_a_node_have_a_vote():
    room = Room(30)
    victim = "minion-7"
    peers = peers_of(victim, room.names, 4)

    def heard(peer, other):
        return 5.0 if other == victim and peer not in peers else 0.1

    room.live(10, {victim}, heard)
    assert room.ready() == set(room.names)


def test_what_a_peer_said_long_ago_counts_no_more():
    room = Room(2)
    room.live(1, (), silent_to_all({"minion-1"}))
    room.live(10, set(room.names))
    assert room.ready() == set(room.names)


@pytest.mark.parametrize(
    "said", ["minion-1=nan", "minion-1=inf", "minion-1=-5", "minion-1", "=5", "minion-1=9" * 2000, "a=b=c", "\0=1", "minion-1=1e400"]
)
def test_what_is_no_number_of_seconds_is_passed_over(said):
    assert all(name and math.isfinite(value) and value >= 0 for name, value in read_heard(said).items())
    assert len(read_heard(said)) <= 8


def test_peers_are_mutual_few_and_everybody_in_a_small_lab():
    names = [f"minion-{number}" for number in range(1, 200)]
    peers = {name: peers_of(name, names, 4) for name in names}
    assert {len(each) for each in peers.values()} == {4}
    assert all(name in peers[peer] for name in names for peer in peers[name])
    assert peers_of("a", ["b", "c"], 4) == sorted({"b", "c"}, key=peers_of("a", ["b", "c"], 4).index)
    assert peers_of("a", [], 4) == []


# -- the rule for zones ----------------------------------------------------------------------------------------------------------------


def test_silent_nodes_lose_their_pods_one_after_the_other():
    room = Room(10)
    dead = {"minion-1", "minion-2", "minion-3"}
    room.live(2.4, dead, silent_to_all(dead))
    assert room.ready() == set(room.names) - dead, "all three are known to be silent"
    assert len(room.losing_pods()) == 1
    room.live(1, dead, silent_to_all(dead))
    assert len(room.losing_pods()) == 2
    room.live(1.5, dead, silent_to_all(dead))
    assert room.losing_pods() == dead


def test_when_most_nodes_of_a_small_zone_fall_silent_none_loses_its_pods():
    room = Room(5)
    dead = {"minion-1", "minion-2", "minion-3"}
    room.live(60, dead, silent_to_all(dead))
    assert room.ready() == {"minion-4", "minion-5"} and not room.losing_pods()


def test_in_a_large_zone_they_go_slowly():
    room = Room(60)
    dead = set(room.names[:40])
    room.live(8, dead, silent_to_all(dead))
    assert len(room.losing_pods()) <= 1
    room.live(22, dead, silent_to_all(dead))
    assert 2 <= len(room.losing_pods()) <= 3, "one in ten seconds, instead of one each second"


def test_zones_are_counted_each_for_itself():
    room = Room(12, zones=2)
    first = {name for number, name in enumerate(room.names) if number % 2 == 0}
    room.live(4.5, first, silent_to_all(first))
    assert len(room.losing_pods()) >= 2, "a zone that is gone as a whole loses its pods at the usual rate, as the other one can take them"


def test_kubernetes_timing_has_the_same_rule_at_its_own_rate():
    room = Room(10, KUBERNETES)
    dead = {"minion-1", "minion-2"}
    room.live(45, dead)
    assert room.ready() == set(room.names) - dead and len(room.losing_pods()) == 1
    room.live(10, dead)
    assert room.losing_pods() == dead
    room = Room(5, KUBERNETES)
    dead = {"minion-1", "minion-2", "minion-3"}
    room.live(120, dead)
    assert room.ready() == {"minion-4", "minion-5"} and not room.losing_pods()
