"""The agent as it ships, on a real machine with a real API: `python3 -m labctl.agent run` in a throwaway machine (room.py), labctl's own API server beside it."""

import asyncio
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent import room, tiny

inside = pytest.mark.skipif(not room.is_inside(), reason="runs inside a throwaway machine")
ROOT = Path(__file__).parents[2]
ADDRESS = "10.245.1.11"
STATE = Path("/var/lib/labctl/agent")


@pytest.mark.root
@pytest.mark.skipif(room.is_inside() or not room.possible(), reason="needs root, crun and conmon; or runs inside already")
def test_the_agent_on_a_real_machine():
    room.pytest_inside(__file__)


def command(*argv, **options):
    return subprocess.run(argv, **{"capture_output": True, "text": True, "timeout": 20 * room.PATIENCE, **options})


MACHINE = {"metadata": {"name": "m1"}, "spec": {"number": 1, "provider": "ssh", "address": ADDRESS}}


class Lab:
    """One node's agent and the API it talks to."""

    def __init__(self, folder: Path, api, config: dict):
        self.folder, self.api, self.config = folder, api, config
        self.agent = None

    def start_agent(self, **changes):
        (self.folder / "agent.json").write_text(json.dumps({**self.config, **changes}))
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        # On a minion it comes compiled (machines/zipapp.py): compiling takes 3 MB that the process keeps.
        subprocess.run([python, "-m", "compileall", "-q", str(ROOT / "labctl" / "agent")], check=True, timeout=60 * room.PATIENCE)
        log = open(self.folder / "agent.log", "ab")
        self.agent = subprocess.Popen(
            [python, "-m", "labctl.agent", "run", "--config", str(self.folder / "agent.json")], cwd=ROOT, stderr=log
        )

    def stop_agent(self, number=signal.SIGTERM):
        self.agent.send_signal(number)
        self.agent.wait(10 * room.PATIENCE)

    def command(self, *arguments, **options):
        argv = [sys.executable, "-m", "labctl.agent", arguments[0], "--config", str(self.folder / "agent.json"), *arguments[1:]]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=20 * room.PATIENCE, **options)

    async def until(self, path, condition, deadline_s=15.0):
        end = time.monotonic() + deadline_s * room.PATIENCE
        async with self.api.session() as http:
            while True:
                async with http.get(path) as answer:
                    found = await answer.json()
                if condition(found):
                    return found
                assert time.monotonic() < end, json.dumps(found, indent=1)[-3000:] + (self.folder / "agent.log").read_text()[-3000:]
                await asyncio.sleep(0.01)

    async def create(self, resource, value):
        if resource == "pods":  # no controller makes ServiceAccounts here
            value = {**value, "spec": {"automountServiceAccountToken": False, **value["spec"]}}
        async with self.api.session() as http, http.post(f"/api/v1/namespaces/default/{resource}", json=value) as answer:
            assert answer.status == 201, await answer.text()
            return await answer.json()

    async def delete(self, name, **options):
        async with self.api.session() as http, http.delete(f"/api/v1/namespaces/default/pods/{name}", json=options) as answer:
            assert answer.status in (200, 202), await answer.text()

    async def pod(self, name, script, condition=None, **more):
        """A pod of one container that runs a shell script, once it is as wanted (default: Running)."""
        container = {"name": "c", "image": "tiny", "command": ["sh", "-c", script], **more.pop("container", {})}
        made = await self.create("pods", {"metadata": {"name": name}, "spec": {"nodeName": "m1", "containers": [container], **more}})
        running = condition or (lambda found: found["status"].get("phase") == "Running")
        return await self.until(f"/api/v1/namespaces/default/pods/{name}", running), made


def resident_kb(pid):
    return int(next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")).split()[1])


@contextmanager
def serving(*argv):
    """A server process, from its first word on."""
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    server.stdout.readline()
    try:
        yield
    finally:
        server.kill()
        server.wait()


def blob(folder, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    (folder / digest).write_bytes(data)
    return {"digest": digest, "size": len(data), "mediaType": "application/octet-stream"}


def image(folder: Path):
    """The one image there is, as the API's store answers for it."""
    tiny.make(folder / "layer")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder / "layer", arcname=".")
    config = blob(folder, json.dumps({"config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000"]}}).encode())
    return {
        "name": "docker.io/library/tiny:latest",
        "digest": config["digest"],
        "config": config,
        "layers": [blob(folder, packed.getvalue())],
    }


@pytest.fixture
async def lab(tmp_path):
    from labctl.api.extensions import Extensions, File
    from tests.inprocess import ApiServer

    manifest = image(tmp_path)

    async def resolve(ask):
        return manifest

    async def blobs(ask):
        return File(tmp_path / ask.params["digest"])

    extensions = Extensions()
    extensions.add("GET", "/labctl/v1/images/resolve", resolve)
    extensions.add("GET", "/labctl/v1/blobs/{digest}", blobs)
    async with ApiServer.running(tmp_path / "api", extensions=extensions) as api:
        async with api.session() as http, http.post("/apis/labctl.internal/v1/machines", json=MACHINE) as answer:
            assert answer.status == 201, await answer.text()  # a node has no address but its machine's
        node = api.authority.node("m1")
        for name, data in (("ca.crt", api.authority.certificate_pem), ("agent.crt", node.certificate), ("agent.key", node.key)):
            (tmp_path / name).write_bytes(data)
        command("ip", "address", "replace", ADDRESS + "/32", "dev", "lo", check=True)
        config = {"node": "m1", "url": api.url, "bootID": "boot-1", "address": ADDRESS, "backoffSeconds": 0.3, "drainSeconds": 0.1}
        made = Lab(tmp_path, api, config)
        made.start_agent()
        await made.until("/api/v1/nodes/m1", lambda found: found.get("kind") == "Node")
        await api.kubectl("patch", "node", "m1", "-p", '{"spec":{"podCIDR":"10.246.1.0/24"}}')
        await made.until("/api/v1/nodes/m1", ready)
        try:
            yield made
        finally:
            if made.agent.poll() is None:
                made.stop_agent(signal.SIGKILL)
            cleaned = made.command("clean")
            assert (cleaned.returncode, cleaned.stderr) == (0, "")
            shutil.rmtree("/var/log/pods", ignore_errors=True)


def ready(node):
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))


async def cleared(condition, deadline_s=5.0):
    end = time.monotonic() + deadline_s * room.PATIENCE
    while not condition():
        assert time.monotonic() < end, "something was not cleared"
        await asyncio.sleep(0.02)


def restarts(pod):
    return pod["status"]["containerStatuses"][0]["restartCount"]


@inside
async def test_the_node_tells_what_it_is(lab):
    node = await lab.until("/api/v1/nodes/m1", ready)
    assert node["status"]["nodeInfo"]["bootID"] == "boot-1"
    assert {each["type"]: each["address"] for each in node["status"]["addresses"]} == {"InternalIP": ADDRESS, "Hostname": "m1"}
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "m1"
    assert "RestartAllContainersOnContainerExits" in node["status"]["declaredFeatures"], "what the scheduler looks for"
    lease = await lab.until("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m1", lambda found: found.get("spec"))
    assert lease["spec"]["holderIdentity"] == "m1"


@inside
async def test_extended_resources_of_the_capacity_are_for_pods(lab):
    """Kubernetes' documentation, "Advertise Extended Resources for a Node"; and taken away again."""
    await lab.until("/api/v1/nodes/m1", ready)
    for said, seen in (('"5"', "5"), ('"7"', "7"), ("null", None)):
        await lab.api.kubectl(
            "patch", "node", "m1", "--subresource=status", "-p", f'{{"status":{{"capacity":{{"example.com/dongle":{said}}}}}}}'
        )
        node = await lab.until("/api/v1/nodes/m1", lambda found: found["status"]["allocatable"].get("example.com/dongle") == seen)
        assert node["status"]["capacity"].get("example.com/dongle") == seen and "memory" in node["status"]["allocatable"]


@inside
async def test_ready_is_given_back_when_the_master_took_it(lab):
    await lab.api.kubectl(
        "patch",
        "node",
        "m1",
        "--subresource=status",
        "-p",
        '{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}}',
    )
    await lab.until("/api/v1/nodes/m1", ready, deadline_s=5)


@inside
async def test_a_pod_runs_speaks_and_goes(lab):
    script = "echo hello; echo oops >&2; hostname; cat /cm/key; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    await lab.create("configmaps", {"metadata": {"name": "cm"}, "data": {"key": "configured\n"}})
    user = {"securityContext": {"runAsUser": 65534}, "env": [{"name": "WORD", "value": "said"}], "workingDir": "/tmp"}
    mounts = {
        "container": {"volumeMounts": [{"name": "cm", "mountPath": "/cm"}], **user},
        "volumes": [{"name": "cm", "configMap": {"name": "cm"}}],
    }
    pod, _ = await lab.pod("web", script, **mounts)
    uid = pod["metadata"]["uid"]
    assert pod["status"]["podIP"].startswith("10.246.1.")
    end = time.monotonic() + 15 * room.PATIENCE
    while len((logs := lab.command("logs", "--pod", uid, "--container", "c")).stdout.splitlines()) < 4:
        assert time.monotonic() < end, logs
    said = logs.stdout.splitlines()
    assert [line for line in said if line != "oops"] == ["hello", "web", "configured"]
    assert ("oops" in said, logs.stderr) == (True, "")  # on standard error only the agent itself would speak
    nobody = lab.command("logs", "--pod", uid, "--container", "nobody", "--follow")
    assert (nobody.returncode, nobody.stdout, nobody.stderr) == (125, "", f"container nobody not found in pod {uid}\n")
    ran = lab.command("exec", "--pod", uid, "--container", "c", "--", "sh", "-c", "cat; exit 3", input="typed")
    assert (ran.stdout, ran.returncode) == ("typed", 3)
    me = lab.command("exec", "--pod", uid, "--container", "c", "--", "sh", "-c", "id -u; id -g; echo $WORD; pwd")
    assert me.stdout.split() == ["65534", "65534", "said", "/tmp"]
    missing = lab.command("exec", "--pod", uid, "--container", "c", "--", "nope")
    assert missing.returncode == 127 and 'exec: "nope": executable file not found in $PATH' in missing.stderr
    await lab.delete("web")
    await lab.until("/api/v1/namespaces/default/pods/web", lambda found: found.get("code") == 404)
    await cleared(lambda: os.listdir(STATE / "pods") == os.listdir("/var/log/pods") == [])
    assert "pod" not in command("ip", "-br", "link").stdout


@inside
async def test_limits_hold_and_their_breach_is_told(lab):
    def killed(found):
        return "OOMKilled" in json.dumps(found["status"].get("containerStatuses", []))

    limits = {"container": {"resources": {"limits": {"memory": "16Mi", "cpu": "100m"}}}}
    pod, _ = await lab.pod("hog", "x=a; while :; do x=$x$x; done", killed, restartPolicy="Never", **limits)
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (137, "OOMKilled")


@inside
async def test_a_pod_is_restarted_and_its_last_end_is_known(lab):
    pod, _ = await lab.pod(
        "crash",
        "echo last words > /dev/termination-log; exit 7",
        lambda found: found["status"].get("containerStatuses") and restarts(found) >= 2,
    )
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["message"]) == (7, "last words\n")


@inside
async def test_a_killed_agent_disturbs_nothing(lab):
    pod, _ = await lab.pod("web", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    crash, _ = await lab.pod("later", "while [ ! -e /tmp/stop ]; do sleep 0.05; done; exit 4")
    lab.stop_agent(signal.SIGKILL)
    lab.start_agent()
    await asyncio.sleep(1.0)
    path = "/api/v1/namespaces/default/pods/"
    assert (await lab.until(path + "web", lambda _: True)) == pod
    stopped = lab.command("exec", "--pod", crash["metadata"]["uid"], "--container", "c", "--", "touch", "/tmp/stop").returncode
    assert stopped in (0, 137), "it ends by itself, or with the container that it ends"
    await lab.until(path + "later", lambda found: restarts(found) == 1)
    lab.stop_agent(signal.SIGKILL)
    await lab.delete("web", gracePeriodSeconds=0)
    lab.start_agent()
    await lab.until(path + "later", lambda found: found["status"]["phase"] == "Running")
    await cleared(lambda: pod["metadata"]["uid"] not in os.listdir(STATE / "pods"))


@inside
async def test_after_a_boot_nothing_stale_is_taken_for_alive(lab):
    pod, _ = await lab.pod("web", "sleep 1000")
    gone, _ = await lab.pod("gone", "sleep 1000")
    lab.stop_agent(signal.SIGKILL)
    await lab.delete("gone", gracePeriodSeconds=0)
    lab.start_agent(bootID="boot-2")
    path = "/api/v1/namespaces/default/pods/web"
    again = await lab.until(path, lambda found: restarts(found) == 1 and found["status"]["containerStatuses"][0]["ready"])
    assert again["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert os.listdir(STATE / "pods") == [pod["metadata"]["uid"]]
    assert gone["metadata"]["uid"] != pod["metadata"]["uid"]


@inside
async def test_pods_reach_each_other_and_the_node_reaches_them(lab):
    """Through the wire: a listener in one pod's namespace, a caller in the other's and on the node."""
    first, _ = await lab.pod("a", "sleep 1000")
    second, _ = await lab.pod("b", "sleep 1000")
    command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", check=True)  # this machine's own: it has a network namespace of its own
    enter = [f"--net={STATE}/pods/{each['metadata']['uid']}/ns/net" for each in (first, second)]
    serve = "import socket; s = socket.create_server(('', 80)); print('up', flush=True)\nwhile True: c, a = s.accept(); c.sendall(a[0].encode()); c.close()"
    call = f"import socket; print(socket.create_connection(('{first['status']['podIP']}', 80), 5).recv(99).decode())"
    with serving("nsenter", enter[0], sys.executable, "-c", serve):
        from_pod = command("nsenter", enter[1], sys.executable, "-c", call)
        from_node = command(sys.executable, "-c", call)
    assert from_pod.stdout.strip() == second["status"]["podIP"], from_pod.stderr
    assert from_node.stdout.strip() == ADDRESS, from_node.stderr


@inside
async def test_twenty_pods_cost_little(lab):
    await asyncio.gather(*(lab.pod(f"p{number}", "sleep 1000") for number in range(20)))
    begun_s = time.monotonic()
    while (taken := resident_kb(lab.agent.pid)) >= 34 * 1024:  # the aim is 32 MB; what Python itself takes differs by its version
        assert time.monotonic() - begun_s < 45, f"{taken} KiB stay"  # what starting took is given back every 20 s
        await asyncio.sleep(0.5)
