"""Services in all their forms, from minions and from pods, in both proxy modes."""

import json
import os
import shlex
import signal

import pytest

from tests.e2e.cluster import condition, requests, wait


@pytest.fixture(scope="module", params=["iptables", "userspace"])
def cluster(request, new_cluster, images):
    cluster = new_cluster(f"services-{request.param}")
    cluster.labctl("up", "--minions", "2", "--proxy-mode", request.param, timeout_s=600)
    for i, node in enumerate(("minion-1", "minion-2", "minion-2")):
        container = {"name": "web", "image": "serve-hostname", "ports": [{"containerPort": 9376, "name": "names"}]}
        spec = {"containers": [container], "nodeName": node}
        create(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"web-{i}", "labels": {"app": "web"}}, "spec": spec})
    create(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": {
        "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "3600"]}]}})  # fmt: skip
    for name in ("web-0", "web-1", "web-2", "client"):
        wait(lambda n=name: condition(cluster.get("pod", n), "Ready") == "True", f"{name} is Ready", 40)
    yield cluster
    cluster.destroy()


def create(cluster, thing):
    cluster.kubectl("create", "-f", "-", input=json.dumps(thing))


def service(cluster, name, ports=None, **spec):
    ports = ports or [{"port": 80, "targetPort": "names"}]
    create(
        cluster,
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "web"}, "ports": ports, **spec}},
    )
    return cluster.get("service", name)["spec"]


def answers(cluster, minion, url, count=24):
    """Who answered."""
    script = f"for i in $(seq {count}); do curl -q -s --max-time 3 {url} || echo FAILED; echo; done"
    return {line for line in cluster.on(minion, "sh", "-c", script).stdout.split() if line}


CURL_COULD_NOT_CONNECT = 7
ALL = {"web-0", "web-1", "web-2"}


def test_every_endpoint_answers_from_every_minion_and_from_pods(cluster):
    vip = service(cluster, "plain")["clusterIP"]
    for minion in ("minion-1", "minion-2"):
        wait(lambda m=minion: answers(cluster, m, f"http://{vip}") == ALL, f"all answer {minion}")
    script = f"for i in $(seq 24); do wget -q -O - http://{vip}; echo; done"
    assert set(cluster.kubectl("exec", "client", "--", "sh", "-c", script).stdout.split()) == ALL


def test_clients_prefer_endpoints_of_their_node_and_zone(cluster):
    vip = service(cluster, "near", trafficDistribution="PreferSameNode")["clusterIP"]
    wait(lambda: answers(cluster, "minion-1", f"http://{vip}") == {"web-0"}, "its own answers minion-1")
    wait(lambda: answers(cluster, "minion-2", f"http://{vip}") == ALL - {"web-0"}, "its own answer minion-2")
    cluster.kubectl("patch", "service", "near", "-p", '{"spec": {"trafficDistribution": "PreferSameZone"}}')
    wait(lambda: answers(cluster, "minion-1", f"http://{vip}") == ALL, "nobody knows of zones")
    for minion in ("minion-1", "minion-2"):
        cluster.kubectl("label", "node", minion, f"topology.kubernetes.io/zone=of-{minion}")
    wait(lambda: answers(cluster, "minion-1", f"http://{vip}") == {"web-0"}, "its zone answers minion-1")
    cluster.kubectl("label", "node", "minion-1", "minion-2", "topology.kubernetes.io/zone-")
    wait(lambda: answers(cluster, "minion-1", f"http://{vip}") == ALL, "they know no more")


def test_several_ports(cluster):
    spec = service(cluster, "ports", [{"name": "a", "port": 80, "targetPort": "names"}, {"name": "b", "port": 8080, "targetPort": 9376}])
    for port in (80, 8080):
        wait(lambda p=port: answers(cluster, "minion-1", f"http://{spec['clusterIP']}:{p}") == ALL, f"port {port}")


def test_no_endpoint_is_refused_at_once(cluster):
    vip = service(cluster, "empty", selector={"app": "nobody"})["clusterIP"]

    def refused():
        said = cluster.on("minion-1", "curl", "-q", "-s", "-S", "--max-time", "5", "-w", "%{time_total}", f"http://{vip}", check=False)
        return said.returncode == CURL_COULD_NOT_CONNECT and float(said.stdout) < 0.5

    wait(refused, "a clear reject")


def test_client_affinity(cluster):
    vip = service(cluster, "sticky", sessionAffinity="ClientIP")["clusterIP"]
    wait(lambda: len(answers(cluster, "minion-1", f"http://{vip}") & ALL) == 1, "one client, one pod")
    assert len(answers(cluster, "minion-1", f"http://{vip}", 30)) == 1


def test_node_ports_and_external_addresses(cluster):
    spec = service(cluster, "outside", type="NodePort", externalIPs=["10.245.1.100"])
    port = spec["ports"][0]["nodePort"]
    for address in ("10.245.1.11", "10.245.1.12"):
        wait(lambda a=address: answers(cluster, "minion-1", f"http://{a}:{port}") == ALL, f"{address}:{port}")
    cluster.on("minion-1", "ip", "route", "replace", "10.245.1.100", "via", "10.245.1.12")
    wait(lambda: answers(cluster, "minion-1", "http://10.245.1.100:80") == ALL, "the external address")


def test_the_last_pod_answers_until_it_ends(cluster):
    """Scaled to nothing, a pod with a long preStop goes on answering: no endpoint is better (KEP-1669)."""
    labels = {"app": "last"}
    stopping = {"preStop": {"exec": {"command": ["sleep", "6"]}}}
    container = {"name": "web", "image": "serve-hostname", "ports": [{"containerPort": 9376, "name": "names"}], "lifecycle": stopping}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    create(cluster, {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "last"}, "spec": {
        "replicas": 1, "selector": labels, "template": template}})  # fmt: skip
    vip = service(cluster, "last", selector=labels)["clusterIP"]
    wait(lambda: "FAILED" not in answers(cluster, "minion-1", f"http://{vip}", 1), "it answers", 40)
    cluster.kubectl("scale", "rc/last", "--replicas", "0")

    def conditions():
        slices = cluster.get("endpointslices", "-l", "kubernetes.io/service-name=last")["items"]
        return [endpoint["conditions"] for one in slices for endpoint in one.get("endpoints") or ()]

    wait(lambda: conditions() == [{"ready": False, "serving": True, "terminating": True}], "it is leaving and serves", 5)
    assert "FAILED" not in answers(cluster, "minion-2", f"http://{vip}", 12)
    wait(lambda: not conditions(), "it is gone", 30)
    assert answers(cluster, "minion-1", f"http://{vip}", 1) == {"FAILED"}
    cluster.kubectl("delete", "rc/last", "service/last")


def test_a_host_port_leads_to_its_pod_from_everywhere(cluster):
    port = {"containerPort": 9376, "hostPort": 8088}
    create(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hosted"}, "spec": {
        "nodeName": "minion-2", "containers": [{"name": "web", "image": "serve-hostname", "ports": [port]}]}})  # fmt: skip
    wait(lambda: condition(cluster.get("pod", "hosted"), "Ready") == "True", "the pod is Ready", 40)
    address = cluster.get("pod", "hosted")["status"]["hostIP"]
    wait(lambda: answers(cluster, "minion-1", f"http://{address}:8088", 1) == {"hosted"}, "another minion is answered", 5)
    assert answers(cluster, "minion-2", f"http://{address}:8088", 2) == {"hosted"}
    assert answers(cluster, "minion-2", "http://127.0.0.1:8088", 2) == {"hosted"}
    assert cluster.kubectl("exec", "client", "--", "wget", "-q", "-O", "-", f"http://{address}:8088").stdout.strip() == "hosted"
    cluster.kubectl("delete", "pod/hosted")
    assert answers(cluster, "minion-1", f"http://{address}:8088", 1) == {"FAILED"}


def test_headless_has_no_address_but_endpoints(cluster):
    assert service(cluster, "headless", clusterIP="None")["clusterIP"] == "None"
    wait(lambda: len(cluster.get("endpoints", "headless").get("subsets", [{}])[0].get("addresses", [])) == 3, "its endpoints")


def test_udp_through_endpoints_that_somebody_wrote_by_hand(cluster):
    serve = "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('',5353))\nwhile True:\n m,a=s.recvfrom(99);s.sendto(b'pong',a)"
    cluster.on("minion-2", "sh", "-c", f"python3 -c {shlex.quote(serve)} >/dev/null 2>&1 &")
    create(
        cluster, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "udp"}, "spec": {"ports": [{"port": 53, "protocol": "UDP"}]}}
    )
    subset = {"addresses": [{"ip": "10.245.1.12"}], "ports": [{"port": 5353, "protocol": "UDP"}]}
    create(cluster, {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "udp"}, "subsets": [subset]})
    vip = cluster.vip("udp")
    ask = f"import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(1);s.sendto(b'ping',('{vip}',53));print(s.recv(9))"
    wait(lambda: "pong" in cluster.on("minion-1", "python3", "-c", ask, check=False).stdout, "a datagram comes back", 30)


def test_flushed_rules_are_repaired(cluster):
    vip = service(cluster, "flushed")["clusterIP"]
    wait(lambda: answers(cluster, "minion-1", f"http://{vip}") == ALL, "it works")
    cluster.on("minion-1", "iptables", "-t", "nat", "-F")
    wait(lambda: answers(cluster, "minion-1", f"http://{vip}") == ALL, "it works again", 15)


def test_the_api_shows_the_service_in_a_browser(cluster):
    service(cluster, "browsed")
    said = wait(
        lambda: cluster.kubectl("get", "--raw", "/api/v1/namespaces/default/services/browsed/proxy/", check=False).stdout, "it answers"
    )
    assert said.strip() in ALL


def test_a_deleted_service_leaves_no_rule(cluster):
    vip = service(cluster, "brief")["clusterIP"]
    wait(lambda: vip in cluster.on("minion-1", "iptables-save").stdout, "its rules are there")
    cluster.kubectl("delete", "service", "brief")
    wait(lambda: vip not in cluster.on("minion-1", "iptables-save").stdout, "its rules are gone")


def test_a_restart_of_agent_and_master_fails_no_request(cluster):
    vip = service(cluster, "steady")["clusterIP"]
    wait(lambda: answers(cluster, "minion-1", f"http://{vip}") == ALL, "it works")
    with requests(cluster, "minion-1", vip) as result:
        for minion in ("minion-1", "minion-2"):
            cluster.on(minion, "pkill", "-9", "-f", "/opt/labctl/agent run")
        os.kill(cluster.status()["master"]["pid"], signal.SIGKILL)
        cluster.labctl("up")
    assert result["failed"] == 0, str(result)
