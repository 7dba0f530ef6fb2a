"""What a pod may ask for, and gets: restarts, environment, volumes, limits, probes, logs, exec, attach, cp, port-forward."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from tests.e2e.cluster import PATIENCE, condition, wait


def pod(name, *command, image="busybox", container=None, **spec):
    main = {"name": "main", "image": image, **(container or {})}
    if command:
        main["command"] = list(command)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [main], **spec}}


@pytest.fixture
def made(cluster):
    """A function that creates objects; everything is removed afterwards."""

    def make(*objects):
        for thing in objects:
            cluster.kubectl("create", "-f", "-", input=json.dumps(thing))

    yield make
    cluster.clear()


def state(cluster, name):
    return cluster.get("pod", name)["status"].get("containerStatuses", [{}])[0]


def running(cluster, name):
    return wait(lambda: condition(cluster.get("pod", name), "Ready") == "True", f"{name} is Ready", 30)


def phase(cluster, name, wanted, timeout_s=30):
    return wait(lambda: cluster.get("pod", name)["status"].get("phase") == wanted, f"{name} is {wanted}", timeout_s)


def test_restart_policies(cluster, made):
    made(
        pod("never", "sh", "-c", "exit 3", restartPolicy="Never"),
        pod("onfailure", "sh", "-c", "exit 0", restartPolicy="OnFailure"),
        pod("always", "sh", "-c", "exit 4"),
    )
    phase(cluster, "never", "Failed")
    assert state(cluster, "never")["state"]["terminated"]["exitCode"] == 3
    phase(cluster, "onfailure", "Succeeded")
    assert state(cluster, "onfailure")["restartCount"] == 0
    wait(lambda: state(cluster, "always").get("restartCount", 0) >= 1, "it was started again")
    wait(lambda: state(cluster, "always")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "it backs off")
    row = cluster.kubectl("get", "pod", "always").stdout.splitlines()[1].split()
    assert row[2] in ("CrashLoopBackOff", "Error")


def test_environment_command_and_working_directory(cluster, made):
    made(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"colour": "blue", "SIZE": "9"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hush"}, "stringData": {"word": "sesame"}},
        pod(
            "env",
            "sh",
            "-c",
            "pwd; echo $COLOUR $WORD $NAME $NODE $IP $GREETING $SIZE $MEMORY; sleep 600",
            container={
                "workingDir": "/tmp",
                "env": [
                    {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "colour"}}},
                    {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "word"}}},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "GREETING", "value": "hello-$(NAME)"},
                    {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "conf"}}],
                "resources": {"limits": {"memory": "64Mi"}},
            },
        ),
    )
    running(cluster, "env")
    thing = cluster.get("pod", "env")
    lines = wait(lambda: (text := cluster.kubectl("logs", "env").stdout) and len(text.splitlines()) == 2 and text.splitlines(), "it spoke")
    assert lines[0] == "/tmp"
    assert lines[1] == f"blue sesame env {thing['spec']['nodeName']} {thing['status']['podIP']} hello-env 9 64"


def test_a_missing_configmap_is_said_and_waited_for(cluster, made):
    made(pod("waits", "sleep", "600", container={"envFrom": [{"configMapRef": {"name": "later"}}]}))
    wait(lambda: state(cluster, "waits").get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError", "it says why")
    assert 'configmap "later" not found' in state(cluster, "waits")["state"]["waiting"]["message"]
    cluster.kubectl("create", "configmap", "later", "--from-literal=a=b")
    running(cluster, "waits")


def test_volumes(cluster, made):
    containers = [
        {"name": "writer", "image": "busybox", "command": ["sh", "-c", "echo shared > /data/f; sleep 600"], "volumeMounts": [{"name": "v", "mountPath": "/data"}]},
        {"name": "reader", "image": "busybox", "command": ["sleep", "600"],
         "volumeMounts": [{"name": "v", "mountPath": "/in", "readOnly": True}, {"name": "c", "mountPath": "/conf"}, {"name": "h", "mountPath": "/host"}]},
    ]  # fmt: skip
    made(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"a.txt": "from a config map"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "vols"}, "spec": {"containers": containers, "volumes": [
            {"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "files"}},
            {"name": "h", "hostPath": {"path": "/var/tmp/from-pod", "type": "DirectoryOrCreate"}}]}},
    )  # fmt: skip
    running(cluster, "vols")

    def read(path):
        return cluster.kubectl("exec", "vols", "-c", "reader", "--", "cat", path, check=False).stdout.strip()

    wait(lambda: read("/in/f") == "shared", "both see the emptyDir")
    assert read("/conf/a.txt") == "from a config map"
    assert cluster.kubectl("exec", "vols", "-c", "reader", "--", "touch", "/in/x", check=False).returncode != 0
    cluster.kubectl("exec", "vols", "-c", "reader", "--", "sh", "-c", "echo kept > /host/f")
    assert cluster.on(cluster.get("pod", "vols")["spec"]["nodeName"], "cat", "/var/tmp/from-pod/f").stdout == "kept\n"


def test_init_containers_run_first_and_in_order(cluster, made):
    thing = pod(
        "inits",
        "sh",
        "-c",
        "cat /w/log; sleep 600",
        container={"volumeMounts": [{"name": "w", "mountPath": "/w"}]},
        volumes=[{"name": "w", "emptyDir": {}}],
    )
    mount = {"volumeMounts": [{"name": "w", "mountPath": "/w"}], "image": "busybox"}
    thing["spec"]["initContainers"] = [
        {"name": "one", "command": ["sh", "-c", "sleep 0.3; echo one >> /w/log"], **mount},
        {"name": "two", "command": ["sh", "-c", "echo two >> /w/log"], **mount},
    ]
    made(thing)
    running(cluster, "inits")
    wait(lambda: cluster.kubectl("logs", "inits").stdout == "one\ntwo\n", "in order")


def test_too_much_memory_is_oomkilled(cluster, made):
    hog = "x=a; while true; do x=$x$x; done"
    made(pod("hog", "sh", "-c", hog, container={"resources": {"limits": {"memory": "20Mi"}}}, restartPolicy="Never"))
    phase(cluster, "hog", "Failed", 60)
    ended = state(cluster, "hog")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_probes(cluster, made):
    probe = {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 2}
    made(
        pod("unready", "sh", "-c", "sleep 600", container={"readinessProbe": probe}),
        pod("dying", "sh", "-c", "touch /tmp/ok; sleep 600", container={"livenessProbe": probe}, terminationGracePeriodSeconds=1),
        pod("web", "httpd", "-f", "-p", "8080", "-h", "/tmp", container={
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            "startupProbe": {"httpGet": {"path": "/none", "port": 8080}, "periodSeconds": 1, "failureThreshold": 300}}),
    )  # fmt: skip
    phase(cluster, "unready", "Running")
    assert condition(cluster.get("pod", "unready"), "Ready") == "False"
    cluster.kubectl("exec", "unready", "--", "touch", "/tmp/ok")
    running(cluster, "unready")
    running(cluster, "dying")
    cluster.kubectl("exec", "dying", "--", "rm", "/tmp/ok")
    wait(lambda: state(cluster, "dying").get("restartCount", 0) >= 1, "liveness restarts it", 30)
    assert state(cluster, "web").get("started") is not True, "the startup probe asks for a file that is not there"
    cluster.kubectl("exec", "web", "--", "touch", "/tmp/none")
    running(cluster, "web")


def test_grace_period_and_prestop(cluster, made):
    trap = "trap 'echo got TERM; sleep 1; echo bye; exit 0' TERM; echo begun; while true; do sleep 0.1; done"
    made(
        pod(
            "polite",
            "sh",
            "-c",
            trap,
            container={"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo prestop > /proc/1/fd/1"]}}}},
        )
    )
    running(cluster, "polite")
    follow = subprocess.Popen(
        ["kubectl", "logs", "-f", "polite"], env={**cluster.environment, "KUBECONFIG": str(cluster.folder / ".labctl/kubeconfig")},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follow.stdout.readline() == "begun\n"
    cluster.kubectl("delete", "pod", "polite", timeout_s=40)
    assert follow.communicate(timeout=20 * PATIENCE)[0] == "prestop\ngot TERM\nbye\n"
    stubborn = pod("stubborn", "sh", "-c", "trap '' TERM; while true; do sleep 0.1; done", terminationGracePeriodSeconds=2)
    made(stubborn)
    running(cluster, "stubborn")
    begun = time.monotonic()
    cluster.kubectl("delete", "pod", "stubborn", timeout_s=40)
    assert 1.5 < time.monotonic() - begun < 10 * PATIENCE


def test_logs(cluster, made):
    script = "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; test -e /kept/again && sleep 600; touch /kept/again; exit 1"
    mount = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    made(pod("talks", "sh", "-c", script, container=mount, volumes=[{"name": "kept", "emptyDir": {}}]))
    wait(lambda: state(cluster, "talks").get("restartCount", 0) == 1 and state(cluster, "talks")["ready"], "it was restarted once", 30)
    assert cluster.kubectl("logs", "talks", "--previous").stdout.splitlines()[:2] == ["line 1", "line 2"]
    wait(lambda: "oops" in cluster.kubectl("logs", "talks").stdout, "both streams are kept")
    assert cluster.kubectl("logs", "talks", "--tail=2").stdout.splitlines() == ["line 5", "oops"]
    assert cluster.kubectl("logs", "talks", "--timestamps", "--tail=1").stdout.startswith("20")
    assert cluster.kubectl("logs", "talks", "--limit-bytes=6").stdout == "line 1"
    said = cluster.kubectl("logs", "talks", "-c", "nobody", check=False)
    assert said.returncode == 1 and "container nobody is not valid for pod talks" in said.stderr


def test_exec_attach_cp_and_port_forward(cluster, made, tmp_path):
    made(
        pod("box", "sh", "-c", "mkdir -p /tmp/w; echo served > /tmp/w/x; exec httpd -f -p 8080 -h /tmp/w"),
        pod("cat", "cat", container={"stdin": True}),
    )
    running(cluster, "box")
    running(cluster, "cat")
    assert cluster.kubectl("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False).returncode == 7
    assert cluster.kubectl("exec", "-i", "box", "--", "wc", "-c", input="x" * 100_000).stdout.strip() == "100000"
    assert "executable file not found" in cluster.kubectl("exec", "box", "--", "nonesuch", check=False).stderr
    (tmp_path / "f").write_text("copied " * 1000)
    cluster.kubectl("cp", str(tmp_path / "f"), "box:/tmp/f")
    cluster.kubectl("cp", "box:/tmp/f", str(tmp_path / "g"))
    assert (tmp_path / "g").read_text() == "copied " * 1000
    attach = subprocess.Popen(
        ["kubectl", "attach", "-i", "-q", "cat"], env={**cluster.environment, "KUBECONFIG": str(cluster.folder / ".labctl/kubeconfig")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    attach.stdin.write("echoed\n")
    attach.stdin.flush()
    try:
        assert attach.stdout.readline() == "echoed\n"
    finally:
        attach.kill()
        attach.wait()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    forward = subprocess.Popen(
        ["kubectl", "port-forward", "pod/box", f"{port}:8080"], env={**cluster.environment, "KUBECONFIG": str(cluster.folder / ".labctl/kubeconfig")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert "Forwarding from" in forward.stdout.readline()
        for _ in range(3):
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=5).read() == b"served\n"
    finally:
        forward.kill()
        forward.wait()


def test_an_image_that_is_nowhere(cluster, made):
    made(pod("lost", image="no/such-image:9", container={"imagePullPolicy": "Never"}))
    wait(
        lambda: (
            state(cluster, "lost").get("state", {}).get("waiting", {}).get("reason")
            in ("ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff")
        ),
        "it says so",
    )
    assert "Failed" in {event["reason"] for event in cluster.items("events", "--field-selector", "involvedObject.name=lost")}


def test_a_pending_pod_says_why(cluster, made):
    cluster.kubectl("cordon", "minion-1")
    made(pod("big", "sleep", "1", container={"resources": {"requests": {"memory": "900Gi"}}}))
    message = "0/2 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable."
    wait(
        lambda: any(message in event["message"] for event in cluster.items("events", "--field-selector", "reason=FailedScheduling")),
        "an Event says why",
    )
    assert message in cluster.labctl("why", "pod/big").stdout


def test_pods_outlive_the_agent(cluster, made):
    made(pod("steady", "sh", "-c", "echo begun; sleep 600"))
    running(cluster, "steady")
    before = cluster.get("pod", "steady")
    node = before["spec"]["nodeName"]
    pid = cluster.on(node, "pgrep", "-f", "/opt/labctl/agent run").stdout.split()[0]
    cluster.on(node, "kill", "-9", pid)
    wait(
        lambda: cluster.on(node, "pgrep", "-f", "/opt/labctl/agent run", check=False).stdout.split()[:1] not in ([], [pid]),
        "another agent runs",
    )
    cluster.kubectl("exec", "steady", "--", "true")
    wait(lambda: condition(cluster.get("node", node), "Ready") == "True", "the node is Ready")
    after = cluster.get("pod", "steady")
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
    assert after["status"]["podIP"] == before["status"]["podIP"]


def test_pods_outlive_the_master(cluster, made):
    made(pod("steady", "sleep", "600"))
    running(cluster, "steady")
    before = cluster.get("pod", "steady")["status"]["containerStatuses"]
    os.kill(cluster.status()["master"]["pid"], signal.SIGKILL)
    cluster.labctl("up")
    assert cluster.get("pod", "steady")["status"]["containerStatuses"] == before
    wait(lambda: cluster.kubectl("exec", "steady", "--", "true", check=False).returncode == 0, "exec works again")
