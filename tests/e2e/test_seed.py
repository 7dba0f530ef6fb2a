"""The scenario that started this project, command by command: a replication controller, a Service, a virtual IP that balances and heals."""

import json
import re

import pytest

from tests.e2e.cluster import PATIENCE, SEED, condition, requests, wait


@pytest.fixture(scope="module")
def seeded(cluster):
    """Steps 3 and 7: the controller and the Service, created from the article's own files."""
    said = cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml")).stdout
    assert said == "replicationcontroller/nginx-controller created\n"
    said = cluster.kubectl("create", "-f", str(SEED / "nginx-service.yml")).stdout
    assert said == "service/web-service created\n"
    wait(lambda: len(cluster.ready_pods()) == 2, "two pods are Ready")
    return cluster


def table(text):
    """A kubectl table as a list of dicts."""
    head, *rows = text.rstrip("\n").split("\n")
    columns = [(m.group(), m.start()) for m in re.finditer(r"\S+(?: \S+)*", head)]
    ends = [start for _, start in columns[1:]] + [None]
    return [{name: row[start:end].strip() for (name, start), end in zip(columns, ends, strict=True)} for row in rows]


def test_two_nodes_are_ready_and_labelled(cluster):
    rows = table(cluster.kubectl("get", "nodes", "--show-labels").stdout)
    assert [row["NAME"] for row in rows] == ["minion-1", "minion-2"]
    assert [row["STATUS"] for row in rows] == ["Ready", "Ready"]
    assert all(f"kubernetes.io/hostname={row['NAME']}" in row["LABELS"] for row in rows)


def test_the_controller_shows_what_it_wants(seeded):
    (row,) = table(seeded.kubectl("get", "replicationcontrollers", "-o", "wide").stdout)
    assert {k: row[k] for k in ("NAME", "DESIRED", "CURRENT", "READY")} == {
        "NAME": "nginx-controller", "DESIRED": "2", "CURRENT": "2", "READY": "2",
    }  # fmt: skip
    assert (row["CONTAINERS"], row["IMAGES"], row["SELECTOR"]) == ("nginx", "nginx", "name=nginx")
    assert table(seeded.kubectl("get", "rc").stdout)[0]["NAME"] == "nginx-controller"


def test_the_pods_are_spread_and_have_addresses_of_their_own(seeded):
    rows = table(seeded.kubectl("get", "po", "-o", "wide").stdout)
    assert all(re.fullmatch(r"nginx-controller-[bcdfghjklmnpqrstvwxz2456789]{5}", row["NAME"]) for row in rows)
    assert all((row["READY"], row["STATUS"], row["RESTARTS"]) == ("1/1", "Running", "0") for row in rows)
    assert {row["NODE"] for row in rows} == {"minion-1", "minion-2"}
    for row in rows:
        third = row["NODE"].rpartition("-")[2]
        assert re.fullmatch(rf"10\.246\.{third}\.\d+", row["IP"])


def test_every_pod_answers_every_minion_and_every_pod(seeded):
    addresses = [pod["status"]["podIP"] for pod in seeded.ready_pods()]
    for minion in ("minion-1", "minion-2"):
        for address in addresses:
            assert "Welcome to nginx" in seeded.curl(minion, address)


def test_the_service_has_a_virtual_ip_and_answers_to_the_articles_short_name(seeded):
    rows = table(seeded.kubectl("get", "se", "-o", "wide").stdout)
    web = next(row for row in rows if row["NAME"] == "web-service")
    assert (web["TYPE"], web["PORT(S)"], web["SELECTOR"]) == ("ClusterIP", "80/TCP", "name=nginx")
    assert re.fullmatch(r"10\.247\.\d+\.\d+", web["CLUSTER-IP"])
    endpoints = seeded.get("endpoints", "web-service")["subsets"][0]
    assert {a["ip"] for a in endpoints["addresses"]} == {pod["status"]["podIP"] for pod in seeded.ready_pods()}


def test_curl_of_the_virtual_ip_is_answered_by_both_pods_from_every_minion(seeded):
    for minion in ("minion-1", "minion-2"):
        assert "Welcome to nginx" in seeded.labctl("ssh", minion, "--", "curl", "-q", "-s", seeded.vip()).stdout
    asked_of = {
        pod["metadata"]["name"]: seeded.kubectl("logs", pod["metadata"]["name"]).stdout.count("GET / ") for pod in seeded.ready_pods()
    }
    asking = f"for i in $(seq 40); do curl -q -s -S --max-time 5 -o /dev/null http://{seeded.vip()} || exit 1; done"
    seeded.on("minion-2", "sh", "-c", asking)
    for name, before in asked_of.items():
        after = seeded.kubectl("logs", name).stdout.count("GET / ")
        assert after > before, f"{name} was never asked"


def test_a_pod_reaches_the_virtual_ip(seeded):
    for node in ("minion-1", "minion-2"):
        name = f"asker-{node}"
        spec = json.dumps({"spec": {"nodeName": node}})
        seeded.kubectl("run", name, "--image=busybox", f"--overrides={spec}", "--", "sleep", "600")
        wait(lambda n=name: condition(seeded.get("pod", n), "Ready") == "True", "the asking pod runs")
        for _ in range(4):
            assert "Welcome to nginx" in seeded.kubectl("exec", name, "--", "wget", "-q", "-O", "-", f"http://{seeded.vip()}").stdout
        seeded.kubectl("delete", "pod", name, "--now", "--wait=false")


def test_a_pod_reaches_itself_through_its_own_virtual_ip(seeded):
    seeded.kubectl(
        "run", "mirror", "--image=busybox", "--port=8080", "--", "sh", "-c", "echo hairpin > /tmp/x; exec httpd -f -p 8080 -h /tmp"
    )
    seeded.kubectl("expose", "pod", "mirror", "--port=80", "--target-port=8080")
    wait(lambda: condition(seeded.get("pod", "mirror"), "Ready") == "True", "the pod runs")
    url = f"http://{seeded.vip('mirror')}/x"
    wait(lambda: seeded.kubectl("exec", "mirror", "--", "wget", "-q", "-O", "-", url).stdout == "hairpin\n", "it answers itself")
    seeded.kubectl("delete", "pod,svc", "mirror", "--now")  # and gone: the next scenario counts pods


def test_labels_and_selectors_query_the_cluster(seeded):
    assert len(seeded.items("pods", "-l", "name=nginx")) == 2
    assert len(seeded.items("pods", "-l", "name in (nginx, apache)")) == 2
    assert seeded.items("pods", "-l", "name notin (nginx)") == []
    assert seeded.items("pods", "-l", "!name") == []
    assert len(seeded.items("pods", "--field-selector", "spec.nodeName=minion-1")) == 1


def test_a_failing_container_is_restarted_where_it_is(seeded):
    pod = seeded.ready_pods()[0]
    name, node, address = pod["metadata"]["name"], pod["spec"]["nodeName"], pod["status"]["podIP"]
    seeded.kubectl("exec", name, "--", "nginx", "-s", "stop", check=False)

    def restarted():
        now = seeded.get("pod", name)
        status = now["status"]["containerStatuses"][0]
        return status["restartCount"] == 1 and status["ready"] and now["status"]["podIP"] == address and now["spec"]["nodeName"] == node

    wait(restarted, "the container was restarted in its pod", 30)


def asked_first(cluster):
    """From here on new pods are Ready when they answer. Without a probe they are Ready before nginx listens: a slow machine's requests meet that gap."""
    if PATIENCE > 1:
        probe = {"httpGet": {"port": 80}, "periodSeconds": 1, "timeoutSeconds": 5}
        template = {"spec": {"containers": [{"name": "nginx", "readinessProbe": probe}]}}
        cluster.kubectl("patch", "rc", "nginx-controller", "--patch", json.dumps({"spec": {"template": template}}))


def test_a_deleted_pod_is_replaced_and_nobody_notices(seeded):
    before = {pod["metadata"]["name"] for pod in seeded.ready_pods()}
    asked_first(seeded)
    with requests(seeded, "minion-2", seeded.vip()) as result:
        seeded.kubectl("delete", "pod", min(before))
        wait(lambda: len(seeded.ready_pods()) == 2 and {p["metadata"]["name"] for p in seeded.ready_pods()} != before, "it was replaced")
    assert result["failed"] == 0, str(result)


def test_scaling_up_and_down_fails_no_request(seeded):
    vip = seeded.vip()
    with requests(seeded, "minion-1", vip) as result:
        for replicas in (4, 1, 3, 2):
            seeded.kubectl("scale", "rc", "nginx-controller", f"--replicas={replicas}")
            wait(lambda n=replicas: len(seeded.ready_pods()) == n == len(seeded.items("pods", "-l", "name=nginx")), f"{replicas} pods", 60)
    assert result["failed"] == 0, str(result)
    assert seeded.vip() == vip


def test_a_matching_pod_that_appears_makes_one_too_many(seeded):
    seeded.kubectl("run", "stranger", "--image=nginx", "--labels=name=nginx")
    wait(lambda: len(seeded.pods()) == 2 and len(seeded.items("pods", "-l", "name=nginx")) == 2, "the surplus was killed", 20)


def test_a_drained_node_is_left_without_a_failed_request(seeded):
    with requests(seeded, "minion-1", seeded.vip()) as result:
        seeded.kubectl("drain", "minion-1", "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=60s", timeout_s=90)
        wait(lambda: {p["spec"]["nodeName"] for p in seeded.ready_pods()} == {"minion-2"} and len(seeded.ready_pods()) == 2, "both moved")
    assert result["failed"] == 0, str(result)
    seeded.kubectl("uncordon", "minion-1")


def test_a_minion_that_loses_power_loses_no_service(seeded):
    seeded.kubectl("scale", "rc", "nginx-controller", "--replicas=4")
    wait(lambda: {p["spec"]["nodeName"] for p in seeded.ready_pods()} == {"minion-1", "minion-2"}, "both minions have pods", 60)
    with requests(seeded, "minion-2", seeded.vip()) as result:
        seeded.labctl("fault", "power-off", "minion-1")
        wait(lambda: [p["spec"]["nodeName"] for p in seeded.ready_pods()] == ["minion-2"] * 4, "all four run on minion-2", 30)
    assert result["longest_ms"] < 3000 * PATIENCE, str(result)
    assert condition(seeded.get("node", "minion-1"), "Ready") != "True"
    assert "its power was cut" in seeded.labctl("why", "node/minion-1").stdout


def test_the_minion_comes_back_and_is_used_again(seeded):
    seeded.labctl("up")
    wait(lambda: condition(seeded.get("node", "minion-1"), "Ready") == "True", "minion-1 is Ready again", 30)
    wait(lambda: not seeded.get("node", "minion-1")["spec"].get("taints"), "its taints are gone", 15)
    seeded.kubectl("scale", "rc", "nginx-controller", "--replicas=6")
    wait(lambda: "minion-1" in {p["spec"]["nodeName"] for p in seeded.ready_pods()}, "minion-1 runs pods again", 30)
    assert "Welcome to nginx" in seeded.curl("minion-1", seeded.vip())
