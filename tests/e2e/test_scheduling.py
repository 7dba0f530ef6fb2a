"""Scheduling on real machines: replicas that keep apart, and a pod that is more important than what runs."""

import json

import pytest

from tests.e2e.cluster import condition, wait

CLASSES = "priorityclasses.scheduling.k8s.io"


@pytest.fixture
def made(cluster):
    """A function that creates objects; everything is removed afterwards."""

    def make(*objects):
        for thing in objects:
            cluster.kubectl("create", "-f", "-", input=json.dumps(thing))

    yield make
    cluster.kubectl("delete", "deployment", "--all", check=False)
    cluster.clear()
    cluster.kubectl("delete", CLASSES, "important", "--ignore-not-found")


def deployment(name, replicas, container=None, **spec):
    labels = {"app": name}
    main = {"name": "main", "image": "busybox", "command": ["sleep", "3600"], **(container or {})}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [main], "terminationGracePeriodSeconds": 1, **spec}}
    body = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}


def ready_on(cluster, name):
    """The nodes of a Deployment's pods that are Ready."""
    pods = cluster.items("pods", "-l", f"app={name}")
    return sorted(pod["spec"]["nodeName"] for pod in pods if condition(pod, "Ready") == "True")


def test_anti_affinity_spreads_two_replicas_and_the_third_says_why_it_waits(cluster, made):
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    made(deployment("web", 2, affinity=apart))
    wait(lambda: ready_on(cluster, "web") == ["minion-1", "minion-2"], "one on each minion", 30)
    cluster.kubectl("scale", "deployment", "web", "--replicas=3")
    waiting = wait(
        lambda: [pod for pod in cluster.items("pods", "-l", "app=web") if condition(pod, "PodScheduled") == "False"], "the third waits", 30
    )
    told = cluster.labctl("why", f"pod/{waiting[0]['metadata']['name']}").stdout
    assert "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules." in told
    for minion in ("minion-1", "minion-2"):
        assert f"{minion}: node(s) didn't match pod anti-affinity rules" in told


def test_a_pod_of_a_high_priority_preempts(cluster, made):
    allocatable = int(cluster.get("node", "minion-1")["status"]["allocatable"]["cpu"])
    most = {"resources": {"requests": {"cpu": f"{allocatable * 600}m"}}}
    made({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "important"}, "value": 1000})
    made(deployment("low", 2, most))
    wait(lambda: ready_on(cluster, "low") == ["minion-1", "minion-2"], "both minions are more than half full", 30)
    made(deployment("high", 1, most, priorityClassName="important"))
    wait(lambda: len(ready_on(cluster, "high")) == 1, "it runs where one had to go", 40)
    assert len(ready_on(cluster, "low")) == 1
    uid = cluster.items("pods", "-l", "app=high")[0]["metadata"]["uid"]
    [event] = cluster.items("events", "--field-selector", "reason=Preempted")
    assert event["message"] == f"Preempted by pod {uid} on node {ready_on(cluster, 'high')[0]}"
    waiting = next(pod for pod in cluster.items("pods", "-l", "app=low") if condition(pod, "PodScheduled") == "False")
    told = cluster.kubectl("describe", "pod", waiting["metadata"]["name"]).stdout
    assert "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found" in told
