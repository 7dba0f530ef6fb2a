"""The core of what a lab does today, small enough for every provider; `make test-vm` plays it on virtual machines.

Workloads come up and are changed, a pod finds a name and may ask the API by its own token, a kind that somebody added is served, and what each
kind of fault of a machine led to can be read from its timeline.
"""

import json

import pytest

from tests.e2e.cluster import PATIENCE, condition, wait

TODAY = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: web
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: busybox, command: [sleep, "10000"]}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: [echo, done]}]}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: trees.example.com}
spec:
  group: example.com
  names: {kind: Tree, plural: trees}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties: {spec: {type: object, properties: {height: {type: integer, minimum: 1}}}}
"""
TREE = "{apiVersion: example.com/v1, kind: Tree, metadata: {name: oak}, spec: {height: %d}}"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"


@pytest.fixture(scope="module")
def lab(enduring):
    """What these scenarios make, beside whatever other files made in the same lab."""
    enduring.labctl("up", "--minions", "2", timeout_s=600)
    enduring.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    enduring.kubectl("expose", "deployment", "web", "--port=80")
    enduring.kubectl("create", "-f", "-", input=TODAY)
    rolled_out(enduring, "deployment/web")
    rolled_out(enduring, "statefulset/db")
    yield enduring
    enduring.kubectl("delete", "deploy/web", "svc/web", "sts/db", "job/once", "crd/trees.example.com", "--ignore-not-found")
    wait(lambda: not [pod for app in ("web", "db") for pod in enduring.items("pods", "-l", f"app={app}")], "their pods are gone", 40)


def rolled_out(lab, what):
    timeout_s = 60 * PATIENCE
    lab.kubectl("rollout", "status", what, f"--timeout={timeout_s:g}s", timeout_s=70)


def test_a_deployment_is_rolled_out_anew(lab):
    before = {pod["metadata"]["uid"] for pod in lab.pods("app=web")}
    lab.kubectl("rollout", "restart", "deployment/web")
    rolled_out(lab, "deployment/web")
    wait(lambda: not before & {pod["metadata"]["uid"] for pod in lab.pods("app=web")}, "all pods are new", 30)
    assert lab.curl("minion-1", f"http://{lab.vip('web')}/") == lab.curl("minion-2", f"http://{lab.vip('web')}/") != ""


def test_a_job_ends(lab):
    wait(lambda: condition(lab.get("job", "once"), "Complete") == "True", "it is complete", 30)
    assert lab.kubectl("logs", "job/once").stdout == "done\n"


def test_a_pod_has_its_name_finds_others_and_may_ask_the_api(lab):
    assert sorted(pod["metadata"]["name"] for pod in lab.ready_pods("app=db")) == ["db-0", "db-1"]
    assert lab.kubectl("exec", "db-1", "--", "hostname").stdout == "db-1\n"
    found = lambda: lab.kubectl("exec", "db-1", "--", "nslookup", "web.default.svc.cluster.local").stdout  # noqa: E731
    assert lab.vip("web") in wait(found, "the name is found", 20)
    token = lab.kubectl("exec", "db-0", "--", "cat", TOKEN).stdout
    said = json.loads(lab.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review(token))).stdout)
    assert said["status"]["user"]["username"] == "system:serviceaccount:default:default"


def review(token):
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}


def test_a_kind_that_was_added_is_served_and_judged(lab):
    wait(lambda: lab.kubectl("create", "-f", "-", input=TREE % 3), "the kind is served", 20)
    assert lab.get("tree", "oak")["spec"] == {"height": 3}
    refused = lab.kubectl("apply", "-f", "-", input=TREE % 0, check=False)
    assert refused.returncode and "spec.height" in refused.stderr


@pytest.mark.parametrize(
    "words", [("pause",), ("cut",), ("loss", "-p", "share=50%"), ("rate", "-p", "rate=1mbit")], ids=lambda words: words[0]
)
def test_a_fault_and_its_end_stand_in_its_timeline(lab, words):
    type_, *parameters = words
    made = json.loads(lab.labctl("fault", type_, "minion-2", *parameters, "-o", "json").stdout)
    name = made["metadata"]["name"]
    lab.labctl("fault", "heal", name)
    wait(lambda: lab.get("fault", name)["status"]["phase"] == "Healed", "it is healed", 30)
    told = wait(lambda: (t := timeline(lab, name)) and "healed" in of(t) and t, "its end is told", 20)
    assert [(mark["where"], mark["by"]) for mark in told["marks"] if mark["what"] == "injected"] == [("minion-2", type_)]
    assert of(told).index("injected") < of(told).index("healed")
    wait(lambda: condition(lab.get("node", "minion-2"), "Ready") == "True", "minion-2 is Ready", 40)


def timeline(lab, fault):
    return json.loads(lab.labctl("timeline", fault, "-o", "json").stdout)


def of(told):
    return [mark["what"] for mark in told["marks"]]
