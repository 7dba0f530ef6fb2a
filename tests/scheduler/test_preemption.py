"""Who must go so that a more important pod fits: Kubernetes' order of victims and nodes, budgets, nominations, and the words."""

import pytest

from labctl.reconcile.plan import Bind, Delete, Patch
from labctl.scheduler.scheduler import Scheduler
from labctl.scheduler.settings import SchedulerSettings
from labctl.sim.objects import node, pod
from labctl.sim.picture import Picture

SCHEDULER = "default-scheduler"


@pytest.fixture
def picture():
    made = Picture([Scheduler(SchedulerSettings(backoff_min_s=1, backoff_max_s=8))])
    for name in ("n1", "n2"):
        made.put(node(name, cpu="1"))
    return made


def put(picture, name, priority, on="", cpu="500m", started="", labels=None, **spec):
    made = pod(name, node=on, cpu=cpu, labels=labels or {"name": name})
    made["spec"] |= {"priority": priority, **spec}
    if started:
        made["status"]["startTime"] = started
    return picture.put(made)


def actions(picture, name="p"):
    return picture.plan(f"default/{name}").actions


def victims(planned):
    return sorted(action.key.partition("/")[2] for action in planned if isinstance(action, Delete))


def nominated(planned):
    found = [action.patch["status"]["nominatedNodeName"] for action in planned if isinstance(action, Patch) and action.event]
    return found[0] if found else None


def carry_out(picture, planned, name="p"):
    """What the runner and the API do of it: victims are leaving, the pod's status is written."""
    for action in planned:
        if isinstance(action, Patch):
            whole = picture.view.raw("pods", action.key)
            status = {key: value for key, value in {**whole["status"], **action.patch["status"]}.items() if value is not None}
            picture.put({**whole, "status": status})
        elif isinstance(action, Delete):
            whole = picture.view.raw("pods", action.key)
            picture.put({**whole, "metadata": {**whole["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})


def test_the_less_important_pod_goes_in_kubernetes_words(picture):
    put(picture, "low", 1, "n1", cpu="800m")
    put(picture, "high", 100, "n2", cpu="800m")
    p = put(picture, "p", 10)
    planned = actions(picture)
    told, deletion, parked = planned
    assert [c["type"] for c in told.patch["status"]["conditions"]] == ["DisruptionTarget"]
    condition = told.patch["status"]["conditions"][0]
    assert (condition["reason"], condition["message"]) == (
        "PreemptionByScheduler",
        "default-scheduler: preempting to accommodate a higher priority pod",
    )
    assert (deletion.key, deletion.grace_s) == ("default/low", None), "its own grace"
    assert (deletion.event.reason, deletion.event.type) == ("Preempted", "Normal")
    assert deletion.event.message == f"Preempted by pod {p.metadata.uid} on node n1"
    assert parked.why == "0/2 nodes are available: 2 Insufficient cpu."
    assert parked.patch["status"]["nominatedNodeName"] == "n1"


def test_it_waits_for_its_victim_and_gets_the_node_though_a_less_important_pod_asks_first(picture):
    put(picture, "low", 1, "n1", cpu="800m")
    put(picture, "other", 100, "n2", cpu="800m")
    put(picture, "p", 10)
    carry_out(picture, actions(picture))
    picture.clock.time += 1
    (parked,) = actions(picture)
    assert (
        parked.why
        == "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node."
    )
    carry_out(picture, [parked])
    put(picture, "small", 5)
    picture.dirty[SCHEDULER].clear()
    picture.drop("pods", "default/low")
    assert "default/p" in picture.dirty[SCHEDULER], "its victim is gone"
    picture.clock.time += 1
    (bind,) = actions(picture, "small")
    assert isinstance(bind, Bind) and bind.node == "n1", "beside the nominated pod there is room for one"
    put(picture, "tiny", 5, cpu="100m")
    (bind,) = actions(picture, "tiny")
    assert isinstance(bind, Bind) and bind.node == "n2", "and for no other"
    (bind,) = actions(picture, "p")
    assert isinstance(bind, Bind) and bind.node == "n1"


def test_never_preempts_and_equals_do_not_preempt(picture):
    for name in ("n1", "n2"):
        put(picture, f"low-{name}", 1, name, cpu="800m")
    put(picture, "p", 10, preemptionPolicy="Never")
    (parked,) = actions(picture)
    assert parked.why == "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    put(picture, "q", 1)
    (parked,) = actions(picture, "q")
    assert parked.why.endswith("preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.")


def test_where_it_would_not_help_nobody_goes(picture):
    put(picture, "low", 1, "n1", cpu="800m")
    put(picture, "p", 10, cpu="2")
    (parked,) = actions(picture)
    assert parked.why.endswith("preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.")
    put(picture, "important", 100, "n1", cpu="100m")
    put(picture, "important-2", 100, "n2", cpu="900m")
    put(picture, "q", 10, cpu="950m")
    (parked,) = actions(picture, "q")
    assert parked.why.endswith("preemption: 0/2 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod.")


def test_as_few_as_are_needed_and_the_most_important_stay(picture):
    picture.drop("nodes", "n2")
    for name, priority, started in (("a", 1, "2026-01-01T00:00:00Z"), ("b", 1, "2026-01-02T00:00:00Z"), ("c", 2, "2026-01-03T00:00:00Z")):
        put(picture, name, priority, "n1", cpu="300m", started=started)
    put(picture, "p", 10, cpu="300m")
    assert victims(actions(picture)) == ["b"], "of the least important the one that runs the shortest"


@pytest.mark.parametrize(
    "on_n1, on_n2, chosen",
    [
        ([(5, "1")], [(3, "1")], "n2"),  # the least important victims
        ([(3, "500m"), (3, "500m")], [(3, "500m"), (2, "500m")], "n2"),  # the smallest sum
        ([(3, "500m"), (-5, "500m")], [(3, "1")], "n2"),  # fewer
    ],
)
def test_which_node(picture, on_n1, on_n2, chosen):
    for name, there in (("n1", on_n1), ("n2", on_n2)):
        for number, (priority, cpu) in enumerate(there):
            put(picture, f"{name}-{number}", priority, name, cpu=cpu)
    put(picture, "p", 10, cpu="1")
    assert nominated(actions(picture)) == chosen


def test_the_youngest_victims_go(picture):
    put(picture, "old", 1, "n1", cpu="1", started="2026-01-01T00:00:00Z")
    put(picture, "young", 1, "n2", cpu="1", started="2026-01-02T00:00:00Z")
    put(picture, "p", 10)
    assert victims(actions(picture)) == ["young"]


def test_budgets_are_respected_where_another_node_does(picture):
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "status": {"disruptionsAllowed": 0}}
    picture.put({**budget, "spec": {"selector": {"matchLabels": {"app": "db"}}}})
    put(picture, "guarded", 1, "n1", cpu="1", labels={"app": "db"})
    put(picture, "other", 5, "n2", cpu="1")
    put(picture, "p", 10)
    assert victims(actions(picture)) == ["other"], "though it is the more important one"
    picture.drop("nodes", "n2")
    put(picture, "q", 10)
    assert victims(actions(picture, "q")) == ["guarded"], "there is no other way"


def test_room_that_a_leaving_pod_makes_is_waited_for(picture):
    put(picture, "low", 1, "n1", cpu="800m")
    put(picture, "other", 1, "n2", cpu="800m")
    whole = picture.view.raw("pods", "default/low")
    picture.put({**whole, "metadata": {**whole["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    put(picture, "p", 10)
    planned = actions(picture)
    assert victims(planned) == [] and nominated(planned) == "n1"


def test_anti_affinity_is_a_reason_to_preempt_and_affinity_is_none(picture):
    picture.drop("nodes", "n2")
    shy = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_term({"app": "web"})]}}
    put(picture, "web", 1, "n1", cpu="100m", labels={"app": "web"})
    put(picture, "p", 10, cpu="100m", affinity=shy)
    assert victims(actions(picture)) == ["web"]


def _term(labels):
    return {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}


def test_a_nomination_is_lost_to_a_more_important_pod_and_when_its_node_is_gone(picture):
    picture.drop("nodes", "n2")
    put(picture, "low", 1, "n1", cpu="1")
    put(picture, "p", 10, cpu="1")
    carry_out(picture, actions(picture))
    put(picture, "boss", 20, cpu="1")
    planned = actions(picture, "boss")
    assert [a.patch["status"] for a in planned if isinstance(a, Patch) and a.key == "default/p"] == [{"nominatedNodeName": None}]
    carry_out(picture, planned)
    picture.drop("nodes", "n1")
    picture.drop("pods", "default/low")
    picture.clock.time += 10
    (parked,) = actions(picture, "boss")
    assert parked.patch["status"]["nominatedNodeName"] is None and parked.why == "no nodes available to schedule pods"


def test_a_scheduler_that_begins_anew_knows_who_is_nominated():
    picture = Picture([Scheduler()])
    picture.put(node("n1", cpu="1"))
    made = pod("p", cpu="600m", labels={"name": "p"})
    made["spec"]["priority"] = 10
    made["status"]["nominatedNodeName"] = "n1"
    picture.put(made)
    picture.put(pod("small", cpu="600m", labels={"name": "small"}))
    assert not any(isinstance(action, Bind) for action in actions(picture, "small"))
    assert isinstance(actions(picture, "p")[0], Bind)
