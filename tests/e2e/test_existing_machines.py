"""Machines that exist already (provider ssh), in both uplinks: the article's scenario on machines labctl does not own, and no trace of it afterwards.

Through the reverse uplink one of them is reached as a user with sudo. Everything runs inside the machines' network, as on a host of that network.
The same machines are taken once for each uplink, as whoever tries the other one would: what one lab leaves, the next would meet.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE, SEED, Cluster, wait
from tests.existing import GATEWAY, Rack, package

STATE = """
find / -xdev \\( -path /proc -o -path /sys -o -path /tmp -o -path /dev -o -path /var/log/journal \\) -prune -o -printf '%p %M %u\\n' | sort
iptables-save | grep -e '^-' -e '^:.* - '
ip rule; ip route; ip -o link | cut -d: -f2; ls /run/netns 2>/dev/null
cut -d' ' -f2 /proc/mounts
find /sys/fs/cgroup -type d
grep . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/send_redirects
find /run/systemd -name '*labctl*' 2>/dev/null
systemctl list-units --all --plain --no-legend 'labctl-agent*' 2>/dev/null
ps -eo args= | grep -v -e '^\\[' -e sshd -e ps -e grep -e sort -e 'sh -c'
exit 0
"""
"""All that could be a trace. Kept are names, kinds and owners; a log may have grown."""


@pytest.fixture(scope="module", params=["direct", "reverse"])
def uplink(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def rack(tmp_path_factory, provider_cache):
    rack = Rack(tmp_path_factory.mktemp("rack"), provider_cache)
    yield rack
    rack.close()


@pytest.fixture(scope="module")
def user(uplink, rack, provider_cache) -> dict[str, str]:
    """Who logs in to minion-2, as lab.yml would have it."""
    if uplink == "direct":
        return {}
    rack.add_user("minion-2", "pi", package(provider_cache, "sudo"))
    return {"user": "pi"}


@pytest.fixture(scope="module")
def before(rack, user) -> dict[str, list[str]]:
    return look_at(rack)


@pytest.fixture(scope="module")
def cluster(uplink, rack, user, before, new_cluster, images):
    cluster = new_cluster(f"existing-{uplink}", inside=tuple(rack.inside), LABCTL_PROVIDER="auto")
    machines = [rack.entry("minion-1", host_key=rack.machines["minion-1"].host_key), rack.entry("minion-2", **user)]
    slow = {"pods": {"drain_s": 5 * PATIENCE}} if PATIENCE > 1 else {}
    settings = {"machines": machines, **slow, **({"uplink": "reverse"} if uplink == "reverse" else {})}
    (cluster.folder / "lab.yml").write_text(json.dumps(settings))  # JSON is YAML
    cluster.said = cluster.labctl("up", timeout_s=300).stderr
    yield cluster
    cluster.destroy()


@pytest.fixture(scope="module")
def seeded(cluster):
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    wait(lambda: len(cluster.ready_pods()) == 2, "two pods are Ready")
    return cluster


def look_at(rack: Rack) -> dict[str, list[str]]:
    return {name: rack.on(name, STATE).splitlines() for name in rack.machines}


def both_answer(cluster: Cluster) -> None:
    for minion in ("minion-1", "minion-2"):
        wait(lambda m=minion: "Welcome to nginx" in cluster.curl(m, cluster.vip(), check=False), f"{minion} reaches the virtual IP")


def test_the_machines_become_nodes_with_their_own_addresses(cluster, rack, uplink):
    nodes = {node["metadata"]["name"]: node for node in cluster.items("nodes")}
    addresses = {n: next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP") for n, node in nodes.items()}
    assert addresses == {"minion-1": "10.245.1.11", "minion-2": "10.245.1.12"}
    expected = f"https://{GATEWAY}:6443" if uplink == "direct" else "https://127.0.0.1:6443"
    assert json.loads(rack.on("minion-1", "cat /etc/labctl/agent.json"))["url"] == expected


def test_a_host_key_that_lab_yml_gives_is_not_learned_and_one_that_it_does_not_give_is_said(cluster):
    assert "minion-2: pinned its SSH host key on first use" in cluster.said
    assert "minion-1: pinned" not in cluster.said


def test_the_articles_scenario(seeded):
    both_answer(seeded)
    assert {pod["spec"]["nodeName"] for pod in seeded.ready_pods()} == {"minion-1", "minion-2"}
    for pod in seeded.ready_pods():
        name = pod["metadata"]["name"]
        assert seeded.kubectl("exec", name, "--", "hostname").stdout.strip() == name
        assert "start worker process" in seeded.kubectl("logs", name).stdout


def test_service_kubernetes_leads_minions_and_pods_to_the_api(seeded):
    for minion in ("minion-1", "minion-2"):
        assert '"minor": "37"' in seeded.curl(minion, "https://10.247.0.1/version", "-k")
    seeded.kubectl("run", "asker", "--image=busybox", "--", "sleep", "600")
    seeded.kubectl("wait", "--for=condition=Ready", "pod/asker", "--timeout=30s")
    seeded.kubectl("exec", "asker", "--", "sh", "-c", "nc -w 3 10.247.0.1 443 </dev/null")


def test_a_lost_master_comes_back_to_the_same_machines(seeded):
    pods = {pod["metadata"]["uid"] for pod in seeded.ready_pods()}
    seeded._run(["kill", "-9", str(seeded.status()["master"]["pid"])], True, 10, {})
    seeded.labctl("up", timeout_s=120)
    assert {pod["metadata"]["uid"] for pod in seeded.ready_pods()} == pods
    both_answer(seeded)


def test_halt_ends_agent_and_pods_and_up_goes_on(seeded, rack):
    seeded.labctl("halt", "minion-2")
    assert "conmon" not in rack.on("minion-2", "ps", "-eo", "args=")
    assert "LABCTL" not in rack.on("minion-2", "iptables-save")
    wait(lambda: [p["spec"]["nodeName"] for p in seeded.ready_pods()] == ["minion-1"] * 2, "both replicas are on the machine that is left")
    seeded.labctl("up", timeout_s=120)
    both_answer(seeded)


def test_a_machine_of_another_lab_is_left_alone(seeded, rack, new_cluster, uplink):
    other = new_cluster(f"other-{uplink}", inside=tuple(rack.inside), LABCTL_PROVIDER="ssh")
    (other.folder / "lab.yml").write_text(json.dumps({"machines": [rack.entry("minion-1")], "uplink": "reverse"}))
    failed = other.labctl("up", check=False, timeout_s=120)
    assert failed.returncode == 1
    assert "is in use by lab" in failed.stderr
    other.labctl("destroy", "--yes")
    both_answer(seeded)


def test_destroy_leaves_no_trace(seeded, rack, before):
    seeded.labctl("destroy", "--yes")
    after = look_at(rack)
    for name in rack.machines:
        assert sorted(set(after[name]) - set(before[name])) == []
        assert sorted(set(before[name]) - set(after[name])) == []


def test_a_changed_host_key_is_refused(rack, new_cluster, uplink, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    lab = new_cluster(f"key-{uplink}", inside=tuple(rack.inside), LABCTL_PROVIDER="ssh")
    wrong = (tmp_path / "other.pub").read_text().strip()
    (lab.folder / "lab.yml").write_text(json.dumps({"machines": [rack.entry("minion-1", host_key=wrong)]}))
    failed = lab.labctl("up", check=False)
    assert failed.returncode == 1
    assert "answered with another SSH host key than the pinned one" in failed.stderr
    assert not Path(lab.folder / ".labctl" / "lab.json").exists()
