"""`labctl smoke` as CI calls it: on a lab of its own, and on one that is there and has a fault."""

import json
from xml.etree import ElementTree

from tests.e2e.cluster import wait


def test_smoke_makes_a_lab_of_its_own_and_leaves_nothing(new_cluster, images):
    cluster = new_cluster("smoke")
    (cluster.folder / "lab.yml").write_text("memory: 512M\n")
    answer = cluster.labctl("smoke", "--minions", "2", "--junit", "out/smoke.xml", "--artifacts", "art", "-o", "json", timeout_s=380)
    told = json.loads(answer.stdout)
    assert told["passed"] and told["results"][-1]["name"] == "destroy leaves nothing"
    assert len(ElementTree.parse(cluster.folder / "out" / "smoke.xml").findall(".//testcase")) == len(told["results"])
    assert not (cluster.folder / ".labctl").exists() and not (cluster.folder / "art").exists()
    assert not list((cluster.folder.parent / "s").glob(f"{told['facts']['lab']}*"))


def test_smoke_in_a_lab_finds_its_fault_and_keeps_what_is_worth_a_look(cluster):
    cluster.kubectl("label", "node", "minion-1", "kubernetes.io/hostname-")
    answer = cluster.labctl("smoke", "--junit", "smoke.xml", "--artifacts", "art", check=False)
    assert answer.returncode == 1
    assert "node minion-1 lacks its label" in answer.stderr
    failure = ElementTree.parse(cluster.folder / "smoke.xml").find(".//failure")
    assert failure.get("message") == "node minion-1 lacks its label kubernetes.io/hostname"
    kept = {str(path.relative_to(cluster.folder / "art")) for path in (cluster.folder / "art").rglob("*")}
    assert {"master.log", "journal.jsonl", "objects/pods.json", "machines/minion-1/iptables.txt"} <= kept
    assert {"machines/minion-2/agent.log", "machines/minion-2/console.log"} <= kept
    wait(lambda: not [n for n in cluster.items("namespaces") if n["metadata"]["name"].startswith("labctl-smoke")], "its namespace is gone")
    assert [node["ready"] for node in cluster.status()["nodes"]] == ["True", "True"], "the person's lab is still there"
