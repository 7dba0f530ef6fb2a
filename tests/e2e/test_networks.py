"""The pod networks, one after the other: the same connectivity, whatever carries it, also after harm, a death and a return.

The matrix: from every minion and every pod to every pod, every minion and every Service, with packets of exactly the pods' MTU, and with transfers.
"""

import json
import re
import time
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE, SEED, condition, wait
from tests.e2e.hosts import VIRTUAL

REACH = (Path(__file__).parent / "on_minion" / "reach.py").read_text()
MTUS = {"route": 1500, "vxlan": 1450, "ovs": 1450, "bgp": 1500}
HARM = {
    "route": ["ip route flush proto 246"],
    "vxlan": ["ip link delete labctl-vxlan", "bridge fdb del 0e:6c:0a:f6:02:00 dev labctl-vxlan dst 10.245.1.12 self"],
    "ovs": ["ovs-vsctl del-br obr0", "kill -9 $(cat /run/openvswitch/ovs-vswitchd.pid)"],
    "bgp": ["kill -9 $(cat /run/labctl-bird.pid)", "ip route flush proto bird"],
}
MINIONS = ("minion-1", "minion-2", "minion-3")
BODY_BYTES = 3_000_000
MESH = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {
            "apiVersion": "v1",
            "kind": "ReplicationController",
            "metadata": {"name": "mesh"},
            "spec": {
                "replicas": 4,
                "selector": {"name": "mesh"},
                "template": {
                    "metadata": {"labels": {"name": "mesh"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [
                            {
                                "name": "mesh",
                                "image": "busybox",
                                "command": ["sh", "-c", f"head -c {BODY_BYTES} /dev/zero > /tmp/body; exec httpd -f -p 8080 -h /tmp"],
                                "readinessProbe": {"httpGet": {"path": "/body", "port": 8080}, "periodSeconds": 1},
                            }
                        ],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "mesh"},
            "spec": {"type": "NodePort", "selector": {"name": "mesh"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ],
}


@pytest.fixture(scope="module", params=list(MTUS))
def lab(request, new_cluster, images):
    """Three minions on one kind of network, with the article's controller and Service, and pods that serve something larger."""
    cluster = new_cluster(f"network-{request.param}")
    cluster.network = request.param
    if PATIENCE > 1:
        (cluster.folder / "lab.yml").write_text(f"pods: {{drain_s: {5 * PATIENCE:g}}}\n")
    cluster.labctl("up", "--minions", str(len(MINIONS)), "--memory", "512M", "--network", request.param, timeout_s=600)
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    cluster.kubectl("create", "-f", "-", input=json.dumps(MESH))
    yield cluster
    cluster.destroy()


def addresses(cluster) -> dict:
    nodes = {n["metadata"]["name"]: n for n in cluster.items("nodes") if condition(n, "Ready") == "True"}
    return {name: next(a["address"] for a in n["status"]["addresses"] if a["type"] == "InternalIP") for name, n in nodes.items()}


def unreachable(cluster, places) -> dict:
    """{minion: {place: what failed}} for the minions in `places`; empty when everything reaches everything."""
    pods = [pod["status"]["podIP"] for pod in (*cluster.ready_pods("name=nginx"), *cluster.ready_pods("name=mesh"))]
    port = cluster.get("service", "mesh")["spec"]["ports"][0]["nodePort"]
    urls = [f"http://{cluster.vip('mesh')}/body", *(f"http://{address}:{port}/body" for address in places.values())]
    wanted = {
        "pods": pods,
        "nodes": list(places.values()),
        "urls": urls,
        "mtu": MTUS[cluster.network],
        "body": BODY_BYTES,
        "patience": PATIENCE,
    }
    found = {}
    for minion in places:
        said = json.loads(cluster.on(minion, "python3", "-c", REACH, json.dumps(wanted), timeout_s=120).stdout)
        failed = {place: why for place, why in said.items() if why}
        if failed:
            found[minion] = failed
    return found


def everything_reaches_everything(cluster, minions=MINIONS) -> None:
    wait(lambda: len(cluster.ready_pods("name=nginx")) == 2 and len(cluster.ready_pods("name=mesh")) == 4, "all pods are Ready", 60)
    wait(lambda: not any("deletionTimestamp" in pod["metadata"] for pod in cluster.items("pods")), "none is leaving any more", 40)
    places = wait(lambda: (seen := addresses(cluster)) and set(seen) == set(minions) and seen, "all minions are Ready", 60)
    assert unreachable(cluster, places) == {}


def test_the_networks_are_those_that_labctl_offers(new_cluster):
    said = new_cluster("no-network").labctl("up", "--network", "carrier-pigeon", check=False).stderr
    assert re.search(r"write one of ([a-z, ]+)", said)[1].split(", ") == list(MTUS)


def test_everything_reaches_everything(lab):
    everything_reaches_everything(lab)


def test_the_virtual_ip_is_answered_from_every_minion(lab):
    for minion in MINIONS:
        for _ in range(4):
            assert "Welcome to nginx" in lab.curl(minion, lab.vip())


def test_names_are_answered_in_every_pod(lab):
    for pod in lab.ready_pods("name=mesh"):
        assert "Welcome to nginx" in lab.kubectl("exec", pod["metadata"]["name"], "--", "wget", "-qO-", "http://web-service").stdout


def test_the_switch_is_in_the_kernel_where_that_has_one(lab):
    if lab.network != "ovs":
        pytest.skip(f"{lab.network} has no switch")
    ask = ("minion-1", "ovs-vsctl", "get", "Bridge", "obr0", "datapath_type")
    path = wait(lambda: lab.on(*ask, check=False).stdout.strip(), "the bridge is there", 40)
    has_one = lab.on("minion-1", "test", "-d", "/sys/module/openvswitch", check=False).returncode == 0
    assert has_one or not VIRTUAL, "it loads in a virtual machine"
    flows = lab.on("minion-1", "ovs-appctl", "dpctl/dump-flows", "system@ovs-system", check=False)
    assert (path, flows.returncode == 0) == (("system", True) if has_one else ("netdev", False))


def test_a_network_policy_is_enforced(lab):
    """Whatever carries the packets: only the pod with the label gets in, through the Service and straight."""
    for name, minion in (("friend", "minion-1"), ("stranger", "minion-2")):
        container = {"name": "c", "image": "busybox", "command": ["sleep", "3600"]}
        spec = {"nodeName": minion, "containers": [container], "terminationGracePeriodSeconds": 0}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"role": name}}, "spec": spec}
        lab.kubectl("create", "-f", "-", input=json.dumps(made))
    for name in ("friend", "stranger"):
        wait(lambda n=name: condition(lab.get("pod", n), "Ready") == "True", f"{name} is Ready", 40)
    spec = {
        "podSelector": {"matchLabels": {"name": "nginx"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "friend"}}}]}],
    }
    made = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "friends"}, "spec": spec}
    wait(lambda: len(lab.ready_pods("name=nginx")) == 2, "both pods of the Service are Ready", 60)
    hosts = [lab.vip(), *(pod["status"]["podIP"] for pod in lab.ready_pods("name=nginx"))]

    def gets_in(name):
        asked = [lab.kubectl("exec", name, "--", "timeout", "2", "wget", "-q", "-O", "-", f"http://{host}", check=False) for host in hosts]
        return [done.returncode == 0 for done in asked]

    assert gets_in("stranger") == gets_in("friend") == [True] * len(hosts)
    lab.kubectl("create", "-f", "-", input=json.dumps(made))
    wait(lambda: not any(gets_in("stranger")), "the stranger is kept out", 20)
    assert gets_in("friend") == [True] * len(hosts)
    lab.kubectl("delete", "networkpolicy", "friends")
    wait(lambda: all(gets_in("stranger")), "the stranger gets in again", 20)
    lab.kubectl("delete", "pod", "friend", "stranger")


HELD = "labctl.internal/NetworkReady"


def test_a_new_pod_is_isolated_before_its_first_container(lab):
    """While nobody writes a minion's rules, its pod waits. In its first moment it asks straight and through the Service, and no policy lets it."""
    wait(lambda: len(lab.ready_pods("name=nginx")) == 2, "both pods of the Service are Ready", 60)
    hosts = [lab.vip(), *(pod["status"]["podIP"] for pod in lab.ready_pods("name=nginx"))]
    policy = {"podSelector": {"matchLabels": {"role": "mute"}}, "policyTypes": ["Egress"]}
    made = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "mute"}, "spec": policy}
    lab.kubectl("create", "-f", "-", input=json.dumps(made))
    asks = " && ".join(f"! wget -q -T 1 -O /dev/null http://{host}" for host in hosts)
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", asks]}
    spec = {"nodeName": "minion-1", "containers": [container], "restartPolicy": "Never"}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mute", "labels": {"role": "mute"}}, "spec": spec}
    lab.on("minion-1", "pkill", "-STOP", "-f", "labctl/agent helper")
    try:
        lab.kubectl("create", "-f", "-", input=json.dumps(made))
        wait(lambda: lab.get("pod", "mute")["status"].get("podIP"), "its address is known", 30)
        time.sleep(1.5)  # far more than a container's start takes
        status = lab.get("pod", "mute")["status"]
        assert status["phase"] == "Pending" and condition({"status": status}, HELD) == "False"
        assert "waiting" in status["containerStatuses"][0]["state"]
        assert "It waits to be isolated" in lab.labctl("why", "pod/mute").stdout
    finally:
        lab.on("minion-1", "pkill", "-CONT", "-f", "labctl/agent helper")
    wait(lambda: lab.get("pod", "mute")["status"]["phase"] in ("Succeeded", "Failed"), "it asked", 60)
    status = lab.get("pod", "mute")["status"]
    assert status["phase"] == "Succeeded" and condition({"status": status}, HELD) == "True", lab.kubectl("logs", "mute").stdout
    lab.kubectl("delete", "pod/mute", "networkpolicy/mute")


def test_what_somebody_breaks_is_mended(lab):
    places = addresses(lab)
    for harm in HARM[lab.network]:
        lab.on("minion-1", "sh", "-c", harm)
        wait(lambda: not unreachable(lab, places), f"everything reaches everything again after {harm}", 30)


def test_a_minion_that_died_and_came_back_is_reached_again(lab):
    lab.labctl("fault", "power-off", "minion-2")
    wait(lambda: set(addresses(lab)) == {"minion-1", "minion-3"}, "minion-2 is known to be dead", 15)
    if lab.network == "bgp":
        wait(lambda: "10.246.2." not in lab.on("minion-1", "ip", "route").stdout, "the routes to a silent minion are withdrawn", 10)
    everything_reaches_everything(lab, ("minion-1", "minion-3"))
    lab.labctl("up", "--minions", str(len(MINIONS)))
    lab.kubectl("delete", "pod", "-l", "name=mesh", "--wait=false")  # their replacements are spread, minion-2 included
    wait(lambda: "minion-2" in {pod["spec"]["nodeName"] for pod in lab.ready_pods("name=mesh")}, "minion-2 runs pods again", 60)
    everything_reaches_everything(lab)


def test_nothing_of_a_destroyed_minion_is_left_on_the_others(lab):
    address = addresses(lab)["minion-3"]
    lab.labctl("destroy", "minion-3", "--yes")
    looks = ("ip route show", "bridge fdb show", "ip neighbour show nud permanent")
    left = lambda: [line for look in looks for line in lab.on("minion-1", *look.split()).stdout.splitlines() if _names(line, address)]  # noqa: E731
    wait(lambda: not left(), "nothing names minion-3 any more", 15)
    everything_reaches_everything(lab, ("minion-1", "minion-2"))


def _names(line: str, address: str) -> bool:
    """Whether a route, a neighbour or a forwarding entry is about minion-3."""
    return "10.246.3." in line or "0e:6c:0a:f6:03" in line or address in line.split()
