"""Where pods go by what they say of nodes and of each other: Kubernetes' words for a refusal, and which node is preferred."""

import pytest

from labctl.reconcile.plan import Bind, Patch
from labctl.scheduler.scheduler import Scheduler
from labctl.scheduler.settings import SchedulerSettings
from labctl.sim.objects import node, pod, replication_controller
from labctl.sim.picture import Picture

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
WEB = {"app": "web"}


@pytest.fixture
def picture():
    return Picture([Scheduler(SchedulerSettings(backoff_min_s=1, backoff_max_s=8))])


def nodes(picture, **zones):
    for name, zone in zones.items():
        made = node(name, cpu="8", memory="8Gi")
        made["metadata"]["labels"] |= {ZONE: zone} if zone else {}
        picture.put(made)


def pending(picture, name="p", labels=WEB, **spec):
    made = pod(name, labels=labels)
    made["spec"] |= spec
    picture.put(made)
    return name


def decided(picture, name="p"):
    """The node it goes to, or the sentence why there is none."""
    action = picture.plan(f"default/{name}").actions[-1]
    return action.node if isinstance(action, Bind) else action.why if isinstance(action, Patch) else None


def term(key=HOST, labels=WEB, **more):
    return {"topologyKey": key, "labelSelector": {"matchLabels": labels}, **more}


def near(*terms, kind="podAffinity"):
    return {kind: {REQUIRED: list(terms)}}


def far(*terms):
    return near(*terms, kind="podAntiAffinity")


def rather(kind, *terms):
    return {kind: {PREFERRED: [{"weight": 100, "podAffinityTerm": one} for one in terms]}}


def spread(key=HOST, skew=1, when="DoNotSchedule", **more):
    return {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": WEB}, **more}


def test_anti_affinity_puts_each_replica_on_a_node_of_its_own_even_before_bindings_are_seen(picture):
    nodes(picture, n1="", n2="", n3="")
    for number in range(4):
        pending(picture, f"p{number}", affinity=far(term()))
    assert sorted(decided(picture, f"p{number}") for number in range(3)) == ["n1", "n2", "n3"]
    assert decided(picture, "p3") == (
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. "
        "preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
    )


def test_a_running_pods_anti_affinity_keeps_others_away(picture):
    nodes(picture, n1="a", n2="a", n3="b")
    made = pod("shy", node="n1", labels={"app": "shy"})
    made["spec"]["affinity"] = far(term(ZONE))
    picture.put(made)
    assert decided(picture, pending(picture)) == "n3"
    picture.drop("nodes", "n3")
    assert decided(picture, pending(picture, "q")).startswith(
        "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."
    )


def test_affinity_follows_its_pods_and_the_first_of_a_kind_may_go_anywhere(picture):
    nodes(picture, n1="a", n2="a", n3="b", n4="")
    assert decided(picture, pending(picture, "first", affinity=near(term(ZONE)))) in ("n1", "n2", "n3")
    zone = picture.controllers[0]._cluster.placed("default/first").node
    there = {"n1": ("n1", "n2"), "n2": ("n1", "n2"), "n3": ("n3",)}[zone]
    for name in ("second", "third"):
        assert decided(picture, pending(picture, name, affinity=near(term(ZONE)))) in there
    lost = decided(picture, pending(picture, "lost", affinity=near(term(labels={"app": "db"}))))
    assert lost.startswith("0/4 nodes are available: 4 node(s) didn't match pod affinity rules. preemption: 0/4")
    assert lost.endswith("4 Preemption is not helpful for scheduling.")


def test_a_pod_that_waits_for_another_is_woken_when_that_one_is_bound(picture):
    nodes(picture, n1="", n2="")
    pending(picture, "follower", labels={}, affinity=near(term(labels={"app": "db"})))
    assert "affinity rules" in decided(picture, "follower")
    picture.dirty["default-scheduler"].clear()
    picture.put(pod("stranger", node="n1", labels=WEB))
    assert not picture.dirty["default-scheduler"]
    picture.put(pod("db", node="n2", labels={"app": "db"}))
    assert picture.dirty["default-scheduler"] == ["default/follower"]
    picture.clock.time += 1
    assert decided(picture, "follower") == "n2"


def test_labels_that_change_are_seen(picture):
    nodes(picture, n1="")
    picture.put(pod("there", node="n1", labels=WEB))
    assert "anti-affinity" in decided(picture, pending(picture, affinity=far(term())))
    picture.put(pod("there", node="n1", labels={"app": "db"}))
    picture.clock.time += 1
    assert decided(picture) == "n1"


def test_namespaces_by_name_by_labels_and_all(picture):
    nodes(picture, n1="")
    picture.put({"kind": "Namespace", "metadata": {"name": "there", "labels": {"team": "a"}}})
    picture.put(pod("web", node="n1", labels=WEB, namespace="there"))
    for number, (more, fits) in enumerate(
        [
            ({}, True),
            ({"namespaces": ["there"]}, False),
            ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, False),
            ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, True),
            ({"namespaceSelector": {}}, False),
        ]
    ):
        answer = decided(picture, pending(picture, f"p{number}", labels={}, affinity=far(term(**more))))
        assert (answer == "n1") == fits, more


def test_spread_by_zone_and_a_node_without_the_label(picture):
    nodes(picture, n1="a", n2="b", n3="")
    picture.put(pod("there", node="n1", labels=WEB))
    assert decided(picture, pending(picture, topologySpreadConstraints=[spread(ZONE)])) == "n2"
    picture.drop("pods", "default/p")
    made = node("n2", unschedulable=True)
    made["metadata"]["labels"][ZONE] = "b"
    picture.put(made)
    assert decided(picture, pending(picture, topologySpreadConstraints=[spread(ZONE)])) == (
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, "
        "1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable. "
        "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, "
        "2 Preemption is not helpful for scheduling."
    )
    picture.clock.time += 1
    ignoring = spread(ZONE, nodeTaintsPolicy="Honor")  # a cordoned node does not count
    assert decided(picture, pending(picture, "q", topologySpreadConstraints=[ignoring])) == "n1"


def test_min_domains_and_node_affinity_policy(picture):
    nodes(picture, n1="a", n2="b")
    for name, zone in (("n1", "a"), ("n2", "b")):
        picture.put(pod(f"on-{zone}", node=name, labels=WEB))
    few = decided(picture, pending(picture, topologySpreadConstraints=[spread(ZONE, minDomains=3)]))
    assert few.startswith("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.")
    picture.put(pod("more-on-a", node="n1", labels=WEB))
    only_a = {"nodeSelector": {ZONE: "a"}}
    assert decided(picture, pending(picture, "q", topologySpreadConstraints=[spread(ZONE)], **only_a)) == "n1"  # b does not count
    picture.drop("pods", "default/q")
    said = decided(picture, pending(picture, "r", topologySpreadConstraints=[spread(ZONE, nodeAffinityPolicy="Ignore")], **only_a))
    assert "1 node(s) didn't match pod topology spread constraints" in said


def test_schedule_anyway_prefers_the_emptier_domain(picture):
    nodes(picture, n1="a", n2="a", n3="b")
    picture.put(pod("there", node="n1", labels=WEB))
    picture.put(pod("filler", node="n3", labels={}, cpu="7"))
    assert decided(picture, pending(picture, topologySpreadConstraints=[spread(ZONE, when="ScheduleAnyway")])) == "n3"


def test_preferred_affinities_decide_before_the_room_on_a_node(picture):
    nodes(picture, n1="", n2="", n3="")
    picture.put(pod("web", node="n1", labels=WEB, cpu="6"))
    assert decided(picture, pending(picture, "close", labels={}, affinity=rather("podAffinity", term()))) == "n1"
    made = pending(picture, "away", labels={}, affinity=rather("podAntiAffinity", term()), nodeSelector={})
    assert decided(picture, made) in ("n2", "n3")
    liked = {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": {"matchFields": [_named("n1")]}}]}}
    assert decided(picture, pending(picture, "picky", labels={"x": "y"}, affinity=liked)) == "n1"


def _named(name):
    return {"key": "metadata.name", "operator": "In", "values": [name]}


def test_what_running_pods_prefer_counts_too(picture):
    nodes(picture, n1="", n2="")
    made = pod("wants-company", node="n1", labels={"app": "db"}, cpu="4")
    made["spec"]["affinity"] = rather("podAffinity", term())
    picture.put(made)
    assert decided(picture, pending(picture)) == "n1"


def test_a_node_that_discourages_is_the_last_resort(picture):
    nodes(picture, n1="", n2="")
    picture.put(node("n1", cpu="8", memory="8Gi", taints=[{"key": "old", "value": "", "effect": "PreferNoSchedule"}]))
    picture.put(pod("filler", node="n2", labels={}, cpu="5"))
    assert decided(picture, pending(picture)) == "n2"
    tolerant = [{"key": "old", "operator": "Exists"}]
    assert decided(picture, pending(picture, "t", labels={"x": "y"}, tolerations=tolerant)) == "n1"


@pytest.mark.parametrize("host_network", [False, True])
def test_no_node_has_a_port_free_at_which_it_is_spoken_to_itself(picture, host_network):
    nodes(picture, n1="")
    container = {"name": "main", "ports": [{"containerPort": 22, "hostPort": 22, "protocol": "TCP"}]}
    answer = decided(picture, pending(picture, containers=[container], hostNetwork=host_network))
    assert answer == "n1" if host_network else "didn't have free ports for the requested pod ports" in answer


def test_replicas_are_spread_over_zones_without_being_asked(picture):
    nodes(picture, n1="a", n2="a", n3="a", n4="b")
    rc = picture.put(replication_controller("web", 4))
    for number in range(4):
        picture.put(pod(f"p{number}", owner=rc))
    where = [decided(picture, f"p{number}") for number in range(4)]
    assert "n4" in where[:2] and len(set(where)) == 4


@pytest.mark.parametrize(
    "ours, theirs, fits",
    [
        ({"hostPort": 80}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}, False),
        ({"hostPort": 80, "hostIP": "0.0.0.0"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, False),
    ],
)
def test_host_ports_by_protocol_and_address(picture, ours, theirs, fits):
    nodes(picture, n1="")

    def ports(said):
        return [{"name": "main", "ports": [{"containerPort": 80, "protocol": "TCP", **said}]}]

    taker = pod("taker", node="n1")
    taker["spec"]["containers"] = ports(theirs)
    picture.put(taker)
    answer = decided(picture, pending(picture, containers=ports(ours)))
    assert (
        answer == "n1"
        if fits
        else answer.startswith("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.")
    )


def test_extended_resources_are_counted(picture):
    made = node("n1")
    made["status"]["allocatable"] = {**made["status"]["allocatable"], "example.com/gpu": "2"}
    picture.put(made)

    def gpus(count):
        return [{"name": "main", "resources": {"limits": {"example.com/gpu": count}, "requests": {"example.com/gpu": count}}}]

    assert decided(picture, pending(picture, "a", containers=gpus("1"))) == "n1"
    said = decided(picture, pending(picture, "b", containers=gpus("2")))
    assert said.startswith("0/1 nodes are available: 1 Insufficient example.com/gpu. preemption: 0/1 nodes are available: 1 No preemption")
    said = decided(picture, pending(picture, "c", containers=gpus("3")))
    assert said.endswith("preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
    assert (
        decided(picture, pending(picture, "d", containers=[{"name": "m", "resources": {"requests": {"ephemeral-storage": "9Ei"}}}])) == "n1"
    )


def test_a_gated_pod_is_left_alone_until_its_gates_are_gone(picture):
    nodes(picture, n1="")
    pending(picture, schedulingGates=[{"name": "example.com/wait"}])
    assert not picture.dirty["default-scheduler"] and not picture.plan("default/p").actions
    whole = picture.view.raw("pods", "default/p")
    del whole["spec"]["schedulingGates"]
    picture.put(whole)
    assert picture.dirty["default-scheduler"] == ["default/p"]
    assert decided(picture) == "n1"


def test_a_selector_that_no_server_would_take_finds_nothing(picture):
    """An object that was stored before its rules were known must not stop the scheduler."""
    nodes(picture, n1="")
    bad = {"topologyKey": HOST, "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}
    assert decided(picture, pending(picture, affinity=far(bad))) == "n1"
