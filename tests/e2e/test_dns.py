"""Names on real machines: every pod and minion asks the minion it is on, whatever has died elsewhere."""

import json
import os
import signal
import time

import pytest

from tests.e2e.cluster import wait

DOMAIN = "svc.cluster.local"
WEB = "web.default.svc.cluster.local"
NAMED = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: nginx}]}
"""


def client(name, node, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "client"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "10000"]}],
            **spec,
        },
    }


CLIENTS = [
    client("one", "minion-1"),
    client("two", "minion-2"),
    client("host", "minion-1", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
    client("plain", "minion-2", hostNetwork=True),
    client(
        "none",
        "minion-2",
        dnsPolicy="None",
        dnsConfig={"nameservers": ["10.247.0.10"], "searches": [DOMAIN], "options": [{"name": "ndots", "value": "2"}]},
    ),
]


@pytest.fixture(scope="module")
def lab(cluster):
    cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    cluster.kubectl("expose", "deployment", "web", "--port=80")
    cluster.kubectl("apply", "-f", "-", input=NAMED + "---\n" + "\n---\n".join(json.dumps(each) for each in CLIENTS))
    cluster.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s", timeout_s=70)
    cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s", timeout_s=70)
    cluster.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=client", "--timeout=60s", timeout_s=70)
    return cluster


def page(lab, pod, host):
    """Whether nginx answers there; the words of a failure are in the assertion that uses it."""
    return "Welcome to nginx" in fetched(lab, pod, host)


def fetched(lab, pod, host):
    done = lab.kubectl("exec", pod, "--", "timeout", "5", "wget", "-qO-", f"http://{host}", check=False)
    return done.stdout + done.stderr


def looked_up(lab, pod, name):
    return lab.kubectl("exec", pod, "--", "nslookup", name, check=False).stdout


def hosts(lab, minion, name):
    """The addresses that a program on the minion itself finds."""
    return [line.split()[0] for line in lab.on(minion, "getent", "ahostsv4", name, check=False).stdout.splitlines() if "STREAM" in line]


@pytest.mark.parametrize("pod", ["one", "two", "host"])
def test_every_pod_finds_a_service_by_its_names(lab, pod):
    for name in (WEB, "alias.default.svc.cluster.local", "db-1.db.default.svc.cluster.local"):
        assert "Welcome to nginx" in fetched(lab, pod, name), name
    assert page(lab, pod, "web") and page(lab, pod, "web.default") and page(lab, pod, "db-0.db")


def test_a_pod_with_its_own_configuration(lab):
    assert page(lab, "none", "web.default") and not page(lab, "none", "web")
    assert (
        lab.kubectl("exec", "none", "--", "cat", "/etc/resolv.conf").stdout == f"search {DOMAIN}\nnameserver 10.247.0.10\noptions ndots:2\n"
    )


def test_a_pod_in_its_nodes_network_that_does_not_ask_for_names_has_what_the_machine_had(lab):
    assert lab.kubectl("exec", "plain", "--", "cat", "/etc/resolv.conf").stdout.strip() == ""
    assert not page(lab, "plain", "web.default")


def test_resolv_conf_is_as_the_kubelet_writes_it(lab):
    wanted = f"search default.{DOMAIN} {DOMAIN} cluster.local\nnameserver 10.247.0.10\noptions ndots:5\n"
    for pod in ("one", "two", "host"):
        assert lab.kubectl("exec", pod, "--", "cat", "/etc/resolv.conf").stdout == wanted


def test_minions_find_names_too(lab):
    for minion in ("minion-1", "minion-2"):
        assert hosts(lab, minion, WEB) == [lab.vip("web")]
        assert hosts(lab, minion, "nobody.default.svc.cluster.local") == []


def test_records_of_a_stateful_set(lab):
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in lab.items("pods", "-l", "app=db")}
    for pod in ("one", "two"):
        said = looked_up(lab, pod, "db.default.svc.cluster.local")
        assert all(address in said for address in addresses.values()), said
        for name, address in addresses.items():
            assert address in looked_up(lab, pod, f"{name}.db.default.svc.cluster.local")
            assert f"{name}.db.default.svc.cluster.local" in looked_up(lab, pod, address)
    assert "10.246.1.7" in looked_up(lab, "one", "10-246-1-7.default.pod.cluster.local")
    assert "NXDOMAIN" in looked_up(lab, "one", "db-7.db.default.svc.cluster.local")


def test_people_see_it(lab):
    service = lab.get("service", "kube-dns", "-n", "kube-system")
    assert service["spec"]["clusterIP"] == "10.247.0.10"
    (piece,) = lab.items("endpointslices", "-n", "kube-system", "-l", "kubernetes.io/service-name=kube-dns")
    assert sorted(each["nodeName"] for each in piece["endpoints"]) == ["minion-1", "minion-2"]


def test_names_come_and_go_with_their_services(lab):
    lab.kubectl("create", "service", "clusterip", "brief", "--tcp=80:80")
    wait(lambda: all(hosts(lab, minion, f"brief.default.{DOMAIN}") for minion in ("minion-1", "minion-2")), "the name is there", 5)
    lab.kubectl("delete", "service", "brief")
    wait(lambda: not any(hosts(lab, minion, f"brief.default.{DOMAIN}") for minion in ("minion-1", "minion-2")), "the name is gone", 5)


def server_on(lab, minion):
    return lab.on(minion, "pgrep", "labctl-dns", check=False).stdout.strip()


def test_a_server_that_is_killed_is_started_again(lab):
    before = server_on(lab, "minion-1")
    lab.on("minion-1", "kill", "-9", before)
    assert hosts(lab, "minion-2", WEB)
    wait(lambda: server_on(lab, "minion-1") not in ("", before) and hosts(lab, "minion-1", WEB), "it answers again", 10)


def test_names_need_no_master(lab):
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    try:
        for minion in ("minion-1", "minion-2"):
            assert hosts(lab, minion, WEB)
        before = server_on(lab, "minion-2")
        time.sleep(1.1)  # what was told last is on the disk
        lab.on("minion-2", "kill", "-9", before)
        wait(lambda: server_on(lab, "minion-2") not in ("", before) and hosts(lab, "minion-2", WEB), "the agent started it again", 20)
    finally:
        lab.labctl("up")
    lab.kubectl("create", "service", "clusterip", "after", "--tcp=80:80")
    wait(lambda: all(hosts(lab, minion, f"after.default.{DOMAIN}") for minion in ("minion-1", "minion-2")), "the new master tells them", 10)


def test_a_minions_death_takes_no_name_from_others(lab):
    lab.labctl("fault", "power-off", "minion-2")
    try:
        for _ in range(20):
            assert hosts(lab, "minion-1", WEB) and lab.vip("web") in looked_up(lab, "one", WEB)
    finally:
        lab.labctl("up")
    wait(lambda: hosts(lab, "minion-2", WEB), "the minion that came back answers", 20)
