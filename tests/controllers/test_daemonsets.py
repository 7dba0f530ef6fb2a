"""The DaemonSet controller's plans on pictures; whole rollouts are in tests/sim/test_daemonsets.py."""

from labctl.controllers.daemonsets import FAILED_AGAIN_S, DaemonSets
from labctl.reconcile.plan import Create, Delete, Patch, Record
from labctl.sim.objects import daemon_set, node, pod, reference
from labctl.sim.picture import Picture

KEY = "default/log"


def of(plan, type_):
    return [action for action in plan.actions if isinstance(action, type_)]


def picture(nodes=1, **spec):
    made = Picture([DaemonSets()])
    for number in range(1, nodes + 1):
        made.put(node(f"minion-{number}"))
    return made, made.put(daemon_set("log", **spec))


def own(made, daemon, name, on, **more):
    whole = pod(name, node=on, labels={"name": "log"}, **more)
    whole["metadata"]["ownerReferences"] = [{**reference(daemon, "DaemonSet"), "apiVersion": "apps/v1"}]
    return made.put(whole)


def test_a_new_pod_is_told_its_node_and_tolerates_what_its_kind_does():
    made, _ = picture()
    [creation] = [action for action in of(made.plan(KEY), Create) if action.kind == "pods"]
    spec = creation.object["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["minion-1"]}]}]
    assert {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"} in spec["tolerations"]


def test_a_templates_own_affinity_holds_in_every_term():
    made, _ = picture()
    made.put(node("minion-1") | {"metadata": {"name": "minion-1", "labels": {"disk": "ssd"}}})
    whole = daemon_set("log")
    asked = [{"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]} for value in ("ssd", "hdd")]
    required = {"nodeSelectorTerms": asked}
    whole["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    made.put(whole)
    [creation] = [action for action in of(made.plan(KEY), Create) if action.kind == "pods"]
    terms = creation.object["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [set(term) for term in terms] == [{"matchExpressions", "matchFields"}] * 2


def test_a_failed_pod_is_replaced_after_a_while():
    made, daemon = picture()
    own(made, daemon, "log-1", "minion-1", phase="Failed")
    plan = made.plan(KEY)
    assert not of(plan, Delete) and plan.again_s == FAILED_AGAIN_S
    made.clock.time += FAILED_AGAIN_S
    plan = made.plan(KEY)
    assert [action.key for action in of(plan, Delete)] == ["default/log-1"]
    assert [record.reason for record in of(plan, Record)] == ["FailedDaemonPod"]


def test_of_two_pods_on_a_node_the_older_stays():
    made, daemon = picture(updateStrategy={"type": "OnDelete"})
    own(made, daemon, "log-b", "minion-1", ready=True, creationTimestamp="2026-01-01T00:00:01Z")
    own(made, daemon, "log-a", "minion-1", ready=True, creationTimestamp="2026-01-01T00:00:09Z")
    assert [action.key for action in of(made.plan(KEY), Delete)] == ["default/log-a"]


def test_a_pod_where_none_may_stay_goes_and_one_that_would_not_be_made_stays():
    made, daemon = picture(2)
    own(made, daemon, "log-1", "minion-1", ready=True)
    own(made, daemon, "log-2", "minion-2", ready=True)
    made.put(node("minion-1", taints=[{"key": "a", "effect": "NoSchedule"}]))
    made.put(node("minion-2", taints=[{"key": "a", "effect": "NoExecute"}]))
    assert "default/log-1" not in [action.key for action in of(made.plan(KEY), Delete)]
    assert "default/log-2" in [action.key for action in of(made.plan(KEY), Delete)]


def test_one_that_is_made_again_over_what_it_left_adopts_its_history_and_replaces_nothing():
    made, _ = picture(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    first = made.plan(KEY)
    for action in of(first, Create):
        whole = {**action.object, "metadata": {**action.object["metadata"], "ownerReferences": []}}
        if action.kind == "pods":
            whole["spec"]["nodeName"] = "minion-1"
            whole["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        made.put(whole)
    plan = made.plan(KEY)
    assert not of(plan, Create) and not of(plan, Delete)
    assert sorted(action.kind for action in of(plan, Patch) if "ownerReferences" in action.patch.get("metadata", {})) == [
        "controllerrevisions.apps",
        "pods",
    ]
    assert not any("collisionCount" in str(action.patch) for action in of(plan, Patch))
