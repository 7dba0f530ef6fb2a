"""Pods, as people meet them with the unmodified kubectl: looked into with `debug`, measured with `top`, scaled by what they use, reached from outside."""

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import time

from tests.e2e.cluster import PATIENCE, wait
from tests.e2e.test_workloads import made, pod, running  # noqa: F401 - made is a fixture

BURNS = "while true; do :; done"


def typed(cluster, *words, lines, timeout_s=40.0):
    """Runs kubectl on a terminal, types the lines when it has begun to show something, and returns all that was shown until its end."""
    near, far = pty.openpty()
    environment = {**cluster.environment, "KUBECONFIG": str(cluster.folder / ".labctl" / "kubeconfig"), "TERM": "dumb"}
    process = subprocess.Popen(["kubectl", *words], stdin=far, stdout=far, stderr=far, env=environment, start_new_session=True)
    os.close(far)
    shown, end, waiting = b"", time.monotonic() + timeout_s * PATIENCE, list(lines)
    try:
        while time.monotonic() < end:
            if select.select([near], [], [], 0.2)[0]:
                try:
                    piece = os.read(near, 65536)
                except OSError:  # nobody holds the other end any more
                    break
                shown += piece
            if waiting and re.search(rb"# (\x1b\[[0-9;]*[A-Za-z])*\Z", shown):  # a shell's prompt
                os.write(near, waiting.pop(0).encode() + b"\n")
                shown += b"\n"
            elif process.poll() is not None and not select.select([near], [], [], 0)[0]:
                break
        assert process.poll() is not None or process.wait(5) is not None
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{words} did not end: {shown.decode(errors='replace')}") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(near)
    return shown.decode(errors="replace")


def test_a_debugger_sees_its_targets_processes(cluster, made):  # noqa: F811
    made(pod("web", "sleep", "12345"))
    running(cluster, "web")
    shown = typed(
        cluster,
        "debug",
        "web",
        "-it",
        "--image=busybox",
        "--target=main",
        "-c",
        "looker",
        "--",
        "sh",
        lines=["ps", "echo its-$((6*7))", "exit"],
    )
    assert "sleep 12345" in shown and "its-42" in shown, shown
    wait(lambda: "terminated" in cluster.get("pod", "web")["status"]["ephemeralContainerStatuses"][0]["state"], "it ended")
    assert "its-42" in cluster.kubectl("logs", "web", "-c", "looker").stdout
    status = cluster.get("pod", "web")["status"]
    assert status["phase"] == "Running" and status["containerStatuses"][0]["restartCount"] == 0
    assert status["ephemeralContainerStatuses"][0]["restartCount"] == 0

    cluster.kubectl("debug", "web", "--image=busybox", "-c", "stays", "--", "sleep", "54321")
    wait(lambda: "running" in cluster.get("pod", "web")["status"]["ephemeralContainerStatuses"][1]["state"], "the second runs")
    assert cluster.kubectl("exec", "web", "-c", "stays", "--", "echo", "hello").stdout == "hello\n"
    refused = cluster.kubectl("debug", "web", "--image=busybox", "-c", "lost", "--target=nobody", check=False)
    assert 'Not found: "nobody"' in refused.stderr, refused


def test_a_machine_is_looked_into_from_a_pod(cluster, made):  # noqa: F811
    shown = typed(
        cluster, "debug", "node/minion-1", "-it", "--image=busybox", lines=["chroot /host cat /etc/hostname", "ps", "hostname", "exit"]
    )
    assert "minion-1" in shown and "sshd" in shown and "conmon" in shown, shown


def test_a_job_with_a_sidecar_completes(cluster, made):  # noqa: F811
    probe = {"exec": {"command": ["test", "-f", "/tmp/up"]}, "periodSeconds": 1}
    up = "sleep 1; touch /tmp/up; trap 'echo ended; exit 0' TERM; while true; do sleep 0.1; done"
    proxy = {"name": "proxy", "image": "busybox", "command": ["sh", "-c", up], "restartPolicy": "Always", "startupProbe": probe}
    template = pod("ignored", "sh", "-c", "echo work; exit 0", restartPolicy="Never", initContainers=[proxy])
    del template["metadata"], template["apiVersion"], template["kind"]
    made({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": {"template": template}})
    cluster.kubectl("wait", "--for=condition=complete", "--timeout=30s", "job/work")
    [done] = cluster.items("pods", "-l", "job-name=work")
    assert done["status"]["phase"] == "Succeeded"
    assert cluster.kubectl("logs", done["metadata"]["name"], "-c", "proxy").stdout == "ended\n", "its end was asked for"
    cluster.kubectl("delete", "job", "work")


def test_containers_of_a_pod_may_see_each_others_processes(cluster, made):  # noqa: F811
    both = pod("both", "sleep", "11111", shareProcessNamespace=True)
    both["spec"]["containers"].append({"name": "other", "image": "busybox", "command": ["sleep", "22222"]})
    made(both)
    running(cluster, "both")
    shown = cluster.kubectl("exec", "both", "-c", "other", "--", "ps").stdout
    assert "sleep 11111" in shown and "sleep 22222" in shown
    cluster.kubectl("delete", "pod", "both", "--wait=true", "--grace-period=1")
    left = cluster.on(both_on := "minion-1", "sh", "-c", "ps ax | grep -c '[s]leep infinity' || true").stdout
    assert left.strip() == "0", (both_on, left)


def test_top_shows_who_burns(cluster, made):  # noqa: F811
    made(pod("burns", "sh", "-c", BURNS, container={"resources": {"limits": {"cpu": "100m"}}}), pod("sleeps", "sleep", "1000"))
    running(cluster, "burns")
    running(cluster, "sleeps")

    def rows():
        shown = cluster.kubectl("top", "pods", "--containers", "--no-headers", check=False)
        return {line.split()[0]: line.split() for line in shown.stdout.splitlines()}

    seen = wait(lambda: (found := rows()).keys() >= {"burns", "sleeps"} and found, "both have a reading")
    assert seen["burns"][1] == "main" and 50 <= int(seen["burns"][2].removesuffix("m")) <= 150, seen
    assert int(seen["sleeps"][2].removesuffix("m")) <= 5 and int(seen["sleeps"][3].removesuffix("Mi")) < 50, seen
    nodes = cluster.kubectl("top", "nodes").stdout
    assert "minion-1" in nodes and "minion-2" in nodes and "<unknown>" not in nodes, nodes


def test_a_nodes_figures_are_there_as_a_kubelet_gives_them(cluster, made):  # noqa: F811
    """The same figures as a summary and as samples, from the machine's own control groups; its pods, its health, a container's log."""
    made(pod("burns", "sh", "-c", f"echo began; {BURNS}"))
    running(cluster, "burns")
    node = cluster.get("pod", "burns")["spec"]["nodeName"]

    def asked(path):
        return cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/{path}").stdout

    def summed():
        pods = json.loads(asked("stats/summary"))["pods"]
        return next((each for each in pods if each["podRef"]["name"] == "burns"), None)

    assert asked("healthz") == "ok"
    assert "burns" in [each["metadata"]["name"] for each in json.loads(asked("pods"))["items"]]
    assert asked("containerLogs/default/burns/main") == "began\n"
    first = wait(summed, "the machine tells of the pod", 60)
    assert first["cpu"]["usageNanoCores"] > 10_000_000 and first["memory"]["workingSetBytes"] > 0
    began = first["cpu"]["usageCoreNanoSeconds"]
    assert began > 0
    sample = re.compile(r'container_cpu_usage_seconds_total\{.*pod="burns".*\} (\S+) ')

    def used(path):
        found = [float(each) for each in sample.findall(asked(path))]
        return max(found, default=0.0) * 1e9 > began

    for path in ("metrics/resource", "metrics/cadvisor"):
        wait(lambda path=path: used(path), f"{path} counts on", 60)


def test_a_deployment_that_burns_grows(cluster):
    cluster.kubectl("create", "deployment", "burner", "--image=busybox", "--", "sh", "-c", BURNS)
    cluster.kubectl("set", "resources", "deployment/burner", "--requests=cpu=50m", "--limits=cpu=100m")
    cluster.kubectl("rollout", "status", "deployment/burner", "--timeout=60s")
    made_ = cluster.kubectl("autoscale", "deployment", "burner", "--min=1", "--max=2", "--cpu=80%")
    assert made_.stdout == "horizontalpodautoscaler.autoscaling/burner autoscaled\n"
    try:
        wait(lambda: cluster.get("deployment", "burner")["spec"]["replicas"] == 2, "it grew", 60)
        wait(
            lambda: "SuccessfulRescale" in cluster.kubectl("describe", "hpa", "burner").stdout,
            "its Event, which is written after the replicas",
        )
    finally:
        cluster.kubectl("delete", "hpa,deployment", "burner")


def test_a_load_balancers_address_outlives_the_minion_that_answers_it(cluster):
    """The last of this file: a minion loses its power."""
    cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    cluster.kubectl("expose", "deployment", "web", "--port=80", "--type=LoadBalancer")
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    ingress = wait(lambda: cluster.get("service", "web")["status"]["loadBalancer"].get("ingress"), "it has an address")
    address = ingress[0]["ip"]
    assert address in cluster.kubectl("get", "service", "web").stdout

    def holders():
        minions = ("minion-1", "minion-2")
        return [each for each in minions if f" {address}/32" in cluster.on(each, "ip", "-4", "address", "show", check=False).stdout]

    [first] = wait(holders, "a minion answers it")
    for minion in ("minion-1", "minion-2"):
        assert "nginx" in cluster.curl(minion, f"http://{address}/")
    bound = f"{3 * PATIENCE:g}s"
    words = ["measure", f"http://{address}/", "--from", "host", "--rate", "50", "--for", "8s", "--max-outage", bound, "-o", "json"]
    argv = [sys.executable, "-m", "labctl", *words]
    pipe = subprocess.PIPE
    client = subprocess.Popen(argv, cwd=cluster.folder, env=cluster.environment, stdout=pipe, stderr=pipe, text=True)
    time.sleep(4 * PATIENCE)  # it measures for a while before
    cluster.labctl("fault", "power-off", first)
    out, err = client.communicate(timeout=60 * PATIENCE)
    print(out)
    assert client.returncode == 0, (out, err)
    assert holders() != [first]
