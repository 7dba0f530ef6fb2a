"""A running pod on a real machine is given more and less, and reads it from its own control group; docs: KEP-1287."""

import json

from tests.e2e.cluster import wait
from tests.e2e.test_workloads import pod, running

SMALL = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
LARGE = {"requests": {"cpu": "150m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
INSIDE = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes"


def resize(cluster, name, resources, check=True):
    patch = json.dumps({"spec": {"containers": [{"name": "main", "resources": resources}]}})
    return cluster.kubectl("patch", "pod", name, "--subresource", "resize", "-p", patch, check=check)


def status(cluster, name):
    return cluster.get("pod", name)["status"]


def conditions(cluster, name):
    told = status(cluster, name)["conditions"]
    return {each["type"]: each.get("reason", "") for each in told if each["type"].startswith("PodResize")}


def limits_inside(cluster, name):
    """The CPU quota (µs) and memory limit (bytes) that a process in the pod reads."""
    words = cluster.kubectl("exec", name, "--", "sh", "-c", INSIDE).stdout.split()
    return int(words[0]), int(words[-1])


def test_a_pod_is_resized_while_it_runs(cluster):
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    for name, container in (("live", {"resources": SMALL}), ("again", {"resources": SMALL, "resizePolicy": policy})):
        whole = pod(name, "sleep", "1000", container=container, terminationGracePeriodSeconds=1)
        cluster.kubectl("create", "-f", "-", input=json.dumps(whole))
    for name in ("live", "again"):
        running(cluster, name)
        assert limits_inside(cluster, name) == (20_000, 64 << 20)
        resize(cluster, name, LARGE)
        wait(lambda name=name: status(cluster, name)["containerStatuses"][0].get("resources") == LARGE, f"{name} was resized")
        wait(lambda name=name: limits_inside(cluster, name) == (50_000, 128 << 20), f"{name} reads its new limits")
        told = status(cluster, name)["containerStatuses"][0]
        assert told["allocatedResources"] == LARGE["requests"] and told["restartCount"] == (name == "again")
        wait(lambda name=name: not conditions(cluster, name), "nothing is left to do")
    resize(cluster, "live", SMALL)
    wait(lambda: limits_inside(cluster, "live") == (20_000, 64 << 20), "it shrank again")
    refused = resize(cluster, "live", {"requests": {"cpu": "200m", "memory": "64Mi"}}, check=False)
    assert "Pod QOS Class may not change as a result of resizing" in refused.stderr
    refused = resize(cluster, "live", {"requests": {"cpu": "900"}, "limits": {"cpu": "901"}}, check=False)
    assert "node didn't have enough allocatable resources: cpu, requested: 900000, allocatable: " in refused.stderr
    assert limits_inside(cluster, "live") == (20_000, 64 << 20)
    cluster.clear()


def test_a_pods_own_resources_bound_it_and_are_resized(cluster):
    whole = pod("whole", "sleep", "1000", terminationGracePeriodSeconds=1, resources=SMALL)
    cluster.kubectl("create", "-f", "-", input=json.dumps(whole))
    running(cluster, "whole")
    assert limits_inside(cluster, "whole") == (20_000, 64 << 20), "its container has no limit, and reads the pod's"
    cluster.kubectl("patch", "pod", "whole", "--subresource", "resize", "-p", json.dumps({"spec": {"resources": LARGE}}))
    wait(lambda: limits_inside(cluster, "whole") == (50_000, 128 << 20), "it reads its new limits")
    wait(lambda: status(cluster, "whole").get("resources") == LARGE, "the pod's status says so")
    assert status(cluster, "whole")["allocatedResources"] == LARGE["requests"]
    cluster.clear()
