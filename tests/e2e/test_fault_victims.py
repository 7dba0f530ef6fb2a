"""Faults that act on a minion and on what lives there: each is proven from its victim's side, and nothing of it is left when it is healed."""

import json
import os
import signal
import time

import pytest

from tests.e2e.cluster import PATIENCE, condition, crowded, requests, wait

MINIONS = ("minion-1", "minion-2")
OVER = ("Healed", "Refused", "Failed")
POD = {"apiVersion": "v1", "kind": "Pod"}


def pod(name, minion, image="busybox", command=("sleep", "1000"), limits=None, labels=None, **spec):
    container = {
        "name": "app",
        "image": image,
        "resources": {"limits": limits or {}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    if command:
        container["command"] = list(command)
    volumes = [{"name": "data", "emptyDir": {}}]
    settings = {"nodeName": minion, "terminationGracePeriodSeconds": 0, "volumes": volumes, "containers": [container], **spec}
    return {**POD, "metadata": {"name": name, "labels": labels or {"victim": name}}, "spec": settings}


def service(name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}


@pytest.fixture(scope="module")
def victims(cluster):
    """A web server on each minion behind one Service, and a pod with a shell on each."""
    things = [pod(f"web-{minion}", minion, "nginx", (), labels={"app": "web"}) for minion in MINIONS]
    things += [pod(f"shell-{minion}", minion, limits={"memory": "64Mi", "cpu": "500m"}) for minion in MINIONS]
    create(cluster, *things, service("web"))
    for thing in things:
        running(cluster, thing["metadata"]["name"])
    yield cluster


@pytest.fixture
def lab(victims):
    yield victims
    if any(each["status"]["phase"] not in OVER for each in victims.items("faults")):
        heal_all(victims)
    for name in MINIONS:
        wait(lambda m=name: nothing_is_left(victims, m), f"nothing of a fault is left on {name}", 15)
    pods = [f"{kind}-{minion}" for kind in ("web", "shell") for minion in MINIONS]
    wait(lambda: all(condition(each, "Ready") == "True" for each in victims.items("pods", *pods)), "all pods are Ready", 30)


def create(cluster, *things):
    cluster.kubectl("create", "-f", "-", input="\n---\n".join(map(json.dumps, things)))


def running(cluster, name):
    return wait(lambda: condition(cluster.get("pod", name), "Ready") == "True", f"{name} is Ready", 30)


def fault(cluster, type_, target, *options, check=True):
    done = cluster.labctl("fault", type_, target, "-o", "json", *options, check=check)
    return json.loads(done.stdout) if check else done


def name_of(made):
    return made["metadata"]["name"]


def heal(cluster, made):
    cluster.labctl("fault", "heal", name_of(made))
    return cluster.get("fault", name_of(made))["status"]


def heal_all(cluster):
    cluster.labctl("fault", "heal", "--all")
    assert all(each["status"]["phase"] in OVER for each in cluster.items("faults"))


LEFT = """
import glob, os
left = glob.glob("/run/labctl-faults/*") + glob.glob("/run/labctl-clock*") + glob.glob("/var/lib/labctl/labctl-fault*")
for each in glob.glob("/proc/[0-9]*/comm"):
    try: left += [each] if open(each).read().strip() == "labctl-fault" else []
    except OSError: pass
for each in glob.glob("/sys/fs/cgroup/blkio/pods/**/blkio.throttle.*_bps_device", recursive=True):
    if open(each).read().strip(): left.append(each)
print(left)
"""


def nothing_is_left(cluster, minion):
    found = cluster.on(minion, "/usr/bin/python3", "-c", LEFT).stdout.strip()
    assert found == "[]", found
    return True


def status(cluster, name):
    return cluster.get("pod", name)["status"]["containerStatuses"][0]


def on_cgroup(cluster, minion, name, controller, file):
    """A file of the container's control group, as the minion has it."""
    found = cluster.get("pod", name)
    group = f"{found['metadata']['uid']}/app-{status(cluster, name)['restartCount']}"
    return cluster.on(minion, "sh", "-c", f"cat /sys/fs/cgroup/{controller}/pods/{group}/{file} 2>/dev/null || true").stdout


def cpu_s(cluster, minion, name):
    return int(on_cgroup(cluster, minion, name, "cpuacct", "cpuacct.usage")) / 1e9


# -- containers -----------------------------------------------------------------------------------------------------------------------------


def test_a_killed_container_is_started_again(lab):
    made = fault(lab, "kill-container", "pod/default/web-minion-1")
    assert "SIGKILL" in made["status"]["done"][0] and made["status"]["phase"] == "Healed"
    wait(lambda: status(lab, "web-minion-1")["restartCount"] == 1, "it was started again")
    assert status(lab, "web-minion-1")["lastState"]["terminated"]["exitCode"] == 137
    told = [each["message"] for each in lab.items("events") if each["involvedObject"]["name"] == "web-minion-1"]
    assert any("SIGKILL" in message for message in told), told


def test_a_stopped_container_answers_nobody_and_uses_no_cpu(lab):
    address = lab.get("pod", "web-minion-1")["status"]["podIP"]
    made = fault(lab, "stop-container", "pod/default/web-minion-1/app")
    before = cpu_s(lab, "minion-1", "web-minion-1")
    silent = lab.on("minion-2", "curl", "-q", "-s", "--max-time", "1", address, check=False)
    assert silent.returncode == 28, "the connection stands, and nobody answers"
    assert cpu_s(lab, "minion-1", "web-minion-1") == before
    assert heal(lab, made)["phase"] == "Healed"
    wait(lambda: "Welcome" in lab.curl("minion-2", address, check=False), "it answers again", 15)
    assert status(lab, "web-minion-1")["state"].get("running")


def test_a_container_goes_on_when_the_time_of_its_fault_is_over(lab):
    made = fault(lab, "stop-container", "pod/default/web-minion-1/app", "--for", "1s")
    healed = wait(lambda: (now := lab.get("fault", name_of(made))["status"]).get("healedMonotonic") and now, "it is healed")
    assert healed["phase"] == "Healed" and 1 <= healed["healedMonotonic"] - healed["injectedMonotonic"] < 1 + 3 * PATIENCE * crowded()
    address = lab.get("pod", "web-minion-1")["status"]["podIP"]
    wait(lambda: "Welcome" in lab.curl("minion-2", address, check=False), "it answers again", 15)


def test_cpu_is_burnt_within_the_containers_limit(lab):
    before, began = cpu_s(lab, "minion-1", "shell-minion-1"), time.monotonic()
    made = fault(lab, "burn-cpu", "pod/default/shell-minion-1", "-p", "cpus=2")
    wait(lambda: cpu_s(lab, "minion-1", "shell-minion-1") - before > 0.5, "the container is charged for it")
    assert cpu_s(lab, "minion-1", "shell-minion-1") - before < 0.5 * (time.monotonic() - began) + 0.3, "its limit of half a CPU holds"
    assert heal(lab, made)["phase"] == "Healed"
    assert len(on_cgroup(lab, "minion-1", "shell-minion-1", "cpuacct", "cgroup.procs").split()) == 1


def test_memory_is_taken_and_given_back_and_beyond_the_limit_the_container_ends(lab):
    made = fault(lab, "burn-memory", "pod/default/shell-minion-2", "-p", "size=32Mi")
    usage = "memory", "memory.usage_in_bytes"
    wait(lambda: int(on_cgroup(lab, "minion-2", "shell-minion-2", *usage)) > 32 << 20, "it is charged to the container")
    heal(lab, made)
    assert int(on_cgroup(lab, "minion-2", "shell-minion-2", *usage)) < 24 << 20 and status(lab, "shell-minion-2")["restartCount"] == 0
    fault(lab, "burn-memory", "pod/default/shell-minion-2", "-p", "size=200%", "--for", "20s")
    wait(lambda: status(lab, "shell-minion-2")["restartCount"] == 1, "it was started again")
    assert status(lab, "shell-minion-2")["lastState"]["terminated"]["reason"] == "OOMKilled"


def test_a_pod_that_goes_takes_its_faults_with_it(lab):
    create(lab, pod("short", "minion-1"))
    running(lab, "short")
    made = [fault(lab, type_, "pod/default/short") for type_ in ("stop-container", "burn-cpu")]
    lab.kubectl("delete", "pod", "short", "--wait=true")
    assert nothing_is_left(lab, "minion-1")
    assert [heal(lab, each)["phase"] for each in made] == ["Healed", "Healed"]


# -- processes and rules of a minion --------------------------------------------------------------------------------------------------------

FIND = """
import glob, sys
for each in glob.glob("/proc/[0-9]*"):
    try:
        words, name = open(each + "/cmdline").read().split(chr(0)), open(each + "/comm").read().strip()
    except OSError: continue
    if name == sys.argv[1] or words[1:3] == ["/opt/labctl/agent", sys.argv[1]]: print(each[6:])
"""


@pytest.mark.parametrize("process", ["agent", "helper", "dns", "sshd"])
def test_a_killed_process_is_back_by_itself(lab, process):
    word = {"agent": "run", "dns": "labctl-dns"}.get(process, process)

    def pids():
        found = lab.on("minion-1", "/usr/bin/python3", "-c", FIND, word, check=False)
        return set(found.stdout.split())

    before = wait(pids, f"{process} runs")
    made = fault(lab, "kill-process", "minion-1", "-p", f"process={process}")
    assert f"processes of {process}" in made["status"]["done"][0]
    wait(lambda: (now := pids()) and not now & before, f"{process} runs again", 20)
    assert all(condition(node, "Ready") == "True" for node in lab.items("nodes"))


WATCH = """
import select, subprocess, sys, time
def rules(): return sum(line.startswith("-A LABCTL-S") for line in subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True).stdout.splitlines())
before, gone, end = rules(), 0.0, time.monotonic() + 30
print(before, flush=True)
while time.monotonic() < end:
    now = rules()
    if not gone and now < before: gone, least = time.monotonic(), now
    if gone and now >= before: print(least, round(time.monotonic() - gone, 3)); break
"""


def test_flushed_rules_are_gone_and_repaired(lab):
    import shlex
    import subprocess

    config = str(lab.folder / ".labctl" / "ssh_config")
    words = [*lab.inside, "ssh", "-F", config, "minion-2", shlex.join(["/usr/bin/python3", "-c", WATCH])]
    watcher = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=lab.environment)
    assert int(watcher.stdout.readline()) > 0
    made = fault(lab, "flush-rules", "minion-2")
    seen = watcher.communicate(timeout=60 * PATIENCE)[0].split()
    if seen:  # on a busy host the proxy may be quicker than who looks
        assert int(seen[0]) == 0 and float(seen[1]) < 5 * PATIENCE * crowded(), seen
    assert "rules" in made["status"]["done"][0]
    wait(lambda: '"did":"repaired"' in (lab.folder / ".labctl" / "journal.jsonl").read_text(), "the proxy says that it repaired them")
    wait(lambda: "Welcome" in lab.curl("minion-2", lab.vip("web"), check=False), "the Service answers")


# -- names and images -----------------------------------------------------------------------------------------------------------------------


def look_up(lab, minion="minion-1", name="web.default.svc.cluster.local", within_s=10):
    done = lab.kubectl("exec", f"shell-{minion}", "--", "timeout", str(within_s), "nslookup", "-type=a", name, check=False)
    return done.stdout + done.stderr


def test_names_fail_with_servfail_or_without_an_answer(lab):
    vip = lab.vip("web")
    wait(lambda: vip in look_up(lab), "the name is known")
    made = fault(lab, "fail-dns", "minion-1")
    assert "SERVFAIL" in look_up(lab) and vip in look_up(lab, "minion-2")
    heal(lab, made)
    assert vip in look_up(lab)
    made = fault(lab, "fail-dns", "all", "-p", "mode=drop")
    for minion in MINIONS:
        said = look_up(lab, minion, within_s=3)
        assert vip not in said and "SERVFAIL" not in said
    refused = fault(lab, "fail-dns", "minion-2", check=False)
    assert refused.returncode == 1 and f"fault {name_of(made)} (fail-dns on all) is at work there already" in refused.stderr
    heal(lab, made)
    assert all(vip in look_up(lab, minion) for minion in MINIONS)


def test_pulls_fail_until_they_are_healed(lab):
    made = fault(lab, "fail-pulls", "minion-1")
    create(lab, *(pod(f"pull-{minion}", minion, "serve-hostname", ()) for minion in MINIONS))
    reasons = ("ErrImagePull", "ImagePullBackOff")
    wait(lambda: status(lab, "pull-minion-1")["state"].get("waiting", {}).get("reason") in reasons, "it can't be pulled")
    wait(lambda: f"fault {name_of(made)}" in json.dumps(lab.items("events")), "an Event names the fault")
    running(lab, "pull-minion-2")
    heal(lab, made)
    running(lab, "pull-minion-1")
    lab.kubectl("delete", "pod", "pull-minion-1", "pull-minion-2", "--wait=false")


# -- disks and clocks: what a namespace machine shares with its host is left alone ------------------------------------------------------------


def write_s(lab, megabytes):
    """How long the container takes to write so much straight to its disk."""
    began = time.monotonic()
    lab.kubectl("exec", "shell-minion-1", "--", "dd", "if=/dev/zero", "of=/data/x", "bs=256k", f"count={4 * megabytes}", "oflag=direct")
    return time.monotonic() - began


def test_a_slow_disk_is_slow_for_the_containers_of_that_minion(lab):
    made = fault(lab, "slow-disk", "minion-1", "-p", "rate=1Mi", "-p", "operations=write")
    assert write_s(lab, 4) > 3
    heal(lab, made)
    wait(lambda: write_s(lab, 4) < 3, "it is quick again, as soon as the host's disk is")


@pytest.mark.parametrize(
    ("type_", "option", "why"), [("fill-disk", "left=5%", "host's disk"), ("skew-clock", "by=30s", "its clock is its host's")]
)
def test_what_would_reach_the_host_is_refused(lab, type_, option, why):
    refused = fault(lab, type_, "minion-1", "-p", option, check=False)
    assert refused.returncode == 1 and "refused" in refused.stderr and why in refused.stderr and len(refused.stderr.splitlines()) == 1


# -- whatever ends in the middle ------------------------------------------------------------------------------------------------------------


EVERY = (
    ("stop-container", "pod/default/web-minion-1"),
    ("burn-cpu", "pod/default/shell-minion-1"),
    ("burn-memory", "pod/default/shell-minion-1", "-p", "size=8Mi"),
    ("slow-disk", "minion-1"),
    ("fail-dns", "minion-1", "-p", "mode=drop"),
    ("fail-pulls", "minion-1"),
)


def test_a_master_that_was_killed_heals_what_is_overdue(lab):
    made = [fault(lab, *words, "--for", "4s") for words in EVERY]
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    lab.labctl("up")
    for each in made:
        wait(lambda name=name_of(each): lab.get("fault", name)["status"]["phase"] == "Healed", f"{name_of(each)} is healed", 20)
    assert nothing_is_left(lab, "minion-1") and lab.vip("web") in look_up(lab)


def test_no_request_fails_when_an_agent_and_a_helper_are_killed(lab):
    with requests(lab, "minion-2", lab.vip("web"), rate=100) as result:
        for process in ("agent", "helper"):
            fault(lab, "kill-process", "minion-1", "-p", f"process={process}")
        wait(lambda: lab.labctl("ssh", "minion-1", "true", check=False).returncode == 0, "it is reached")
    assert result["failed"] == 0, result


def test_a_machine_that_boots_again_has_nothing_of_its_faults(victims):
    """The last one: the pods of a machine that was certainly off are gone."""
    made = [fault(victims, *words) for words in EVERY[:5]]
    victims.labctl("fault", "reset", "minion-1")
    for each in made:
        found = wait(
            lambda name=name_of(each): (found := victims.get("fault", name)["status"])["phase"] == "Healed" and found, "it is over", 30
        )
        assert "was booted again" in found["message"] or "is gone" in found["message"], found
    wait(lambda: victims.on("minion-1", "true", check=False).returncode == 0, "it is reached")
    assert nothing_is_left(victims, "minion-1")
    wait(lambda: vip_of_dns(victims), "its DNS server answers", 20)


def vip_of_dns(cluster):
    return cluster.vip("web") in cluster.on("minion-1", "getent", "hosts", "web.default.svc.cluster.local", check=False).stdout
