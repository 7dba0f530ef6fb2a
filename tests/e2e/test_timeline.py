"""The timeline of a real power cut under load: each step is there, in causal order, once for each minion that has rules, and fits what the requests say."""

import json

import pytest

from tests.e2e.cluster import PATIENCE, SEED, requests, wait


@pytest.fixture(scope="module")
def lab(cluster):
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    cluster.kubectl("scale", "rc", "nginx-controller", "--replicas=4")
    wait(lambda: len(cluster.ready_pods()) == 4, "four pods are Ready", 60)
    return cluster


def timeline(lab, what):
    return json.loads(lab.labctl("timeline", what, "-o", "json").stdout)


def count(told, what):
    return len([mark for mark in told["marks"] if mark["what"] == what])


def first(told, what, where=None):
    return next(mark["at_s"] for mark in told["marks"] if mark["what"] == what and where in (None, mark.get("where")))


def test_a_power_cut_under_load(lab):
    lost = [pod["metadata"]["name"] for pod in lab.ready_pods() if pod["spec"]["nodeName"] == "minion-2"]
    assert lost, "some pods are on the machine that will lose its power"
    with requests(lab, "minion-1", lab.vip(), rate=200) as load:
        lab.labctl("fault", "power-off", "minion-2")
        wait(lambda: [pod["spec"]["nodeName"] for pod in lab.ready_pods()] == ["minion-1"] * 4, "four run elsewhere", 10)
        [fault] = [each["metadata"]["name"] for each in lab.items("faults")]
        told = wait(lambda: (t := timeline(lab, fault)) and min(count(t, "in-vip"), count(t, "started")) >= len(lost) and t, "in the VIP")
    assert count(told, "known") >= 1 and "provider" in [mark["by"] for mark in told["marks"] if mark["what"] == "known"]
    assert count(told, "rules") >= 1 and {mark["where"] for mark in told["marks"] if mark["what"] in ("rules", "in-vip")} == {"minion-1"}
    assert [count(told, what) for what in ("evicted", "decided", "scheduled", "image", "started", "ready", "in-vip")] == [len(lost)] * 7
    order = ["injected", "known", "endpoint-removed", "rules"]
    chain = ["fenced", "evicted", "decided", "scheduled", "image", "started", "ready", "in-vip"]
    for row in (order, ["injected", "known", *chain]):
        times = [first(told, what) for what in row]
        assert times == sorted(times), list(zip(row, times, strict=True))
    revisions = {mark["rev"] for mark in told["marks"] if mark.get("rev")}
    assert all(mark["cause"] in revisions for mark in told["marks"] if mark["what"] in ("decided", "scheduled", "rules"))
    figures = told["figures"]
    assert 0 < figures["reaction_s"] < 2 * PATIENCE and 0 < figures["repair_s"] < 10 * PATIENCE
    removed = max(mark["at_s"] for mark in told["marks"] if mark["what"] == "rules")
    assert load["longest_ms"] / 1000 < max(0.5, 3 * removed) * PATIENCE, "who asked waited no longer than the rules took"
    same = timeline(lab, "machine/minion-2")
    steps = lambda told: [(mark["what"], mark.get("about")) for mark in told["marks"] if mark["what"] not in ("injected", "known")]  # noqa: E731
    assert steps(same) == steps(told), "nobody has to have injected it through labctl"
    text = lab.labctl("timeline", fault).stdout
    assert "power-off of minion-2" in text and "reaction" in text


def test_a_killed_container_is_told_by_its_agent(lab):
    lab.labctl("up")
    wait(lambda: len(lab.ready_pods()) == 4, "four pods are Ready", 60)
    name = lab.ready_pods()[0]["metadata"]["name"]
    lab.kubectl("exec", name, "--", "sh", "-c", "kill 1", check=False)
    told = wait(
        lambda: (t := timeline(lab, f"pod/{name}")) and any(m["what"] == "in-vip" for m in t["marks"]) and t, "it is back in the VIP", 40
    )
    whats = [mark["what"] for mark in told["marks"]]
    assert "agent" in [mark["by"] for mark in told["marks"] if mark["what"] == "known"]
    for step in ("endpoint-removed", "rules", "started", "ready", "in-vip"):
        assert step in whats, told
    assert {mark["where"] for mark in told["marks"] if mark["what"] == "in-vip"} == {"minion-1", "minion-2"}


def test_after_the_master_was_killed_the_timeline_is_still_there(lab):
    """The fault and the kill of the master come one right after the other: what had been noted was in the file."""
    import os
    import signal

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
