from types import SimpleNamespace

import pytest

from labctl.controllers.builtin import builtin_controllers
from labctl.controllers.explain import explain
from labctl.journal import Line
from labctl.resources.registry import builtin_registry
from labctl.sim.objects import condition, node, pod, replication_controller, service
from labctl.sim.picture import Picture

WEB = {"name": "web"}


@pytest.fixture
def picture():
    registry = builtin_registry()
    return Picture(builtin_controllers(registry), registry)


class Past(SimpleNamespace):
    def __init__(self, picture):
        super().__init__(lines=[])
        self.picture = picture

    def note(self, room, about, text):
        clock = self.picture.clock
        self.lines.append(Line(clock.now(), clock.wall(), room, about, text))


@pytest.fixture
def past(picture):
    return Past(picture)


def test_a_pod_that_was_killed_is_gone_and_its_past_says_by_whom(picture, past):
    past.note("default-scheduler", "pods/default/a", "placed on minion-1: the only node where it fits")
    picture.clock.time += 90
    past.note("replication-controller", "pods/default/a", "deleted by replicationcontroller web, which wants only 1")
    past.note("replication-controller", "pods/default/b", "another pod's past")
    picture.clock.time += 5
    assert explain(picture.view, past, "pods", "default/a") == [
        "There is no default/a among the pods now.",
        "95s ago: placed on minion-1: the only node where it fits [default-scheduler]",
        "5s ago: deleted by replicationcontroller web, which wants only 1 [replication-controller]",
    ]


def test_of_what_nobody_knows_there_is_nothing_to_say(picture, past):
    assert explain(picture.view, past, "pods", "default/x") == []


def test_a_pending_pod_says_what_the_scheduler_said(picture, past):
    obj = pod("big")
    message = "0/2 nodes are available: 2 Insufficient memory."
    obj["status"]["conditions"] = [condition("PodScheduled", "False", reason="Unschedulable", message=message)]
    picture.put(obj)
    assert f"It waits for a node: {message}" in explain(picture.view, past, "pods", "default/big")


def test_a_pod_that_is_not_ready_says_which_container_and_which_node(picture, past):
    picture.put({**node("n1", ready="Unknown")})
    obj = pod("a", node="n1", ready=False, ip="10.246.1.2")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nope"'}}
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    obj["status"]["containerStatuses"] = [{"name": "main", "restartCount": 2, "state": waiting, "lastState": last}]
    picture.put(obj)
    lines = explain(picture.view, past, "pods", "default/a")
    assert 'Container main waits: ImagePullBackOff: Back-off pulling image "nope"' in lines
    assert "Container main was restarted 2 times; last it ended with OOMKilled (exit code 137)." in lines
    assert "What it wrote before: labctl logs -n default a -c main --previous" in lines
    assert "An image needs no registry: `labctl image build NAME` and `labctl image load FILE` bring it." in lines
    assert any(line.startswith("Its node is not ready") for line in lines)


def test_a_controller_tells_of_its_pods_and_of_what_it_did_to_them(picture, past):
    rc = picture.put(replication_controller("web", 2))
    picture.put(pod("web-1", node="n1", owner=rc, labels=WEB, ready=True))
    picture.put(pod("web-2", owner=rc, labels=WEB))
    past.note("replication-controller", "pods/default/web-0", "deleted by replicationcontroller web, which wants only 2")
    lines = explain(picture.view, past, "replicationcontrollers", "default/web")
    assert lines[0] == "It wants 2 pods: 2 there, 1 ready."
    assert "pod web-2: It waits for a node: the scheduler has not decided yet" in lines
    assert lines[-1] == "0s ago: web-0: deleted by replicationcontroller web, which wants only 2 [replication-controller]"


def test_a_controllers_past_says_who_killed_its_pods(picture, past):
    picture.put(replication_controller("web", 2))
    past.note("replication-controller", "pods/default/web-1", "created by replicationcontroller web, which wants 2")
    past.note("default-scheduler", "pods/default/web-1", "placed on minion-1")
    past.note("taint-eviction-controller", "pods/default/web-1", "killed with its node: minion-1 is out of service")
    past.note("taint-eviction-controller", "pods/default/other", "killed with its node: minion-1 is out of service")
    lines = explain(picture.view, past, "replicationcontrollers", "default/web")[2:]
    assert [line.partition("ago: ")[2] for line in lines] == [
        "web-1: created by replicationcontroller web, which wants 2 [replication-controller]",
        "web-1: killed with its node: minion-1 is out of service [taint-eviction-controller]",
    ]


def test_a_service_tells_each_minions_last_rules_only(picture, past):
    picture.put(service("web", WEB))
    past.note("resources", "services/default/web", "created by admin")
    for took in range(20):
        past.note("proxy", "services/default/web", f"minion-1 has its rules ({took} ms)")
        past.note("proxy", "services/default/web", f"minion-2 has its rules ({took} ms)")
    lines = [line.partition("ago: ")[2] for line in explain(picture.view, past, "services", "default/web")]
    assert lines[-3:] == [
        "created by admin [resources]",
        "minion-1 has its rules (19 ms) [proxy]",
        "minion-2 has its rules (19 ms) [proxy]",
    ]


@pytest.mark.parametrize(
    "pods, sentence",
    [
        ([], "It has no endpoints: its selector name=web matches no pods in namespace default."),
        ([pod("a", node="n1", labels=WEB, ready=False, ip="10.246.1.2")], "pod a: is not ready."),
        ([pod("a", node="n1", labels=WEB, ready=True, ip="10.246.1.2")], "pod a: has no port named http"),
        (
            [pod("a", node="n1", labels=WEB, ready=True, ip="10.246.1.2", deletionTimestamp="2026-01-01T00:00:00Z")],
            "pod a: is being deleted, so no new connections go to it",
        ),
    ],
)
def test_a_service_says_why_it_has_no_endpoints(picture, past, pods, sentence):
    picture.put(service("web", WEB, {"port": 80, "protocol": "TCP", "targetPort": "http"}, clusterIP="10.247.0.5"))
    for obj in pods:
        picture.put(obj)
    assert any(line.startswith(sentence) for line in explain(picture.view, past, "services", "default/web"))


def test_a_service_says_who_answers(picture, past):
    a = picture.put(pod("a", node="n1", labels=WEB, ready=True, ip="10.246.1.2"))
    picture.put(service("web", WEB, clusterIP="10.247.0.5"))
    address = {"ip": "10.246.1.2", "targetRef": {"kind": "Pod", "name": "a", "uid": a.metadata.uid}}
    picture.put({"kind": "Endpoints", "metadata": {"name": "web"}, "subsets": [{"addresses": [address], "ports": [{"port": 8080}]}]})
    lines = explain(picture.view, past, "services", "default/web")
    assert "Its virtual address is 10.247.0.5." in lines
    assert "pod a: answers at 10.246.1.2 on n1" in lines


def test_a_fenced_node_names_its_taints_and_the_providers_word(picture, past):
    fence = {"key": "node.kubernetes.io/out-of-service", "value": "boot-b1", "effect": "NoExecute"}
    picture.put(node("n1", ready="False", boot="b1", taints=[fence]))
    event = {"power": "Off", "bootID": "b1", "reason": "its init was killed"}
    picture.put({"kind": "Machine", "metadata": {"name": "n1"}, "spec": {"power": "On"}, "status": {"power": "Off", "lastEvent": event}})
    past.note("node-controller", "nodes/n1", "out of service: its machine is off: its init was killed")
    past.note("machines", "machine/n1", "its init was killed")
    lines = explain(picture.view, past, "nodes", "n1")
    assert "It has the taint node.kubernetes.io/out-of-service=boot-b1:NoExecute." in lines
    assert "Its machine is Off, and wanted On." in lines
    assert any("its init was killed (boot b1)" in line for line in lines)
    assert len([line for line in lines if "ago:" in line]) == 2


def test_without_a_journal_the_events_tell_the_past(picture, past):
    a = picture.put(pod("a", node="n1", ready=True))
    about = {"kind": "Pod", "namespace": "default", "name": "a", "uid": a.metadata.uid}
    told = {"involvedObject": about, "reason": "Scheduled", "message": "Successfully assigned default/a to n1", "count": 1}
    picture.put({"kind": "Event", "metadata": {"name": "a.1"}, **told, "source": {"component": "default-scheduler"}})
    lines = explain(picture.view, past, "pods", "default/a")
    assert lines[-1] == "0s ago: Successfully assigned default/a to n1 (Scheduled) [default-scheduler]"


def certificate_request(name, uid, *conditions):
    spec = {"signerName": "example.com/tests", "podName": "web", "podUID": uid, "nodeName": "minion-1"}
    return {
        "kind": "PodCertificateRequest",
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
        "status": {"conditions": list(conditions)},
    }


def test_a_pod_says_what_its_signers_said(picture, past):
    obj = pod("web")
    obj["spec"]["nodeName"] = "minion-1"
    picture.put(obj)
    uid = picture.view.get("pods", "default/web").metadata.uid
    picture.put(certificate_request("req-0", "another"))
    assert "certificate" not in " ".join(explain(picture.view, past, "pods", "default/web"))
    picture.put(certificate_request("req-1", uid))
    picture.put(certificate_request("req-2", uid, {"type": "Denied", "status": "True", "reason": "NotToday", "message": "on Sundays"}))
    picture.put(certificate_request("req-3", uid, {"type": "Issued", "status": "True", "reason": "Fine"}))
    said = [line for line in explain(picture.view, past, "pods", "default/web") if "certificate" in line]
    assert said == [
        "It waits for a certificate: signer example.com/tests has not answered PodCertificateRequest req-1 since 2026-01-01T00:00:00Z. "
        "Signers are programs that you run.",
        "It gets no certificate: signer example.com/tests answered PodCertificateRequest req-2 with Denied (NotToday): on Sundays",
    ]
    obj["status"]["phase"] = "Running"
    picture.put(obj)
    said = [line for line in explain(picture.view, past, "pods", "default/web") if "certificate" in line]
    assert [line.partition(":")[0] for line in said] == ["Its certificate is to be renewed", "Its certificate is not renewed"]
