"""Whatever pods say of each other, the scheduler refuses exactly the nodes that a naive reading of the rules refuses; and nothing grows when pods go."""

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.resources.registry import builtin_registry
from labctl.scheduler.demand import demand_of
from labctl.scheduler.filters import Situation
from labctl.scheduler.scheduler import Scheduler
from labctl.sim.objects import node, pod
from labctl.sim.picture import Picture
from tests.scheduler.naive import REQUIRED, Naive

REGISTRY = builtin_registry()
NAMESPACES = {"default": {"team": "a"}, "other": {"team": "b"}, "third": {}}
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]), max_size=2)
SELECTORS = st.one_of(
    st.none(),
    st.builds(lambda labels: {"matchLabels": labels}, LABELS),
    st.builds(lambda key: {"matchExpressions": [{"key": key, "operator": "Exists"}]}, st.sampled_from(["app", "tier"])),
)
KEYS = st.sampled_from(["kubernetes.io/hostname", "zone", "rack"])


@st.composite
def terms(draw):
    term = {"topologyKey": draw(KEYS), "labelSelector": draw(SELECTORS)}
    if draw(st.booleans()):
        term["namespaces"] = draw(st.lists(st.sampled_from(sorted(NAMESPACES)), max_size=2))
    if draw(st.booleans()):
        term["namespaceSelector"] = draw(st.sampled_from([{}, {"matchLabels": {"team": "b"}}]))
    return {name: value for name, value in term.items() if value is not None}


@st.composite
def constraints(draw):
    said = {
        "maxSkew": draw(st.integers(1, 3)),
        "topologyKey": draw(KEYS),
        "whenUnsatisfiable": draw(st.sampled_from(["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"])),
        "labelSelector": draw(SELECTORS),
    }
    if said["whenUnsatisfiable"] == "DoNotSchedule" and draw(st.booleans()):
        said["minDomains"] = draw(st.integers(1, 4))
    return {name: value for name, value in said.items() if value is not None}


@st.composite
def pods(draw, name):
    made = pod(
        name, labels=draw(LABELS), cpu=draw(st.sampled_from(["", "100m", "400m"])), namespace=draw(st.sampled_from(sorted(NAMESPACES)))
    )
    affinity = {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if draw(st.integers(0, 2)) == 0:
            affinity[kind] = {REQUIRED: draw(st.lists(terms(), min_size=1, max_size=2))}
    if affinity:
        made["spec"]["affinity"] = affinity
    if draw(st.booleans()):
        made["spec"]["topologySpreadConstraints"] = draw(st.lists(constraints(), max_size=2))
    if draw(st.integers(0, 3)) == 0:
        port = {"containerPort": 80, "hostPort": 80, "protocol": draw(st.sampled_from(["TCP", "UDP"]))}
        made["spec"]["containers"][0]["ports"] = [{**port, "hostIP": draw(st.sampled_from(["", "0.0.0.0", "10.0.0.1", "10.0.0.2"]))}]
    if draw(st.integers(0, 4)) == 0:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return made


@st.composite
def worlds(draw):
    nodes = {}
    for number in range(draw(st.integers(1, 5))):
        labels = {"kubernetes.io/hostname": f"n{number}"}
        for key, values in (("zone", ["z1", "z2"]), ("rack", ["r1", "", "r2"])):
            if draw(st.integers(0, 3)):
                labels[key] = draw(st.sampled_from(values))
        nodes[f"n{number}"] = labels
    placed = []
    for number in range(draw(st.integers(0, 7))):
        there = draw(pods(f"p{number}"))
        there["spec"]["nodeName"] = draw(st.sampled_from(sorted(nodes)))
        placed.append(there)
    gone = draw(st.sets(st.integers(0, 6), max_size=3))
    wanted = draw(pods("wanted"))
    wanted["metadata"].pop("deletionTimestamp", None)
    return nodes, placed, gone, wanted


def picture_of(nodes, placed):
    scheduler = Scheduler()
    picture = Picture([scheduler], REGISTRY)
    for name, labels in NAMESPACES.items():
        picture.put({"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    for name, labels in nodes.items():
        made = node(name)
        made["metadata"]["labels"] = labels
        picture.put(made)
    for there in placed:
        picture.put(there)
    return scheduler, picture


def situation(scheduler, picture, key):
    view = picture.view.get("pods", key)
    return Situation(view, demand_of(view), scheduler._cluster, lambda name: NAMESPACES[name])


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_it_refuses_the_nodes_that_the_rules_refuse(world):
    nodes, placed, gone, wanted = world
    scheduler, picture = picture_of(nodes, [*placed, wanted])
    key = f"{wanted['metadata']['namespace']}/wanted"
    situation(scheduler, picture, key)  # tallies are counted now, and kept while pods go
    for number in gone:
        if number < len(placed):
            picture.drop("pods", f"{placed[number]['metadata']['namespace']}/p{number}")
    left = [there for number, there in enumerate(placed) if number not in gone]
    naive = Naive(nodes, left, NAMESPACES, 1000, 1 << 30)
    found = situation(scheduler, picture, key)
    for name in nodes:
        refusal = found.refuses(scheduler._cluster.state(name))
        assert (refusal is None) == naive.allows(wanted, name), (name, refusal and refusal.reasons)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_a_changed_situation_is_what_a_new_one_would_be(world):
    """What preemption asks: what if these pods were gone?"""
    nodes, placed, gone, wanted = world
    scheduler, picture = picture_of(nodes, [*placed, wanted])
    key = f"{wanted['metadata']['namespace']}/wanted"
    found = situation(scheduler, picture, key).copy()
    states = {name: scheduler._cluster.state(name).copy() for name in nodes}
    for number in gone:
        if number < len(placed):
            there = scheduler._cluster.placed(f"{placed[number]['metadata']['namespace']}/p{number}")
            states[there.node].count(there, -1)
            found.change(there, states[there.node], -1)
    left = [there for number, there in enumerate(placed) if number not in gone]
    naive = Naive(nodes, left, NAMESPACES, 1000, 1 << 30)
    assert {name: found.refuses(states[name]) is None for name in nodes} == {name: naive.allows(wanted, name) for name in nodes}


@settings(max_examples=50, deadline=None)
@given(worlds())
def test_nothing_is_left_when_all_pods_are_gone(world):
    nodes, placed, _gone, wanted = world
    scheduler, picture = picture_of(nodes, [*placed, wanted])
    situation(scheduler, picture, f"{wanted['metadata']['namespace']}/wanted")
    for there in placed:
        picture.drop("pods", f"{there['metadata']['namespace']}/{there['metadata']['name']}")
    cluster = scheduler._cluster
    assert not list(cluster.tallies.namespaces)
    assert not any(carriers.terms for carriers in (cluster.near, cluster.far, cluster.rather_near, cluster.rather_far))
    assert all(not state.occupants and not state.host_ports and not state.groups for state in cluster.nodes())
