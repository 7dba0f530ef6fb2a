"""The marks of a fault are found by following causes: what follows from the fault is there, and nothing else, however close in time."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.journal import Line, came_and_went
from labctl.measure.timeline import FaultFacts, timeline

FAULT = FaultFacts(name="plug", type="power-off", target="minion-1", injected_s=100.0)
WEB, SLICE = "services/default/web", "endpointslices.discovery.k8s.io/default/web-1"


def line(t, room, about, text="", **more):
    return Line(t, t, room, about, text, **more)


def death(replaced=True):
    """The journal of a machine's death with one pod on it, and two other minions that have rules."""
    yield line(100.05, "machines", "machine/minion-1", "off (not intended): its init is gone", did="off", where="minion-1")
    yield line(100.06, "machines", "machines.labctl.internal/minion-1", "its end is written", rev=10)
    yield line(100.07, "node-controller", "pods/default/web-a", "not ready", rev=11, cause=10, did="patch", of="nodes/minion-1")
    yield line(100.08, "endpointslice-controller", SLICE, came_and_went((), ("10.246.1.2 web-a",)), rev=12, cause=11, did="replace", of=WEB)
    yield line(100.09, "proxy", WEB, "minion-2 has its rules", cause=12, did="rules", where="minion-2")
    yield line(100.10, "proxy", WEB, "minion-3 has its rules", cause=12, did="rules", where="minion-3")
    yield line(100.15, "node-controller", "nodes/minion-1", "out of service", rev=13, cause=10, did="patch")
    yield line(100.16, "taint-eviction-controller", "pods/default/web-a", "killed with its node", rev=14, cause=13, did="delete")
    if not replaced:
        return
    yield line(100.17, "replication-controller", "pods/default/web-b", "created", rev=15, cause=14, did="create")
    yield line(100.18, "default-scheduler", "pods/default/web-b", "placed on minion-2", rev=16, cause=15, did="bind", where="minion-2")
    yield line(100.40, "agent", "pods/default/web-b", "image there", did="image", where="minion-2", age=0.20, unsure=0.01)
    yield line(100.41, "agent", "pods/default/web-b", "started", did="started", where="minion-2", age=0.11, unsure=0.01)
    yield line(100.42, "agent", "pods/default/web-b", "ready on minion-2", rev=20, did="ready", where="minion-2")
    yield line(100.43, "endpointslice-controller", SLICE, came_and_went(("10.246.2.9 web-b",), ()), rev=21, cause=20, did="replace", of=WEB)
    yield line(100.44, "proxy", WEB, "minion-3 has its rules", cause=21, did="rules", where="minion-3")
    yield line(100.45, "proxy", "machine/minion-2", "900 lines", cause=22, did="rules", where="minion-2")  # it read everything anew


def marks(lines, fault=FAULT):
    return [(mark.at_s, mark.what, mark.where, mark.by) for mark in timeline(fault, lines).marks]


THE_DEATH = [
    (0.0, "injected", "minion-1", "power-off"),
    (0.05, "known", "minion-1", "provider"),
    (0.08, "endpoint-removed", "", "endpointslice-controller"),
    (0.09, "rules", "minion-2", "proxy"),
    (0.1, "rules", "minion-3", "proxy"),
    (0.15, "fenced", "minion-1", "node-controller"),
    (0.16, "evicted", "default/web-a", "taint-eviction-controller"),
    (0.17, "decided", "default/web-b", "replication-controller"),
    (0.18, "scheduled", "minion-2", "default-scheduler"),
    (0.2, "image", "minion-2", "agent"),
    (0.3, "started", "minion-2", "agent"),
    (0.42, "ready", "minion-2", "agent"),
    (0.44, "in-vip", "minion-3", "proxy"),
    (0.45, "in-vip", "minion-2", "proxy"),
]


def test_a_death_is_told_mark_by_mark():
    assert marks(death()) == THE_DEATH
    told = timeline(FAULT, death())
    assert (told.figures.reaction_s, round(told.figures.repair_s, 6)) == (0.05, 0.37)
    [started] = [mark for mark in told.marks if mark.what == "started"]
    assert started.uncertainty_s == 0.01
    assert told.figures.outage_s is told.figures.recovery_s is told.figures.failed is None, "nobody measured"


def unexplained(told):
    """The marks whose cause is no mark before them."""
    revisions, found = {0}, []
    for mark in told:
        found += [mark] if mark.cause not in revisions else []
        revisions.add(mark.rev)
    return found


def test_each_cause_is_a_mark():
    told = timeline(FAULT, death()).marks
    assert unexplained(told) == []
    causes = {mark.what: mark.cause for mark in told}
    assert (causes["rules"], causes["evicted"], causes["decided"], causes["scheduled"], causes["in-vip"]) == (12, 13, 14, 15, 20)


def test_a_cause_leads_past_what_is_somebody_elses_and_past_steps_that_are_no_marks():
    """On a busy host more happens until a plan is made: its latest cause may be of no concern. And a pod that is made unready is no mark."""
    busy = [msgspec.structs.replace(one, cause=17, also=(3, 14, 16)) if one.did == "create" else one for one in death()]
    busy = [msgspec.structs.replace(one, cause=11) if one.did == "delete" else one for one in busy]
    told = timeline(FAULT, busy).marks
    assert [mark.cause for mark in told if mark.what == "decided"] == [14] and unexplained(told) == []
    assert [mark.cause for mark in told if mark.what == "evicted"] == [0], "web-a was made unready because of the fault itself"


def test_a_pod_that_fails_before_it_is_deleted_is_evicted_once_and_its_replacement_follows_from_that():
    killed = line(100.16, "taint-eviction-controller", "pods/default/web-a", "killed with its node", rev=14, cause=13, did="patch")
    deleted = line(100.162, "taint-eviction-controller", "pods/default/web-a", "killed with its node", rev=141, cause=13, did="delete")
    lines = [each for one in death() for each in ((killed, deleted) if one.did == "delete" else (one,))]
    assert marks(lines) == THE_DEATH and unexplained(timeline(FAULT, lines).marks) == []


def test_what_an_agent_reports_after_its_pod_is_ready_stands_where_it_happened():
    late = [line(100.6, "agent", "pods/default/web-b", "started", did="started", where="minion-2", age=0.30)]
    restarted = [line(109.0, "agent", "pods/default/web-b", "started", did="started", where="minion-2", age=0.01)]
    without = [one for one in death() if one.did != "started"]
    assert marks([*without, *late, *restarted]) == THE_DEATH


def test_endpoints_that_come_and_go_at_once_are_marked_each():
    lines = [
        line(100.06, "machines", "machines.labctl.internal/minion-1", "its end is written", rev=10),
        line(
            100.1,
            "endpointslice-controller",
            SLICE,
            came_and_went(("10.246.2.9 web-b",), ("10.246.1.2 web-a", "10.246.1.3")),
            rev=12,
            cause=10,
            of=WEB,
        ),
        line(100.2, "proxy", WEB, "minion-2 has its rules", cause=12, did="rules", where="minion-2"),
    ]
    assert [(mark.what, mark.where, mark.about) for mark in timeline(FAULT, lines).marks][1:] == [
        ("endpoint-removed", "", "pods/default/web-a"),
        ("endpoint-removed", "", WEB),
        ("rules", "minion-2", "pods/default/web-a"),
        ("rules", "minion-2", WEB),
        ("in-vip", "minion-2", "pods/default/web-b"),
    ]


def test_a_pod_that_nobody_replaces_is_not_repaired():
    assert timeline(FAULT, death(replaced=False)).figures.repair_s is None


def test_silence_is_known_by_the_lease_and_its_own_plan_belongs_to_it():
    """The plan was made because a time was over, so its writes name an old cause; they are the node's own plan all the same."""
    lines = [
        line(138.0, "node-controller", "nodes/minion-1", "tainted node.kubernetes.io/unreachable", rev=30, cause=4, did="patch"),
        line(138.0, "node-controller", "pods/default/web-a", "not ready", rev=31, cause=4, did="patch", of="nodes/minion-1"),
        line(138.1, "endpointslice-controller", SLICE, came_and_went((), ("10.246.1.2 web-a",)), rev=32, cause=31, did="replace", of=WEB),
        line(150.0, "node-controller", "nodes/minion-1", "no longer node.kubernetes.io/unreachable", rev=40, did="patch"),
    ]
    assert [(at, what, by) for at, what, _, by in marks(lines)][1:] == [
        (38.0, "known", "lease"),
        (38.0, "fenced", "node-controller"),
        (38.1, "endpoint-removed", "endpointslice-controller"),
    ]


def test_a_container_that_is_killed_is_known_by_its_agent_and_repaired_in_its_place():
    fault = FaultFacts(name="k", type="kill-container", target="pod/default/web-a/app", injected_s=100.0)
    lines = [
        line(100.02, "agent", "pods/default/web-a", "container app ended", rev=5, did="ended", where="minion-1"),
        line(100.03, "endpointslice-controller", SLICE, came_and_went((), ("10.246.1.2 web-a",)), rev=6, cause=5, did="replace", of=WEB),
        line(100.30, "agent", "pods/default/web-a", "Container started: app", did="started", where="minion-1"),
        line(100.40, "agent", "pods/default/web-a", "ready", rev=7, did="ready", where="minion-1"),
        line(109.00, "agent", "pods/default/web-a", "asked to leave", rev=9, did="leaving", where="minion-1"),
    ]
    told = timeline(fault, lines[:4])
    assert [mark.what for mark in told.marks] == ["injected", "known", "endpoint-removed", "started", "ready"]
    assert told.marks[1].by == "agent" and told.figures.repair_s == 0.38


def test_flushed_rules_are_known_by_their_digest():
    fault = FaultFacts(name="f", type="flush-rules", target="minion-2", injected_s=100.0)
    lines = [line(101.9, "proxy", "machine/minion-2", "changed by another hand and repaired", did="repaired", where="minion-2")]
    assert marks(lines, fault)[1:] == [(1.9, "known", "minion-2", "digest")]


def test_a_master_that_was_killed_is_repaired_when_the_next_one_answers():
    fault = FaultFacts(name="m", type="kill-process", target="master", injected_s=100.0)
    lines = [line(101.5, "master", "process/master", "the master answers", did="up")]
    assert marks(lines, fault)[1:] == [(1.5, "known", "", "restart"), (1.5, "ready", "", "master")]
    assert timeline(fault, lines).figures.repair_s == 0.0
    assert marks(lines) == THE_DEATH[:1], "of another fault it is no part"


def test_of_two_faults_at_once_each_has_its_own_marks():
    other = FaultFacts(name="p", type="kill-container", target="pod/default/db-a", injected_s=100.0)
    of_other = [
        line(100.02, "agent", "pods/default/db-a", "ended", rev=105, did="ended", where="minion-3"),
        line(100.40, "agent", "pods/default/db-a", "ready", rev=107, did="ready", where="minion-3"),
    ]
    together = sorted([*death(), *of_other], key=lambda one: one.t)
    assert marks(together) == THE_DEATH
    assert [what for _, what, *_ in marks(together, other)] == ["injected", "known", "ready"]


def test_lines_from_before_and_hostile_texts_harm_nobody():
    lines = [
        line(99.0, "machines", "machine/minion-1", "off", did="off", where="minion-1"),
        line(101.0, "x", "endpointslices.", "ready now: ", did="replace", cause=10),
        line(101.0, "x", "pods/", "; : ; no longer", did="ready"),
        *death(),
    ]
    assert marks(sorted(lines, key=lambda one: one.t)) == THE_DEATH


REVISIONS = st.integers(1000, 1030)
NOISE = st.builds(
    line,
    st.floats(90, 110),
    st.sampled_from(["agent", "proxy", "node-controller", "replication-controller", "resources", "remote"]),
    st.sampled_from(
        ["pods/default/db-x", "nodes/minion-2", "services/default/db", "machine/minion-3", "endpointslices.x/default/db-1", "pods/"]
    ),
    st.sampled_from(["ready now: a b", "no longer: c d", "whatever", "no longer "]),
    rev=REVISIONS,
    cause=st.one_of(st.just(0), REVISIONS),
    also=st.lists(REVISIONS, max_size=3).map(tuple),
    did=st.sampled_from(["", "create", "patch", "delete", "bind", "ready", "ended", "started", "ssh-lost", "leaving"]),
    of=st.sampled_from(["", "services/default/db", "nodes/minion-2"]),
    where=st.sampled_from(["", "minion-2", "minion-3"]),
)


@settings(max_examples=300)
@given(st.lists(NOISE, max_size=40))
def test_what_has_no_cause_in_the_fault_changes_nothing(noise):
    """Whatever others do at the same time, with whatever revisions: no mark comes, goes or moves."""
    assert marks(sorted([*death(), *noise], key=lambda one: one.t)) == THE_DEATH


@settings(max_examples=200)
@given(st.data())
def test_exactly_what_can_be_reached_by_causes_is_marked(data):
    """A random graph of creations: the marked ones are those that a search from the fault's first revision reaches."""
    lines, reached = [line(100.0, "machines", "machines.labctl.internal/minion-1", "written", rev=1)], {1}
    for rev in range(2, data.draw(st.integers(2, 30))):
        causes = data.draw(st.lists(st.integers(1, rev - 1) | st.integers(500, 510), min_size=1, max_size=3))
        lines.append(line(100.0 + rev, "rc", f"pods/default/p{rev}", rev=rev, cause=causes[-1], also=tuple(causes[:-1]), did="create"))
        if reached & set(causes):
            reached.add(rev)
    told = timeline(FAULT, lines).marks
    assert {mark.rev for mark in told if mark.what == "decided"} == reached - {1}
    assert unexplained(told) == []
