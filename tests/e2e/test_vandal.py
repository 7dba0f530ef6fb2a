"""The vandal: root on minion-1 does a deed. The other minion serves on, the master and the host take no harm, and one of three commands mends it.

`make test` plays the eight deeds of `vandal.TELLING`; LABCTL_VANDAL=all plays the whole table, LABCTL_VANDAL='bin removed,no root' these: docs/testing.md.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time

import pytest

from tests.e2e import vandal
from tests.e2e.cluster import Cluster, condition, wait

SERVICE_S = 10.0
STATUS_S = 10.0
READY_S = 30
PATIENCE_S = 8.0
MENDS = ("up", "reset", "destroy")
WEB = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "labels": {"app": "web"}},
         "spec": {"nodeName": "minion-2", "containers": [{"name": "web", "image": "nginx"}]}},
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}},
    ],
}  # fmt: skip
PROBE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe"},
    "spec": {"nodeName": "minion-1", "containers": [{"name": "probe", "image": "busybox", "command": ["sleep", "1000"]}]},
}

pytestmark = pytest.mark.skipif(
    os.environ.get("LABCTL_TEST_PROVIDER", "namespace") != "namespace", reason="about machines that share the host's kernel"
)


def chosen() -> list[str]:
    said = os.environ.get("LABCTL_VANDAL", "")
    if not said:
        return list(vandal.TELLING)
    deeds = list(vandal.DEEDS) if said == "all" else said.split(",")
    random.Random(int(os.environ.get("LABCTL_SEED", "1"))).shuffle(deeds)
    return deeds


class Victim:
    """The lab, what the host was like before, and whether minion-1 is as it was made."""

    def __init__(self, lab: Cluster) -> None:
        self.lab = lab
        self.host, self.clock_s = vandal.host(), vandal.clock_s()
        self.fresh = True

    def renew(self) -> None:
        """Make minion-1 anew, unless nobody has been there: what one deed left would be the next one's harm."""
        if not self.fresh:
            self.lab.labctl("destroy", "minion-1", "--yes")
            self.lab.labctl("up", "--minions", "2")
        self.fresh = False

    def suffer(self, script: str) -> None:
        """The deed is done, or has cut off who does it. Then minion-1 speaks again, or its silence is noticed."""
        config = str(self.lab.folder / ".labctl" / "ssh_config")
        argv = ["ssh", "-F", config, "-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=2", "minion-1"]
        with subprocess.Popen(
            [*argv, "setsid sh -c 'cat >/tmp/.deed; sh /tmp/.deed' >/dev/null 2>&1"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        ) as ssh:  # fmt: skip
            try:
                ssh.communicate(vandal.PRELUDE + script + "\n", timeout=20)
            except subprocess.TimeoutExpired:
                ssh.kill()
        before = self._lease()
        wait(lambda: self._lease() != before or self._ready() != "True", "minion-1 speaks, or its silence is noticed", 60)

    def _lease(self) -> str:
        leases = self.lab.items("leases", "-n", "kube-node-lease")
        return next((one["spec"]["renewTime"] for one in leases if one["metadata"]["name"] == "minion-1"), "")

    def _ready(self) -> str:
        return condition(self.lab.get("node", "minion-1"), "Ready")

    def serves(self, minion: str, within_s: float = SERVICE_S) -> None:
        vip = self.lab.vip("web")
        wait(lambda: "Welcome to nginx" in self.lab.curl(minion, vip, check=False), f"the virtual IP answers on {minion}", within_s)

    def mended(self, first: str) -> str:
        """Return the first of the commands, from `first` on, after which minion-1 is whole. Each that did not help has named the next one."""
        tried = []
        for step in MENDS[MENDS.index(first) :]:
            if step == "reset":
                self.lab.labctl("fault", "reset", "minion-1", check=False)
            if step == "destroy":
                self.lab.labctl("destroy", "minion-1", "--yes")
                self.fresh = True
            up = self.lab.labctl("up", "--minions", "2", check=False)
            assert up.returncode == 0 or up.stderr.strip().splitlines()[-1].startswith("labctl: minion-1: "), up.stderr
            assert up.returncode == 0 or "`labctl destroy minion-1` and `labctl up --minions 2`" in up.stderr, up.stderr
            why = up.stderr[-300:] if up.returncode else self._broken()
            if not why:
                return step
            tried.append((step, why))
        raise AssertionError(f"nothing mends it: {tried}")

    def _broken(self) -> str:
        """Return what minion-1 can't do: run a new pod, be reached, reach Services."""
        try:
            self.lab.kubectl("delete", "pod", "probe", "--force", "--grace-period=0", "--ignore-not-found", check=False)
            self.lab.kubectl("create", "-f", "-", input=json.dumps(PROBE))
            wait(lambda: condition(self.lab.get("pod", "probe"), "Ready") == "True", "a pod runs on minion-1", PATIENCE_S)
            assert self.lab.kubectl("exec", "probe", "--", "echo", "here", timeout_s=10).stdout == "here\n"
            self.serves("minion-1", PATIENCE_S)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            return str(error)[:300]
        return ""

    def host_changes(self) -> list[str]:
        now = vandal.host()
        changed = [
            f"{key}: {self.host.get(key)!r} is {now.get(key)!r}" for key in {**self.host, **now} if self.host.get(key) != now.get(key)
        ]
        return changed + (["its clock was set"] if abs(vandal.clock_s() - self.clock_s) > 0.5 else [])


@pytest.fixture(scope="module")
def victim(new_cluster, images):
    lab = new_cluster("vandal", LABCTL_READY_S=str(READY_S))
    lab.labctl("up", "--minions", "2", "--timing", "lab", timeout_s=300)
    lab.kubectl("create", "-f", "-", input=json.dumps(WEB))
    wait(lambda: len(lab.ready_pods("app=web")) == 1, "the Service's pod is Ready", 40)
    yield Victim(lab)
    lab.destroy()


@pytest.mark.parametrize("name", chosen())
def test_a_deed(victim, name):
    victim.renew()
    log = victim.lab.folder / ".labctl" / "log" / "master.log"
    begin = log.stat().st_size
    victim.suffer(vandal.DEEDS[name])
    victim.serves("minion-2")
    said = victim.lab.labctl("status", timeout_s=STATUS_S).stdout
    assert all(c.isprintable() or c == "\n" for c in said), repr(said)
    begun = time.monotonic()
    mend = victim.mended(vandal.MENDED_BY.get(name, "up"))
    print(f"{name}: {mend}, {time.monotonic() - begun:.0f} s")
    assert mend == vandal.MENDED_BY.get(name, "up")
    victim.serves("minion-2")
    with log.open("rb") as file:
        file.seek(begin)
        told = file.read().decode(errors="replace")
    assert "Traceback" not in told, told[-3000:]
    assert victim.host_changes() == []
