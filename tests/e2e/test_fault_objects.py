"""Each fault of machines, links, the API and the master as its victim sees it; and that healing leaves nothing behind, also after the master was killed."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE, condition, wait
from tests.e2e.links import Links

ADDRESS = {"minion-1": "10.245.1.11", "minion-2": "10.245.1.12"}
MASTER = "10.245.1.1"
COUNT = 2_000


@pytest.fixture(scope="module")
def cluster(new_cluster, images):
    cluster = new_cluster("fault-objects")
    cluster.labctl("up", "--minions", "2", timeout_s=600)
    yield cluster
    cluster.destroy()


@pytest.fixture(scope="module")
def links(cluster):
    if cluster.environment["LABCTL_PROVIDER"] != "namespace":
        pytest.skip("looks into network namespaces")
    return Links(cluster)


@pytest.fixture
def lab(cluster):
    """After each test no fault is at work, and every node is Ready."""
    yield cluster
    cluster.labctl("fault", "heal", "--all", check=False)
    cluster.labctl("up")


@pytest.fixture
def whole(lab, links, state):
    """What the host's ends of the links have must be the same before and after."""
    links.acquaint("minion-1", "minion-2", ADDRESS)
    before = links.host_side(state / "s")
    yield
    lab.labctl("fault", "heal", "--all")
    assert links.host_side(state / "s") == before


def fault(cluster, *words: str) -> dict:
    return json.loads(cluster.labctl("fault", *words, "-o", "json").stdout)


def phase(cluster, name: str) -> str:
    return cluster.get("fault", name)["status"]["phase"]


def heal(cluster, made: dict) -> dict:
    cluster.labctl("fault", "heal", made["metadata"]["name"])
    return cluster.get("fault", made["metadata"]["name"])


def master_pid(cluster) -> int:
    return cluster.status()["master"]["pid"]


def kill_master(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not Path(f"/proc/{pid}").exists() or "(zombie)" in Path(f"/proc/{pid}/status").read_text(), "the master is gone", 5)


def share_lost(links, sender: str, receiver: str) -> float:
    return 1 - links.arrived(sender, receiver, ADDRESS[receiver], COUNT)[0] / COUNT


# -- links ---------------------------------------------------------------------------------------------------------------------------------


def test_packets_are_lost_in_that_share_and_in_that_direction(lab, links, whole):
    made = fault(lab, "loss", "minion-1", "-p", "share=20%", "--direction", "in")
    assert made["status"]["done"] == ["20% are lost of the packets from everybody to minion-1"]
    assert 0.15 < share_lost(links, "minion-2", "minion-1") < 0.25  # 2,000 packets: a standard deviation is 0.9 %
    assert share_lost(links, "minion-1", "minion-2") == 0
    heal(lab, made)
    assert share_lost(links, "minion-2", "minion-1") == 0


def test_packets_are_lost_on_their_way_to_one_peer_only(lab, links, whole):
    made = fault(lab, "loss", "minion-1", "-p", "share=50%", "--to", "minion-2", "--direction", "out")
    assert 0.43 < share_lost(links, "minion-1", "minion-2") < 0.57
    assert share_lost(links, "minion-2", "minion-1") == 0
    heal(lab, made)


@pytest.mark.parametrize(("direction", "sender", "receiver"), [("in", "minion-2", "minion-1"), ("out", "minion-1", "minion-2")])
def test_a_rate_is_really_limited(lab, links, whole, direction, sender, receiver):
    made = fault(lab, "rate", "minion-1", "-p", "rate=4mbit", "--to", "minion-2", "--direction", direction)
    assert 2e6 < links.bits_per_s(sender, receiver, ADDRESS[receiver], 2) < 5e6
    assert links.bits_per_s(receiver, sender, ADDRESS[sender], 0.3) > 20e6, "the other way is as quick as before"
    heal(lab, made)
    assert links.bits_per_s(sender, receiver, ADDRESS[receiver], 0.3) > 20e6


def test_a_cut_one_way_is_really_one_way(lab, links, whole):
    made = fault(lab, "cut", "minion-1", "--to", "minion-2", "--direction", "out")
    assert share_lost(links, "minion-1", "minion-2") == 1
    assert share_lost(links, "minion-2", "minion-1") == 0
    heal(lab, made)
    assert links.reaches("minion-1", ADDRESS["minion-2"])


def test_a_cut_between_two_machines_leaves_the_master_and_takes_their_pods(lab, links, whole):
    lab.kubectl("run", "web", "--image=nginx", "--overrides", json.dumps({"spec": {"nodeName": "minion-2"}}))
    wait(lambda: condition(lab.get("pod", "web"), "Ready") == "True", "the pod runs", 40)
    pod = lab.get("pod", "web")["status"]["podIP"]
    assert links.reaches("minion-1", pod, 80)
    made = fault(lab, "cut", "minion-1", "--to", "minion-2")
    assert not links.reaches("minion-1", ADDRESS["minion-2"])
    assert not links.reaches("minion-1", pod, 80)
    assert links.reaches("minion-1", MASTER, 6443) and links.reaches("minion-2", MASTER, 6443)
    heal(lab, made)
    assert links.reaches("minion-1", pod, 80)
    lab.kubectl("delete", "pod", "web", "--grace-period=0", "--force")


def test_a_cut_from_the_master_leaves_the_machines_to_each_other(lab, links, whole):
    made = fault(lab, "cut", "minion-1", "--to", "master")
    assert not links.reaches("minion-1", MASTER, 6443)
    assert links.reaches("minion-1", ADDRESS["minion-2"]) and links.reaches("minion-2", MASTER, 6443)
    heal(lab, made)
    assert links.reaches("minion-1", MASTER, 6443)


def test_a_whole_link_is_cut_and_healed_when_its_time_is_over(lab, links, whole):
    made = fault(lab, "cut", "minion-1", "--for", f"{8 * PATIENCE:g}s")
    assert not links.reaches("minion-1", ADDRESS["minion-2"])
    wait(lambda: phase(lab, made["metadata"]["name"]) == "Healed", "it is healed without anybody's word", 10)
    assert links.reaches("minion-1", ADDRESS["minion-2"])


def test_what_this_kernel_lacks_is_refused_before_anything_is_touched(lab, links, whole, state):
    before = links.host_side(state / "s")
    done = lab.labctl("fault", "delay", "minion-1", "-p", "time=50ms", check=False)
    if done.returncode == 0:
        assert 0.09 < links.round_trip_s("minion-1", ADDRESS["minion-2"]) < 0.2, "this kernel has netem: 50 ms each way"
        return
    assert done.returncode == 1
    assert (
        done.stderr
        == "labctl: refused: this host's kernel has no netem, which delays and duplicates packets: modprobe sch_netem, or another kernel\n"
    )
    assert links.host_side(state / "s") == before


def test_a_master_that_is_killed_in_the_middle_heals_what_is_overdue(lab, links, whole):
    pid = master_pid(lab)
    made = fault(lab, "loss", "minion-1", "-p", "share=100%", "--to", "minion-2", "--for", f"{5 * PATIENCE:g}s")
    kill_master(pid)
    assert not links.reaches("minion-1", ADDRESS["minion-2"]), "nobody is there to heal it"
    lab.labctl("get", "faults")  # starts a master
    wait(lambda: phase(lab, made["metadata"]["name"]) == "Healed", "the next master heals it", 10)
    assert links.reaches("minion-1", ADDRESS["minion-2"])


# -- machines ------------------------------------------------------------------------------------------------------------------------------


def test_a_power_off_is_healed_by_a_boot(lab):
    made = fault(lab, "power-off", "minion-1", "--for", f"{6 * PATIENCE:g}s")
    wait(lambda: lab.status()["machines"][0]["power"] == "Off", "it is off", 5)
    wait(lambda: phase(lab, made["metadata"]["name"]) == "Healed", "its time is over", 10)
    wait(lambda: condition(lab.get("node", "minion-1"), "Ready") == "True", "it is Ready again", 30)
    events = lab.kubectl("get", "events", "--field-selector", "involvedObject.name=minion-1").stdout
    assert "FaultInjected" in events and "FaultHealed" in events


def test_a_reset_boots_the_machine_again(lab):
    before = lab.get("machine", "minion-1")["status"]["bootID"]
    made = fault(lab, "reset", "minion-1")
    assert made["status"]["phase"] == "Healed"
    wait(lambda: lab.get("machine", "minion-1")["status"]["bootID"] not in ("", before), "it has another boot id", 20)


def test_a_paused_machine_stands_still_until_it_is_healed(lab, links):
    made = fault(lab, "pause", "minion-1")
    wait(lambda: lab.status()["machines"][0]["power"] == "Paused", "it is paused", 5)
    refused = lab.labctl("fault", "pause", "minion-1", check=False)
    assert refused.returncode == 1 and refused.stderr.startswith("labctl: refused: fault pause-minion-1-")
    lab.labctl("fault", "resume", "minion-1")
    assert phase(lab, made["metadata"]["name"]) == "Healed"
    assert lab.on("minion-1", "echo", "here").stdout == "here\n"


def test_what_can_not_be_done_says_why_in_one_line(lab):
    for words, status, said in [
        (("pause", "minion-9"), 1, "labctl: refused: there is no machine minion-9: there are minion-1, minion-2\n"),
        (("loss", "minion-1", "-p", "share=10"), 2, "must be a share in percent"),
        (("pause", "minion-1", "--for", "10"), 2, "must be a duration with its unit"),
        (("reset", "minion-1", "--for", "10s"), 2, "is over as soon as it happened"),
    ]:
        done = lab.labctl("fault", *words, check=False)
        assert done.returncode == status and said in done.stderr and done.stderr.count("\n") <= 1, done


# -- the API and the master ------------------------------------------------------------------------------------------------------------------


def test_a_client_is_refused_and_can_still_heal_that(lab):
    made = fault(lab, "api-refuse", "client/labctl-admin", "-p", "code=500", "--for", "60s")
    refused = lab.kubectl("get", "--raw", "/api/v1/nodes", check=False)
    assert refused.returncode == 1 and "fault api-refuse-labctl-admin-" in refused.stderr, refused.stderr
    assert made["metadata"]["name"] in lab.labctl("fault", "list").stdout
    heal(lab, made)
    assert lab.items("nodes")


def test_an_agent_that_is_refused_is_noticed(lab):
    made = fault(lab, "api-refuse", "client/system:node:minion-2", "-p", "code=429", "--for", f"{4 * PATIENCE:g}s")
    before = renewed(lab, "minion-2")
    wait(lambda: phase(lab, made["metadata"]["name"]) == "Healed", "its time is over", 10)
    wait(lambda: renewed(lab, "minion-2") != before, "its lease is renewed again", 20)


def test_a_client_waits_for_its_answers(lab):
    made = fault(lab, "api-delay", "client/labctl-admin", "-p", "time=700ms")
    began = time.monotonic()
    lab.kubectl("get", "--raw", "/api/v1/nodes")
    assert time.monotonic() - began > 0.7
    heal(lab, made)


def test_an_api_fault_outlives_the_master(lab):
    pid = master_pid(lab)
    made = fault(lab, "api-refuse", "client/labctl-admin", "-p", "code=500")
    kill_master(pid)
    lab.labctl("fault", "list")  # starts a master
    wait(lambda: lab.kubectl("get", "--raw", "/api/v1/nodes", check=False).returncode == 1, "the new master refuses too", 10)
    heal(lab, made)
    assert lab.items("nodes")


def test_the_master_is_killed_once_and_started_by_the_next_command(lab):
    before = lab.status()["master"]["pid"]
    said = lab.labctl("fault", "kill-process", "master", "-p", "process=master").stdout
    assert said.startswith("the master was killed")
    assert not lab.status()["master"]["running"]
    lab.labctl("fault", "list")
    assert lab.status()["master"]["pid"] not in (0, before)
    [made] = [each for each in lab.items("faults") if each["spec"]["type"] == "kill-process"]
    wait(lambda: phase(lab, made["metadata"]["name"]) == "Healed", "the new master knows it", 10)
    assert lab.status()["master"]["running"]


def test_the_masters_ssh_process_is_killed_and_comes_again(lab):
    made = fault(lab, "kill-process", "master", "-p", "process=ssh")
    assert made["status"]["done"] == ["the master's SSH process was killed"]
    lab.kubectl("create", "service", "clusterip", "after-ssh", "--tcp=80")
    vip = lab.vip("after-ssh")
    wait(lambda: vip in lab.on("minion-1", "iptables-save").stdout, "rules reach the minions again", 20)
    lab.kubectl("delete", "service", "after-ssh")


def renewed(cluster, minion: str) -> str:
    return cluster.get("lease", minion, "-n", "kube-node-lease")["spec"]["renewTime"]
