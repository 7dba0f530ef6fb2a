"""`--timing lab`: a silent minion is given up within seconds if its peers do not hear it either; a master that hears nobody gives nobody up."""

import os
import time

import pytest

from tests.e2e.cluster import PATIENCE, SEED, condition, crowded, wait
from tests.e2e.hosts import VIRTUAL

MINIONS = ("minion-1", "minion-2") if VIRTUAL else ("minion-1", "minion-2", "minion-3")
EXISTING = os.environ.get("LABCTL_TEST_PROVIDER") == "ssh"  # such machines have no power to switch, and a cable that only they can pull
CUT_S = 16  # a look takes 2.5 s and two commands, and must fall into it on a busy host too


@pytest.fixture(scope="module")
def lab(new_cluster, images):
    """Made with Kubernetes' timing, and changed while it lives."""
    cluster = new_cluster("timing")
    cluster.labctl("up", "--minions", str(len(MINIONS)), timeout_s=600)
    cluster.labctl("up", "--timing", "lab", timeout_s=600)
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    wait(lambda: len(cluster.ready_pods()) == 2, "both pods are ready", 40)
    yield cluster
    cluster.destroy()


def heard(lab) -> dict:
    """What each minion says of its peers."""
    return {
        lease["metadata"]["name"]: (lease["metadata"].get("annotations") or {}).get("labctl.internal/heard", "")
        for lease in lab.items("leases", "-n", "kube-node-lease")
    }


def everybody_hears_everybody(lab) -> bool:
    said = heard(lab)
    return all(all(f"{peer}=" in said.get(name, "") for peer in MINIONS if peer != name) for name in MINIONS)


def silent_s(said: str, name: str) -> float:
    return next((float(word.partition("=")[2]) for word in said.split() if word.startswith(f"{name}=")), -1.0)


def verdicts(lab) -> int:
    """How often the master gave a node up so far."""
    return sum(
        event.get("count") or 1
        for event in lab.items("events")
        if event["reason"] == "NodeNotReady" and event["involvedObject"]["kind"] == "Node"
    )


def test_a_living_lab_takes_the_timing_over_and_minions_hear_each_other(lab):
    assert "lab" in lab.labctl("config").stdout
    wait(lambda: everybody_hears_everybody(lab), "each minion hears both others", 30)
    assert all(silent_s(said, peer) < 1.5 * PATIENCE * crowded() for name, said in heard(lab).items() for peer in MINIONS if peer != name)


def deaf_and_dumb(lab, minion: str, which: str = "", seconds: float = CUT_S) -> None:
    """In a second nothing that matches `which` goes out of the machine or comes in, for as long as the fault lasts; the machine does it itself."""
    rules = [f"OUTPUT {which} -j DROP"] if which else ["OUTPUT ! -o lo -j DROP", "INPUT ! -i lo -j DROP"]
    begin, end = ("; ".join(f"iptables {word} {rule}" for rule in rules) for word in ("-I", "-D"))
    lab.on(minion, "sh", "-c", f"nohup sh -c 'sleep 1; {begin}; sleep {seconds:g}; {end}' >/dev/null 2>&1 &")


@pytest.mark.parametrize("fault", [pytest.param("pause", marks=pytest.mark.skipif(EXISTING, reason="it has no power to switch")), "cut"])
def test_a_silent_minion_loses_its_place_and_its_pods_within_seconds(lab, fault):
    wait(lambda: everybody_hears_everybody(lab), "each minion hears both others", 30)
    wait(lambda: len(lab.ready_pods()) == 2 and not any(n["spec"].get("taints") for n in lab.items("nodes")), "all is well", 30)
    victim = lab.ready_pods()[0]
    name, address = victim["spec"]["nodeName"], victim["status"]["podIP"]
    if EXISTING:
        deaf_and_dumb(lab, name)
    else:
        lab.labctl("fault", fault, name)
    began = time.monotonic()

    def addresses() -> set:
        return {a["ip"] for subset in lab.get("endpoints", "web-service").get("subsets") or [] for a in subset.get("addresses") or []}

    wait(lambda: address not in addresses(), "the endpoint is gone", 10)
    out_s = time.monotonic() - began
    wait(lambda: len([p for p in lab.ready_pods() if p["spec"]["nodeName"] != name]) == 2, "a replacement is ready", 10)
    back_s = time.monotonic() - began
    print(f"{fault}: endpoint gone after {out_s:.1f} s, replacement ready after {back_s:.1f} s")
    slow = PATIENCE * min(3.0, crowded())  # without peers it is 40 s
    assert out_s < 4 * slow and back_s < 6 * slow
    if not EXISTING:
        lab.labctl("fault", "resume" if fault == "pause" else "restore", name)
    wait(lambda: condition(lab.get("node", name), "Ready") == "True", "it is back", 30)


@pytest.mark.skipif(VIRTUAL, reason="the rule is the same; namespace machines show it sooner")
def test_a_master_that_is_cut_off_gives_nobody_up(lab):
    wait(lambda: everybody_hears_everybody(lab), "each minion hears both others", 30)
    wait(lambda: len(lab.ready_pods()) == 2 and not any(n["spec"].get("taints") for n in lab.items("nodes")), "all is well", 30)
    pods, before = {p["metadata"]["uid"] for p in lab.ready_pods()}, verdicts(lab)
    for minion in MINIONS:
        deaf_and_dumb(lab, minion, "-d 10.245.1.1")

    def renewed() -> dict:
        return {lease["metadata"]["name"]: lease["spec"]["renewTime"] for lease in lab.items("leases", "-n", "kube-node-lease")}

    wait(lambda: (seen := renewed(), time.sleep(2.5), seen == renewed())[2], "the master hears nobody", 10)
    began, quiet = time.monotonic(), renewed()
    wait(lambda: all(renewed()[name] != at for name, at in quiet.items()), "the master hears all again", 30)
    assert time.monotonic() - began > 1, "it was cut off"
    wait(lambda: everybody_hears_everybody(lab), "each minion hears both others", 30)
    assert verdicts(lab) == before
    assert {p["metadata"]["uid"] for p in lab.ready_pods()} == pods
