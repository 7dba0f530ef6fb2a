"""Anything may die at any moment: processes of the master and of minions, machines, links, disks. After each fault the lab comes back to what was
asked for, by itself or with `labctl up`, and nothing of what is gone stays on a minion.
"""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE, SEED, condition, crowded, requests, wait
from tests.e2e.remains import descriptors, lab_processes, parent, resident_mb, too_much

MINIONS = ("minion-1", "minion-2")
GRACE_S, EVICT_S = 3 * PATIENCE, 2 * PATIENCE


@pytest.fixture(scope="module")
def cluster(new_cluster, images):
    cluster = new_cluster("faults")
    # A pod that ends waits for connections to minions that are made anew, which takes longer than the usual second where other labs start beside it.
    drains = f"pods: {{drain_s: {5 * PATIENCE:g}}}\n"
    (cluster.folder / "lab.yml").write_text(f"nodes: {{lease_s: 1, grace_s: {GRACE_S:g}, evict_s: {EVICT_S:g}}}\n{drains}")
    cluster.labctl("up", "--minions", "2", timeout_s=600)
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    settled(cluster, 2)
    yield cluster
    cluster.destroy()


@pytest.fixture
def lab(cluster):
    """The seed's controller at two replicas and its Service, settled; after the scenario all must settle again."""
    yield cluster
    cluster.labctl("up")
    scale(cluster, 2)
    settled(cluster, 2)


def scale(cluster, replicas):
    cluster.kubectl("scale", "rc", "nginx-controller", f"--replicas={replicas}")


def settled(cluster, replicas, timeout_s=40.0):
    """As many pods as asked for, all Ready, on nodes that are Ready; and on the minions these pods and no trace of others."""

    def look():
        pods, nodes = cluster.items("pods", "-l", "name=nginx"), cluster.items("nodes")
        states = [
            (p["metadata"]["name"], p["spec"].get("nodeName"), condition(p, "Ready"), p["metadata"].get("deletionTimestamp")) for p in pods
        ]
        assert len(pods) == replicas and all(ready == "True" and not leaving for _, _, ready, leaving in states), states
        assert all(condition(node, "Ready") == "True" for node in nodes), [
            (n["metadata"]["name"], n["status"]["conditions"]) for n in nodes
        ]
        wrong = too_much(cluster, [node["metadata"]["name"] for node in nodes])
        assert not wrong, wrong
        return True

    wait(look, f"{replicas} pods and nothing else", timeout_s)


def containers(cluster):
    """What restarts and replacements would change."""
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"] for pod in cluster.items("pods", "-l", "name=nginx")}


def kill_on(cluster, minion, pattern):
    """SIGKILL to a minion's processes by their command line; answers how many there were."""
    script = (
        "import os,sys\n"
        "n=0\n"
        "for p in filter(str.isdigit, os.listdir('/proc')):\n"
        "  try: line=open(f'/proc/{p}/cmdline').read().replace('\\0',' ')\n"
        "  except OSError: continue\n"
        "  if line.startswith(sys.argv[1]): os.kill(int(p), 9); n+=1\n"
        "print(n)"
    )
    return int(cluster.on(minion, "/usr/bin/python3", "-c", script, pattern).stdout or -1)


AGENT, HELPER, CONMON = "/usr/bin/python3 /opt/labctl/agent run", "/usr/bin/python3 /opt/labctl/agent helper", "/usr/bin/conmon"


# -- processes of the master --------------------------------------------------------------------------------------------------------------


def test_the_master_is_killed_during_a_scale_up(lab):
    scale(lab, 12)
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    lab.labctl("up")
    settled(lab, 12)


def test_the_ssh_process_is_killed(lab):
    master = lab.status()["master"]["pid"]
    with requests(lab, "minion-1", lab.vip()) as result:
        (worker,) = [pid for pid, line in lab_processes_of(master).items() if "labctl.remote.worker" in line]
        os.kill(worker, signal.SIGKILL)
        lab.kubectl("expose", "rc", "nginx-controller", "--name=later", "--port=80")
        for minion in MINIONS:
            wait(lambda m=minion: "Welcome" in lab.curl(m, lab.vip("later"), check=False), f"a new Service's rules reach {minion}")
    assert lab.status()["master"]["pid"] == master and result["failed"] == 0, str(result)
    lab.kubectl("delete", "service", "later")


def lab_processes_of(master):
    """The master's children."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if parent(int(process.name)) == master:
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
    return found


def test_a_restarted_master_fails_no_request(lab):
    with requests(lab, "minion-1", lab.vip(), rate=100) as new, requests(lab, "minion-2", lab.vip(), rate=100, keep_alive=True) as kept:
        before = containers(lab)
        os.kill(lab.status()["master"]["pid"], signal.SIGTERM)
        lab.labctl("up")
        os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
        lab.labctl("up")
        assert containers(lab) == before
    assert new["failed"] == kept["failed"] == 0, (new, kept)


# -- processes of a minion -----------------------------------------------------------------------------------------------------------------


def test_agents_are_killed_while_pods_start(lab):
    scale(lab, 12)
    for minion in MINIONS:
        wait(lambda m=minion: kill_on(lab, m, AGENT), "there is an agent to kill")
    settled(lab, 12)
    assert all(status[0]["restartCount"] == 0 for status in containers(lab).values())


def test_conmon_is_killed(lab):
    """The container goes on, unlogged; its end is seen all the same, and its next attempt has a conmon of its own."""
    before = containers(lab)
    assert kill_on(lab, "minion-1", CONMON) >= 1
    assert kill_on(lab, "minion-1", AGENT) == 1
    lab.kubectl("get", "--raw", "/readyz")
    assert containers(lab) == before
    assert kill_on(lab, "minion-1", "nginx: master") >= 1
    wait(lambda: sum(s[0]["restartCount"] for s in containers(lab).values()) == 1, "the container was started again")
    settled(lab, 2)
    assert containers(lab).keys() == before.keys()


def test_the_helper_and_the_control_connection_are_killed(lab):
    with requests(lab, "minion-1", lab.vip()) as result:
        for minion in MINIONS:
            assert kill_on(lab, minion, HELPER) >= 1
        scale(lab, 4)
        settled(lab, 4)
        lines = lab_processes(lab)
        connections = {parent(pid) for pid, line in lines.items() if line == HELPER and lines.get(parent(pid), "").startswith("sshd")}
        assert len(connections) == len(MINIONS)
        for pid in connections:
            os.kill(pid, signal.SIGKILL)  # the sshd of the master's control connection
        scale(lab, 2)
        settled(lab, 2)
        lab.kubectl("exec", lab.ready_pods()[0]["metadata"]["name"], "--", "true")
    assert result["failed"] == 0, str(result)


def test_an_sshd_that_is_killed_is_started_again(lab):
    """A machine without its sshd could be reached by nobody. Its pods do not notice."""
    before = containers(lab)
    (listener,) = [p for p, line in lab_processes(lab).items() if "[listener]" in line and address_of(p) == "10.245.1.12"]
    os.kill(listener, signal.SIGKILL)
    wait(lambda: lab.on("minion-2", "true", check=False).returncode == 0, "minion-2 can be reached again", 10)
    assert containers(lab) == before


def address_of(pid):
    """The machine's address, from the network namespace of one of its processes."""
    for line in Path(f"/proc/{pid}/net/fib_trie").read_text().splitlines():
        if line.strip().startswith("|-- 10.245.1.") and not line.strip().endswith((".0", ".255")):
            return line.split()[-1]
    return ""


def test_the_labs_init_is_killed(lab):
    """All machines end within moments. Nobody is left to take their pods, so all stay bound, and `labctl up` starts their containers once more."""
    inits = [pid for pid, line in lab_processes(lab).items() if line == "sleep infinity" and parent(pid) == 1]
    assert len(inits) == 1
    before = running(lab)
    os.kill(inits[0], signal.SIGKILL)
    wait(lambda: all(m["power"] == "Off" for m in lab.status()["machines"]), "all machines are known to be off")
    lab.labctl("up")
    settled(lab, 2)
    after = running(lab)
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values()), (before, after)
    assert "Welcome" in lab.curl("minion-1", lab.vip())


def running(cluster):
    """Each pod's container, by its own id, which no second start has."""
    return {uid: statuses[0]["containerID"] for uid, statuses in containers(cluster).items()}


# -- machines ------------------------------------------------------------------------------------------------------------------------------


def test_a_minion_is_paused_longer_than_its_grace_and_thawed(lab):
    """Its pods are replaced elsewhere, but nothing is let go of: the old ones end, and are forgotten, when the machine wakes."""
    scale(lab, 4)
    settled(lab, 4)
    on_2 = {pod["metadata"]["name"] for pod in lab.ready_pods() if pod["spec"]["nodeName"] == "minion-2"}
    with requests(lab, "minion-1", lab.vip()) as result:
        lab.labctl("fault", "pause", "minion-2")
        wait(lambda: condition(lab.get("node", "minion-2"), "Ready") == "Unknown", "its silence is noticed", 7)
        wait(lambda: [p["spec"]["nodeName"] for p in lab.ready_pods()] == ["minion-1"] * 4, "four run elsewhere", 10)
        held = {pod["metadata"]["name"] for pod in lab.items("pods", "-l", "name=nginx") if "deletionTimestamp" in pod["metadata"]}
        assert held == on_2, "what may still run is not forgotten"
        lab.labctl("fault", "resume", "minion-2")
        settled(lab, 4)
    assert result["longest_ms"] < (GRACE_S + 2 * PATIENCE * crowded()) * 1000, str(result)
    assert not on_2 & {pod["metadata"]["name"] for pod in lab.items("pods")}
    assert not lab.get("node", "minion-2")["spec"].get("taints")


def test_a_minion_is_reset(lab):
    scale(lab, 4)
    settled(lab, 4)
    boot = lab.get("node", "minion-2")["status"]["nodeInfo"]["bootID"]
    with requests(lab, "minion-1", lab.vip()) as result:
        lab.labctl("fault", "reset", "minion-2")
        settled(lab, 4)
    assert result["longest_ms"] < 2500 * PATIENCE * crowded(), str(result)
    assert lab.get("node", "minion-2")["status"]["nodeInfo"]["bootID"] != boot


def test_no_request_waits_for_a_machine_that_lost_its_power(lab):
    """TCP repeats a first packet that was lost after a second; the minions that are left repeat it at once, and end what was connected."""
    scale(lab, 4)
    for _ in range(3):
        settled(lab, 4)
        lab.kubectl("delete", "pods", "-l", "name=nginx", "--wait=false")  # some on each minion again
        settled(lab, 4)
        with requests(lab, "minion-1", lab.vip(), rate=200) as new, requests(lab, "minion-1", lab.vip(), rate=200, keep_alive=True) as kept:
            lab.labctl("fault", "power-off", "minion-2")
            wait(lambda: [p["spec"]["nodeName"] for p in lab.ready_pods()] == ["minion-1"] * 4, "four run elsewhere", 10)
        print(new, kept)
        longest_ms = 300 * PATIENCE * min(3.0, crowded())  # of a second and more, which TCP waits
        assert new["longest_ms"] < longest_ms and kept["longest_ms"] < longest_ms, (new, kept)
        lab.labctl("up")


def test_a_link_is_cut_and_restored(lab):
    scale(lab, 4)
    settled(lab, 4)
    lab.labctl("fault", "cut", "minion-2")
    wait(lambda: condition(lab.get("node", "minion-2"), "Ready") == "Unknown", "its silence is noticed", 7)
    wait(lambda: [p["spec"]["nodeName"] for p in lab.ready_pods()] == ["minion-1"] * 4, "four run elsewhere", 10)
    assert "Welcome" in lab.curl("minion-1", lab.vip())
    assert lab.status()["machines"][1]["power"] == "On", "silence is no death"
    lab.labctl("fault", "restore", "minion-2")
    settled(lab, 4)
    assert "Welcome" in lab.curl("minion-2", lab.vip())


def test_a_blip_of_the_link_is_no_fault(lab):
    before = containers(lab)
    lab.labctl("fault", "cut", "minion-2")
    lab.labctl("fault", "restore", "minion-2")
    lab.kubectl("expose", "rc", "nginx-controller", "--name=blip", "--port=80")
    wait(lambda: "Welcome" in lab.curl("minion-2", lab.vip("blip"), check=False), "a new Service reaches minion-2", 15)
    lab.kubectl("delete", "service", "blip")
    settled(lab, 2)
    assert containers(lab).keys() == before.keys()


# -- objects -------------------------------------------------------------------------------------------------------------------------------


def test_a_namespace_is_deleted_with_all_it_holds(lab):
    lab.kubectl("create", "namespace", "shop")
    lab.kubectl("-n", "shop", "create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    lab.kubectl("-n", "shop", "create", "configmap", "c")
    lab.kubectl("-n", "shop", "create", "secret", "generic", "s")
    wait(lambda: lab.get("rc", "nginx-controller", "-n", "shop")["status"].get("readyReplicas") == 2, "two pods are Ready")
    lab.kubectl("delete", "namespace", "shop", "--timeout=20s")
    assert lab.items("all", "-n", "shop") == lab.items("cm,secrets,endpoints,events", "-n", "shop") == []
    settled(lab, 2)


def test_a_node_is_deleted_while_its_agent_runs(lab):
    """Its agent registers it again; pods of the Node that was deleted are ended and replaced."""
    before = lab.get("node", "minion-2")["metadata"]["uid"]
    lab.kubectl("delete", "node", "minion-2")
    wait(lambda: lab.get("node", "minion-2")["metadata"]["uid"] != before, "it is registered again")
    settled(lab, 2)
    assert lab.get("node", "minion-2")["spec"]["podCIDR"] == "10.246.2.0/24"
    scale(lab, 6)
    settled(lab, 6)
    assert {pod["spec"]["nodeName"] for pod in lab.ready_pods()} == set(MINIONS)


def test_a_new_agent_disturbs_no_pod(lab):
    before, old = containers(lab), lab.on("minion-1", "readlink", "/opt/labctl/agent").stdout
    source = Path(lab.environment["PYTHONPATH"]) / "labctl" / "agent" / "times.py"
    text = source.read_text()
    try:
        source.write_text(text + "\n# another version\n")
        with requests(lab, "minion-1", lab.vip()) as result:
            os.kill(lab.status()["master"]["pid"], signal.SIGTERM)
            lab.labctl("up")
            wait(lambda: lab.on("minion-1", "readlink", "/opt/labctl/agent").stdout != old, "the new agent is there")
            scale(lab, 4)
            settled(lab, 4)
    finally:
        source.write_text(text)
    after = containers(lab)
    assert result["failed"] == 0 and all(after[uid] == status for uid, status in before.items())


def test_a_full_disk_on_a_minion(lab):
    """A pod that can't be made says why, others go on, and it runs once there is room."""
    scale(lab, 1)
    settled(lab, 1)
    minion = next(m for m in MINIONS if m != lab.ready_pods()[0]["spec"]["nodeName"])
    pods = "/var/lib/labctl/agent/pods"
    lab.on(minion, "mount", "-t", "tmpfs", "-o", "size=4k", "none", pods)
    try:
        lab.on(minion, "sh", "-c", f"head -c 4096 /dev/zero >{pods}/full || true")
        override = json.dumps({"spec": {"nodeName": minion}})
        lab.kubectl("run", "cramped", "--image=busybox", f"--overrides={override}", "--", "sleep", "600")
        said = wait(
            lambda: [e["message"] for e in lab.items("events", "--field-selector", "involvedObject.name=cramped,type=Warning")],
            "it says so",
        )
        assert "No space left on device" in said[0]
        assert condition(lab.get("node", minion), "Ready") == "True"
        lab.on(minion, "sh", "-c", f"mount -o remount,size=64m none {pods} && rm {pods}/full")
        wait(lambda: condition(lab.get("pod", "cramped"), "Ready") == "True", "it runs", 20)
        lab.kubectl("delete", "pod", "cramped", "--now")
    finally:
        lab.kubectl("delete", "pod", "cramped", "--force", "--grace-period=0", "--ignore-not-found", check=False)
        lab.on(minion, "sh", "-c", f"while umount -R {pods}; do :; done 2>/dev/null; true")


# -- nobody notices ------------------------------------------------------------------------------------------------------------------------


def test_a_rolling_deletion_fails_no_request(lab):
    """Every pod is deleted, one after the other, under four clients: new connections and kept ones, from both minions."""
    scale(lab, 4)
    settled(lab, 4)
    with contextlib.ExitStack() as clients:
        results = [
            clients.enter_context(requests(lab, minion, lab.vip(), rate=100, keep_alive=keep_alive))
            for minion in MINIONS
            for keep_alive in (False, True)
        ]
        for pod in lab.ready_pods():
            lab.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
            wait(lambda p=pod: len(lab.ready_pods()) == 4 and p["metadata"]["uid"] not in containers(lab), "it was replaced")
    assert [result["failed"] for result in results] == [0] * 4, results
    assert min(result["total"] for result in results) > 50, results


# -- many ----------------------------------------------------------------------------------------------------------------------------------

CHURN, BATCH = 500, 50


def test_five_hundred_pods_come_and_go_and_leave_nothing(lab):
    """Neither memory nor descriptors grow with pods that are gone: the second half of the churn costs what the first did."""
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "brief-", "labels": {"app": "brief"}},
             "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "600"]}]}}] * BATCH  # fmt: skip

    def unready():
        """What is known of those that do not run yet: of a batch that hangs this is all that is left later."""
        seen = lab.pods("app=brief")
        missing = [
            (pod["metadata"]["name"], pod["spec"].get("nodeName"), pod["status"]) for pod in seen if condition(pod, "Ready") != "True"
        ]
        assert not missing and len(seen) == BATCH, f"{len(missing)} of {len(seen)} are not Ready, such as {missing[:1]}"

    def churn():
        for _ in range(CHURN // 2 // BATCH):
            lab.kubectl("create", "-f", "-", input="\n---\n".join(map(json.dumps, pods)))
            wait(lambda: not unready(), f"{BATCH} pods run", 60)
            lab.kubectl("delete", "pods", "-l", "app=brief", "--wait=false")
            wait(lambda: not lab.items("pods", "-l", "app=brief"), "they are gone", 60)
        settled(lab, 2)
        return {name: (resident_mb(pid), descriptors(pid)) for name, pid in lasting(lab).items()}

    before, after = churn(), churn()
    grown = {name: (after[name][0] - mb, after[name][1] - files) for name, (mb, files) in before.items()}
    allowed_mb = {"master": 32}  # the history that it holds on purpose, of which the first half may have filled any part
    assert all(mb < allowed_mb.get(name, 6) and files <= 4 for name, (mb, files) in grown.items()), (grown, before, after)


def lasting(cluster):
    """The processes that live as long as the lab."""
    master = cluster.status()["master"]["pid"]
    agents = {f"agent {address_of(pid)}": pid for pid, line in lab_processes(cluster).items() if line.startswith(AGENT)}
    (worker,) = [pid for pid, line in lab_processes_of(master).items() if "labctl.remote.worker" in line]
    return {"master": master, "ssh": worker, **agents}


def test_ten_minions_lose_two_at_once(new_cluster, images):
    cluster = new_cluster("ten")
    cluster.labctl("up", "--minions", "10", "--memory", "512M")
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    scale(cluster, 40)
    settled(cluster, 40, 90)
    with requests(cluster, "minion-1", cluster.vip()) as result:
        for minion in ("minion-4", "minion-7"):
            cluster.labctl("fault", "power-off", minion)
        wait(lambda: len(cluster.ready_pods()) == 40, "all 40 run on eight", 40)
        assert not {"minion-4", "minion-7"} & {pod["spec"]["nodeName"] for pod in cluster.ready_pods()}
    assert result["longest_ms"] < 3000 * PATIENCE * crowded(), str(result)
    cluster.labctl("up")
    settled(cluster, 40, 60)
    cluster.destroy()
