"""Today's workloads on real machines, as tutorials write them: Deployments, StatefulSets, DaemonSets, Jobs and CronJobs, with an unmodified kubectl."""

import json

import pytest

from tests.e2e.cluster import condition, requests, wait

NGINX = {"name": "nginx", "image": "nginx", "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}}


@pytest.fixture(autouse=True)
def cleared(cluster):
    yield
    cluster.kubectl("delete", "deploy,sts,ds,cj,jobs,rs", "--all", "--wait=false")
    cluster.clear()


def create(cluster, *objects):
    for thing in objects:
        cluster.kubectl("create", "-f", "-", input=json.dumps(thing))


def workload(kind, name, container=None, **spec):
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container or NGINX]}}
    body = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels}, "spec": body}


def test_a_deployment_is_rolled_out_undone_and_restarted(cluster):
    cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=3")
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    cluster.kubectl("expose", "deployment", "web", "--port=80")
    wait(lambda: cluster.curl("minion-1", f"http://{cluster.vip('web')}/", check=False), "the Service answers")
    cluster.kubectl("set", "image", "deployment/web", "nginx=no-such-image")
    wait(
        lambda: "ErrImage" in cluster.kubectl("get", "pods").stdout or "ImagePull" in cluster.kubectl("get", "pods").stdout,
        "the new image is missed",
    )
    assert len(cluster.ready_pods("app=web")) == 3, "what works stays until something better is there"
    assert "deployment.apps/web rolled back" in cluster.kubectl("rollout", "undo", "deployment/web").stdout
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    before = {pod["metadata"]["uid"] for pod in cluster.pods("app=web")}
    cluster.kubectl("rollout", "restart", "deployment/web")
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    wait(lambda: not before & {pod["metadata"]["uid"] for pod in cluster.pods("app=web")}, "all pods are new")
    assert "REVISION" in cluster.kubectl("rollout", "history", "deployment/web").stdout


def test_a_rolling_update_under_load_fails_no_request(cluster):
    create(cluster, workload("Deployment", "web", replicas=4))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    cluster.kubectl("expose", "deployment", "web", "--port=80")
    address = cluster.vip("web")
    wait(lambda: cluster.curl("minion-1", f"http://{address}/", check=False), "the Service answers")
    with requests(cluster, "minion-1", address) as one, requests(cluster, "minion-2", address, keep_alive=True) as other:
        cluster.kubectl("rollout", "restart", "deployment/web")
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s", timeout_s=100)
    for counted in (one, other):
        assert counted["total"] > 20 and counted["failed"] == 0, counted


def test_a_deployments_pods_move_when_a_minion_loses_its_power(cluster):
    create(cluster, workload("Deployment", "web", replicas=4))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    cluster.labctl("fault", "power-off", "minion-2")
    wait(lambda: [p["spec"]["nodeName"] for p in cluster.ready_pods("app=web")] == ["minion-1"] * 4, "all four are on the other minion", 30)
    cluster.labctl("up")
    wait(lambda: all(condition(node, "Ready") == "True" for node in cluster.items("nodes")), "both nodes are Ready", 40)


def test_a_daemonset_has_one_pod_on_every_minion(cluster):
    create(cluster, workload("DaemonSet", "log"))
    cluster.kubectl("rollout", "status", "daemonset/log", "--timeout=60s", timeout_s=70)
    assert sorted(p["spec"]["nodeName"] for p in cluster.ready_pods("app=log")) == ["minion-1", "minion-2"]
    cluster.kubectl("rollout", "restart", "daemonset/log")
    cluster.kubectl("rollout", "status", "daemonset/log", "--timeout=60s", timeout_s=70)
    assert "2" in cluster.kubectl("rollout", "history", "daemonset/log").stdout
    cluster.kubectl("rollout", "undo", "daemonset/log")
    cluster.kubectl("rollout", "status", "daemonset/log", "--timeout=60s", timeout_s=70)


def test_a_statefulset_keeps_its_names(cluster):
    create(cluster, workload("StatefulSet", "db", serviceName="db", replicas=2))
    cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s", timeout_s=70)
    assert sorted(p["metadata"]["name"] for p in cluster.ready_pods("app=db")) == ["db-0", "db-1"]
    assert cluster.kubectl("exec", "db-1", "--", "hostname").stdout.strip() == "db-1"
    cluster.kubectl("delete", "pod", "db-1")
    wait(lambda: len(cluster.ready_pods("app=db")) == 2, "db-1 is back")
    cluster.kubectl("scale", "statefulset/db", "--replicas=1")
    wait(lambda: [p["metadata"]["name"] for p in cluster.pods("app=db")] == ["db-0"], "db-1 goes first")


def test_a_job_ends_and_a_failing_one_says_why(cluster):
    cluster.kubectl("create", "job", "pi", "--image=busybox", "--", "echo", "3.14")
    cluster.kubectl("wait", "--for=condition=complete", "job/pi", "--timeout=30s", timeout_s=40)
    assert cluster.kubectl("logs", "job/pi").stdout == "3.14\n"
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", "exit 42"]}]}}
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    create(
        cluster,
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "bad"},
            "spec": {"template": template, "podFailurePolicy": {"rules": rules}},
        },
    )
    cluster.kubectl("wait", "--for=condition=failed", "job/bad", "--timeout=30s", timeout_s=40)
    said = next(c for c in cluster.get("job", "bad")["status"]["conditions"] if c["type"] == "Failed")
    assert said["reason"] == "PodFailurePolicy" and "exit code 42" in said["message"]


def test_an_indexed_job_tells_each_pod_its_index(cluster):
    command = ["sh", "-c", "echo $JOB_COMPLETION_INDEX"]
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox", "command": command}]}}
    spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "template": template}
    create(cluster, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "many"}, "spec": spec})
    cluster.kubectl("wait", "--for=condition=complete", "job/many", "--timeout=40s", timeout_s=50)
    assert sorted(cluster.kubectl("logs", "-l", "job-name=many").stdout.split()) == ["0", "1", "2"]


def test_a_job_whose_pod_is_deleted_goes_on(cluster):
    cluster.kubectl("create", "job", "slow", "--image=busybox", "--", "sleep", "4")
    [pod] = wait(lambda: cluster.ready_pods("job-name=slow"), "its pod runs")
    cluster.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=1")
    cluster.kubectl("wait", "--for=condition=complete", "job/slow", "--timeout=60s", timeout_s=70)
    status = cluster.get("job", "slow")["status"]
    assert (status["succeeded"], status["failed"]) == (1, 1)
    cluster.kubectl("delete", "job", "slow")
    wait(lambda: not cluster.items("pods", "-l", "job-name=slow"), "its pods go with it")


def test_a_cronjob_runs_on_demand(cluster):
    cluster.kubectl("create", "cronjob", "tick", "--image=busybox", "--schedule=0 0 1 1 *", "--", "date")
    cluster.kubectl("create", "job", "now", "--from=cronjob/tick")
    cluster.kubectl("wait", "--for=condition=complete", "job/now", "--timeout=30s", timeout_s=40)
