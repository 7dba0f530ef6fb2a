"""What a pod, a minion or a request may try against the lab, on real machines; everything holds, and the lab goes on.

What each provider protects from whom is in docs/security.md.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.cluster import wait
from tests.e2e.test_workloads import made, phase, pod, running, state  # noqa: F401 - `made` is a fixture

on_namespaces = pytest.mark.skipif(
    os.environ.get("LABCTL_TEST_PROVIDER", "namespace") != "namespace", reason="about machines that share the host's kernel"
)


# -- pods


VICTIMS = 12
EXCHANGE = "cd /v; n=0; while :; do mkdir x; if [ $((n+=1)) -gt 300 ]; then n=0; sleep 0.3; fi; rmdir x; ln -s / x; rm x; done 2>/dev/null"
"""Now and then the folder stays for a moment, so that one of the victims gets it: for longer than twelve starts at once take on a busy host, as
a folder that is removed between the agent's look and crun's mount starts nothing."""


def test_a_pod_can_not_reach_its_minions_root_through_a_sub_path(cluster, made):  # noqa: F811
    """CVE-2021-25741: one container exchanges a folder for a link to / while others mount it."""
    volume = {"name": "v", "emptyDir": {}}
    attacker = {
        "name": "attacker",
        "image": "busybox",
        "command": ["sh", "-c", EXCHANGE],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    victims = [
        {
            "name": f"victim-{number}",
            "image": "busybox",
            "command": ["sh", "-c", "ls /m; sleep 1000"],
            "volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "x"}],
        }
        for number in range(VICTIMS)
    ]
    thing = pod("race", volumes=[volume], terminationGracePeriodSeconds=0)
    thing["spec"]["containers"] = [attacker, *victims]
    made(thing)

    def tried() -> bool:
        statuses = cluster.get("pod", "race")["status"].get("containerStatuses", [])
        states = [each["state"] for each in statuses if each["name"] != "attacker"]
        reasons = [each.get("waiting", {}).get("reason") for each in states]
        return len(states) == VICTIMS and "ContainerCreating" not in reasons and any("running" in each for each in states)

    wait(tried, "every victim was started or refused, and one at least runs", 60)
    for victim in victims:
        shown = cluster.kubectl("logs", "race", "-c", victim["name"], check=False).stdout.split()
        assert "proc" not in shown and "var" not in shown, shown


def test_a_pod_can_do_no_more_than_pods_need(cluster, made):  # noqa: F811
    cluster.kubectl("create", "configmap", "cm", "--from-literal=a=1")
    mounts = {"volumeMounts": [{"name": "cm", "mountPath": "/cm"}]}
    made(pod("plain", "sleep", "1000", container=mounts, volumes=[{"name": "cm", "configMap": {"name": "cm"}}]))
    running(cluster, "plain")
    for command in (
        "mount -t proc proc /tmp",
        "mount -t tmpfs t /tmp",
        "unshare -U true",
        "umount /proc/sys",
        "echo 1 > /proc/sys/vm/stat_interval",
        "mknod /tmp/d b 8 0 && head -c 1 /tmp/d",
        "rm /cm/..data",
        "echo 2 > /cm/a",
        "date -s 2020-01-01",
        "dmesg -c",
    ):
        done = cluster.kubectl("exec", "plain", "--", "sh", "-c", command, check=False)
        refused = any(word in done.stderr for word in ("ermitted", "ermission denied", "Read-only file system"))
        assert refused, (command, done.stdout, done.stderr)
    assert "Seccomp:\t2" in cluster.kubectl("exec", "plain", "--", "cat", "/proc/1/status").stdout


def test_the_profile_is_the_pods_word(cluster, made):  # noqa: F811
    free = {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}
    privileged = {"securityContext": {"privileged": True}}
    local = {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}}
    made(*(pod(name, "sleep", "1000", container=each) for name, each in (("free", free), ("privileged", privileged), ("local", local))))
    for name in ("free", "privileged"):
        running(cluster, name)
        assert "Seccomp:\t0" in cluster.kubectl(
            "exec", name, "--", "sh", "-c", "cat /proc/1/status", check=False
        ).stdout or on_a_filtered_machine(cluster)
    cluster.kubectl("exec", "privileged", "--", "sh", "-c", "mkdir /n && mount -t tmpfs t /n")
    reason = wait(lambda: state(cluster, "local").get("state", {}).get("waiting", {}).get("reason"), "it waits")
    assert reason in ("ContainerCreating", "CreateContainerConfigError")
    wait(lambda: "Localhost are not supported" in state(cluster, "local")["state"]["waiting"].get("message", ""), "it says why")


def on_a_filtered_machine(cluster) -> bool:
    """Whether all of a machine's processes have a filter of their provider's already."""
    return "Seccomp:\t2" in cluster.on("minion-1", "cat", "/proc/1/status").stdout


def test_what_a_pod_makes_of_its_files_does_not_keep_it_from_starting_again(cluster, made):  # noqa: F811
    spoil = "cp /proc/self/exe /etc/hosts 2>/dev/null; cat /bin/busybox > /etc/hosts; head -c 100000 /bin/busybox > /dev/termination-log; exit 1"
    made(pod("spoiler", "sh", "-c", spoil))
    wait(lambda: state(cluster, "spoiler").get("restartCount", 0) >= 1, "it was started again", 40)


def test_a_log_that_was_exchanged_for_a_link_shows_nothing(cluster, made):  # noqa: F811
    """A pod that may write to the folder of logs can't read the minion's files through `kubectl logs`."""
    cluster.on("minion-1", "sh", "-c", "echo '2026-01-01T00:00:00Z stdout F secret' > /root/secret")
    made(pod("talker", "sh", "-c", "echo hello; sleep 1000", nodeName="minion-1"))
    running(cluster, "talker")
    assert cluster.kubectl("logs", "talker").stdout == "hello\n"
    logs = {"name": "logs", "hostPath": {"path": "/var/log/pods"}}
    swap = "for log in /logs/*talker*/*/0.log; do rm $log; ln -s /root/secret $log; done"
    made(
        pod(
            "swapper",
            "sh",
            "-c",
            swap,
            container={"volumeMounts": [{"name": "logs", "mountPath": "/logs"}]},
            volumes=[logs],
            restartPolicy="Never",
            nodeName="minion-1",
        )
    )
    phase(cluster, "swapper", "Succeeded")
    assert "secret" not in cluster.kubectl("logs", "talker", check=False).stdout


# -- root on a minion


@on_namespaces
def test_root_on_a_minion_can_not_write_the_hosts_sysctls_and_pods_go_on(cluster, made):  # noqa: F811
    attack = "mkdir -p /tmp/p && mount -t proc proc /tmp/p && echo 1 > /tmp/p/sys/vm/stat_interval"
    done = cluster.on("minion-1", "sh", "-c", attack, check=False)
    assert done.returncode, done.stdout
    cluster.on("minion-1", "umount", "/tmp/p")
    made(pod("after", "true", restartPolicy="Never", nodeName="minion-1"))
    phase(cluster, "after", "Succeeded")


# -- a minion's helper, and SSH


IMPOSTOR = r"""
import json, os, runpy, sys, time
if sys.argv[1:2] != ["helper"]:
    runpy.run_path("/opt/labctl/agent.real", run_name="__main__")
    sys.exit()
said = [
    {"method": "connected", "params": {}},
    {"method": "lost", "params": {"generation": "", "reason": "x"}},
    {"method": "digest", "params": None},
    {"method": "digest", "params": {"rules": ["x"] * 1000}},
    {"id": 1, "result": None},
    {"id": 1, "result": {"flavour": 7, "rules": {}, "changed": [], "failed": []}},
]
one = said[int(time.time() * 10) % len(said)]
while True:
    body = json.dumps(one).encode()
    os.write(1, len(body).to_bytes(4, "big") + body)
    time.sleep(0.001)
"""


def test_one_minions_helper_harms_nobody_elses_ssh(cluster, made):  # noqa: F811
    """Root on minion-1 puts its own words in the place of the helper's: minion-2 is programmed, reached and watched as before."""
    made(pod("elsewhere", "sleep", "1000", nodeName="minion-2"))
    running(cluster, "elsewhere")
    cluster.on("minion-1", "mv", "/opt/labctl/agent", "/opt/labctl/agent.real")
    cluster.on("minion-1", "sh", "-c", f"cat >/opt/labctl/agent <<'END'\n{IMPOSTOR}\nEND")
    cluster.on("minion-1", "pkill", "-f", "agent helper", check=False)
    try:
        for number in range(5):
            cluster.kubectl("create", "service", "clusterip", f"hostile-{number}", "--tcp=80:80")
            programmed(cluster, "minion-2", f"hostile-{number}")
            assert cluster.kubectl("exec", "elsewhere", "--", "echo", "here").stdout == "here\n"
        assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"
        wait(lambda: "could not program" in told(cluster), "what minion-1 says is refused, and that is noted", 30)
    finally:
        cluster.on("minion-1", "mv", "/opt/labctl/agent.real", "/opt/labctl/agent")
        cluster.on("minion-1", "pkill", "-f", "agent helper", check=False)
    programmed(cluster, "minion-1", "hostile-4", 60)
    cluster.kubectl("delete", "service", *(f"hostile-{number}" for number in range(5)))


def programmed(cluster, minion, service, timeout_s=20):
    def look():
        saved = cluster.on(minion, "sh", "-c", "iptables-save; iptables-legacy-save 2>/dev/null").stdout
        return f"default/{service}" in saved

    wait(look, f"{minion} has the rules of {service}", timeout_s)


def told(cluster):
    return (cluster.folder / ".labctl" / "journal.jsonl").read_text()


def test_the_ssh_process_and_every_sshd_may_be_killed(cluster, made):  # noqa: F811
    """Killed three times, the SSH process is back each time, and the master says so; a machine's sshd is started again, and the machine stays on."""
    made(pod("reached", "sleep", "1000", nodeName="minion-2"))
    running(cluster, "reached")
    master = cluster.status()["master"]["pid"]
    boots = {machine["name"]: machine["power"] for machine in cluster.status()["machines"]}

    def ssh_process():
        for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
            if b"labctl.remote.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return 0

    def reached():
        return cluster.kubectl("exec", "reached", "--", "echo", "here", check=False).stdout == "here\n"

    for _ in range(3):
        wait(ssh_process, "the SSH process runs", 20)
        os.kill(ssh_process(), signal.SIGKILL)
        wait(reached, "a pod is reached over SSH again", 30)
    shown = cluster.labctl("status").stdout
    assert "ssh-process was started again 3 times" in shown, shown
    assert "[-]task/ssh-process failed" in cluster.kubectl("get", "--raw", "/readyz?verbose", check=False).stderr
    assert "the master itself is in trouble" in cluster.labctl("why", "pod/reached").stdout.lower()
    cluster.on("minion-2", "sh", "-c", "kill -9 $(pgrep -o -x sshd)", check=False)
    wait(lambda: cluster.on("minion-2", "true", check=False).returncode == 0, "minion-2's sshd answers again", 20)
    assert {machine["name"]: machine["power"] for machine in cluster.status()["machines"]} == boots
    assert reached()
