"""The timeline of a real power cut under load: each step is there, in causal order, once for each minion that has rules, and fits what the requests say."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.e2e.cluster import PATIENCE, SEED, crowded, wait


@pytest.fixture(scope="module")
def lab(cluster):
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    cluster.kubectl("scale", "rc", "nginx-controller", "--replicas=4")
    wait(lambda: len(cluster.ready_pods()) == 4, "four pods are Ready", 60)
    return cluster


def timeline(lab, what):
    return json.loads(lab.labctl("timeline", what, "-o", "json").stdout)


@contextmanager
def measuring(lab, *words):
    """Requests by `labctl measure` until the block ends. The lab keeps them for its timelines."""
    argv = [sys.executable, "-m", "labctl", "measure", *words]
    pipe = subprocess.PIPE
    heeds_ctrl_c = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 - a shell's background job ignores it
    client = subprocess.Popen(
        argv, cwd=lab.folder, env=lab.environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, preexec_fn=heeds_ctrl_c
    )
    try:
        seen = [client.stderr.readline() for _ in range(2)]
        assert "   1 s  " in seen[1], seen
        yield
        client.send_signal(signal.SIGINT)
        out, err = client.communicate(timeout=30 * PATIENCE)
        assert client.returncode == 0 and out.strip(), err
    finally:
        client.kill()
        client.wait()


def count(told, what):
    return len([mark for mark in told["marks"] if mark["what"] == what])


def first(told, what, where=None):
    return next(mark["at_s"] for mark in told["marks"] if mark["what"] == what and where in (None, mark.get("where")))


def test_a_power_cut_under_load(lab):
    lost = [pod["metadata"]["name"] for pod in lab.ready_pods() if pod["spec"]["nodeName"] == "minion-2"]
    assert lost, "some pods are on the machine that will lose its power"
    with measuring(lab, "web-service", "--from", "minion-1", "--rate", "200"):
        lab.labctl("fault", "power-off", "minion-2")
        wait(lambda: [pod["spec"]["nodeName"] for pod in lab.ready_pods()] == ["minion-1"] * 4, "four run elsewhere", 10)
        [fault] = [each["metadata"]["name"] for each in lab.items("faults")]
        wait(lambda: (t := timeline(lab, fault)) and min(count(t, "in-vip"), count(t, "started")) >= len(lost) and t, "in the VIP")
    told = timeline(lab, fault)
    assert count(told, "known") >= 1 and "provider" in [mark["by"] for mark in told["marks"] if mark["what"] == "known"]
    assert count(told, "rules") >= 1 and {mark["where"] for mark in told["marks"] if mark["what"] in ("rules", "in-vip")} == {"minion-1"}
    assert [count(told, what) for what in ("evicted", "decided", "scheduled", "image", "started", "ready", "in-vip")] == [len(lost)] * 7
    order = ["injected", "known", "endpoint-removed", "rules"]
    chain = ["fenced", "evicted", "decided", "scheduled", "image", "started", "ready", "in-vip"]
    for row in (order, ["injected", "known", *chain]):
        times = [first(told, what) for what in row]
        assert times == sorted(times), list(zip(row, times, strict=True))
    revisions = {mark["rev"] for mark in told["marks"] if mark.get("rev")}
    assert [mark for mark in told["marks"] if mark.get("cause", 0) not in {0, *revisions}] == [], "each cause is a mark of the timeline"
    assert all(mark.get("cause") for mark in told["marks"] if mark["what"] in ("decided", "scheduled", "rules"))
    figures = told["figures"]
    slow = PATIENCE * crowded()
    assert 0 < figures["reaction_s"] < 2 * slow and 0 < figures["repair_s"] < 10 * slow
    removed = max(mark["at_s"] for mark in told["marks"] if mark["what"] == "rules")
    assert figures["requests"] > 100 and figures["unsent"] < 20, figures
    assert figures["outage_s"] < max(0.5, 3 * removed) * slow, "who asked waited no longer than the rules took"
    outage_s = figures["reaction_s"] + figures["recovery_s"]
    assert figures["outage_s"] == pytest.approx(outage_s) or (figures["recovery_s"] == 0 and figures["outage_s"] < outage_s)
    assert set(figures["longest_gap_s"]) == {"minion-1"} and (count(told, "first-failure") == 1) == (figures["failed"] > 0)
    same = timeline(lab, "machine/minion-2")
    own = ("injected", "known", "first-failure", "first-answer")  # these depend on when it began

    def steps(told):
        return [(mark["what"], mark.get("about")) for mark in told["marks"] if mark["what"] not in own]

    assert steps(same) == steps(told), "nobody has to have injected it through labctl"
    text = lab.labctl("timeline", fault).stdout
    print(text)
    assert "power-off of minion-2" in text and "reaction" in text


def test_a_killed_container_is_told_by_its_agent(lab):
    lab.labctl("up")
    wait(lambda: len(lab.ready_pods()) == 4, "four pods are Ready", 60)
    name = lab.ready_pods()[0]["metadata"]["name"]
    lab.kubectl("exec", name, "--", "sh", "-c", "kill 1", check=False)

    def whole(told):
        """Its agent may report the end and the new start as one change: then the endpoint never left."""
        left, back = count(told, "endpoint-removed"), {mark["where"] for mark in told["marks"] if mark["what"] == "in-vip"}
        return count(told, "ready") and count(told, "started") and (not left or back == {"minion-1", "minion-2"})

    told = wait(lambda: (t := timeline(lab, f"pod/{name}")) and whole(t) and t, "it is back in the VIP", 40)
    assert {mark["by"] for mark in told["marks"] if mark["what"] == "known"} <= {"agent", "probe"}
    assert told["figures"]["repair_s"] is not None and first(told, "started") <= first(told, "ready")


def test_after_the_master_was_killed_the_timeline_is_still_there(lab):
    """The fault and the kill of the master come one right after the other: what had been noted was in the file."""
    lab.labctl("fault", "power-off", "minion-2")
    wait(lambda: [pod["spec"]["nodeName"] for pod in lab.ready_pods()] == ["minion-1"] * 4, "four run elsewhere", 10)
    before = timeline(lab, "machine/minion-2")
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    after = timeline(lab, "machine/minion-2")
    key = lambda told: [(mark["what"], mark["at_s"], mark.get("about")) for mark in told["marks"]]  # noqa: E731
    assert key(after)[: len(before["marks"])] == key(before)


def test_what_is_no_fault_is_one_line(lab):
    for words in (
        ["timeline", "nothing"],
        ["timeline", "tree/oak"],
        ["timeline", "machine/minion-9"],
        ["timeline", "x", "--measurement", "lab.yml"],
    ):
        done = lab.labctl(*words, check=False)
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) <= 4


def traced(lab, *words):
    return json.loads(lab.labctl("trace", *words, "-o", "json").stdout)


def test_a_packet_through_the_real_rules(lab):
    """The shares of the ready pods, live counters, a client's open connection, a pod that asks, and a flushed table."""
    lab.labctl("up")
    wait(lambda: len(lab.ready_pods()) == 4, "four pods are Ready", 60)
    addresses = {pod["status"]["podIP"] for pod in lab.ready_pods()}
    before = wait(
        lambda: (t := traced(lab, "web-service", "--from", "minion-1")) and {e["address"] for e in t["walk"]["ends"]} == addresses and t,
        "its rules",
    )
    assert [round(end["probability"], 3) for end in before["walk"]["ends"]] == [0.25] * 4 and before["service"] == "default/web-service"
    assert before["walk"]["differences"] == [] and before["walk"]["wanted"]
    for _ in range(8):
        lab.curl("minion-1", lab.vip())
    after = traced(lab, f"{lab.vip()}:80", "--from", "minion-1")
    new = lambda told: sum(end["new_connections"] for end in told["walk"]["ends"])  # noqa: E731
    assert new(after) - new(before) >= 8
    pod = lab.ready_pods()[0]
    from_pod = traced(lab, lab.vip(), "--from", f"pod/{pod['metadata']['name']}")
    assert from_pod["walk"]["steps"][0]["chain"] == "PREROUTING" and from_pod["walk"]["at"] == pod["spec"]["nodeName"]
    text = lab.labctl("trace", "web-service").stdout
    assert "25.0%" in text and "are as wanted" in text and "The way back" in text
    flushed = lab.on("minion-1", "sh", "-c", "iptables -t nat -F LABCTL-SERVICES; iptables-save -t nat | grep -c LABCTL-SERVICES")
    assert int(flushed.stdout) > 0
    wait(
        lambda: (
            any("- nat LABCTL-SERVICES" in line for line in traced(lab, "web-service", "--from", "minion-1")["walk"]["differences"])
            or repaired(lab)
        ),
        "seen",
    )
    wait(lambda: traced(lab, "web-service", "--from", "minion-1")["walk"]["differences"] == [], "the proxy mends it", 10)
    story = wait(
        lambda: (t := timeline(lab, "machine/minion-1")) and [m["by"] for m in t["marks"] if m["what"] == "known"] == ["digest"] and t,
        "told",
    )
    assert story["figures"]["reaction_s"] == 0.0


def repaired(lab):
    """The proxy may be quicker than who looks."""
    return "repaired" in (lab.folder / ".labctl" / "journal.jsonl").read_text()


def test_a_policy_on_the_way_is_told_by_the_minion_that_refuses(lab):
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "nobody"}}
    policy["spec"] = {"podSelector": {"matchLabels": {"name": "nginx"}}, "policyTypes": ["Ingress"]}
    lab.kubectl("create", "-f", "-", input=json.dumps(policy))
    there = lab.ready_pods()[0]["spec"]["nodeName"]  # the scenarios before may have moved all of them to one minion
    here = next(minion for minion in ("minion-1", "minion-2") if minion != there)

    def refused():
        ends = [end for end in traced(lab, "web-service", "--from", here)["walk"]["ends"] if end["node"] == there]
        return ends and all("refused there" in end["policy"] for end in ends)

    wait(refused, f"{there} lets nobody in")
    assert "NetworkPolicy nobody says who may connect to 4 of them" in lab.labctl("why", "svc/web-service").stdout
    lab.kubectl("delete", "networkpolicy", "nobody")


def test_what_can_not_be_traced_is_one_line(lab):
    lab.kubectl("create", "service", "clusterip", "headless", "--clusterip=None")
    lab.kubectl("create", "service", "externalname", "elsewhere", "--external-name", "example.org")
    for words, said in (
        (["headless"], "headless"),
        (["elsewhere"], "another name"),
        (["nobody"], "not found"),
        (["web-service:99"], "has no port 99"),
        (["web-service", "--from", "nobody"], "no minion nobody"),
        (["10.247.0.10:x"], "'x' is no port"),
        (["web-service/"], "names no Service"),
        (["300.1.1.1"], "'300.1.1.1' is no IPv4 address"),
        (["web-service", "--protocol", "udp"], "has no port"),
    ):
        done = lab.labctl("trace", *words, check=False)
        assert done.returncode in (1, 2) and said in done.stderr and len(done.stderr.strip().splitlines()) <= 2, done.stderr
    refused = traced(lab, "10.247.0.99:80")
    assert [end["verdict"] for end in refused["walk"]["ends"]] == ["REJECT"]
