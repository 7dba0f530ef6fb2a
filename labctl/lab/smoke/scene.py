"""What the checks of `smoke` share: one lab, a namespace of its own in it, and functions that read, type commands and wait."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from labctl.errors import LabctlError
from labctl.lab.lab import Lab
from labctl.lab.load import Load
from labctl.lab.waiting import wait_until

T = TypeVar("T")
PODS_S = 90.0
"""How long pods may take to start or to end, on a slow machine that gets an image's layers over SSH."""
_KUBECTL_S = 60.0
_CURL = ("curl", "-q", "-s", "-S", "--fail", "--max-time", "5")


class Scene:
    """The lab under test. Its calls block, and one thread may use it. `namespace` separates smoke's objects from a person's."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab = lab
        self.namespace = namespace
        self.killed = ""  # the machine whose plug was pulled

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def minions(self) -> list[str]:
        """Return the nodes that can run pods now."""
        nodes = self.lab.status()["nodes"]
        return [node["name"] for node in nodes if node["ready"] == "True" and node["schedulable"] and not node["taints"]]

    def object(self, resource: str, name: str) -> Any:
        return self.lab.api.get(f"/api/v1/namespaces/{self.namespace}/{resource}/{name}")

    def pods(self, selector: str = "name=nginx") -> list[dict[str, Any]]:
        """Return the pods that are not being deleted."""
        found = self.lab.api.get(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={quote(selector)}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, selector: str = "name=nginx") -> list[dict[str, Any]]:
        return [pod for pod in self.pods(selector) if condition(pod, "Ready") == "True"]

    @property
    def vip(self) -> str:
        return self.object("services", "web-service")["spec"]["clusterIP"]

    # -- typing ------------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run the real kubectl and return its output. If it fails, LabctlError has its message."""
        try:
            done = self.lab.kubectl("--namespace", self.namespace, *arguments, check=False, timeout=_KUBECTL_S, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise LabctlError(f"`kubectl {' '.join(arguments)}` took longer than {_KUBECTL_S:.0f} s") from None
        if check and done.returncode:
            raise LabctlError(f"`kubectl {' '.join(arguments)}` exited {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def curl(self, minion: str, address: str) -> str:
        """Return the page that a minion gets from `address`."""
        try:
            done = self.lab.run(minion, *_CURL, address, check=False, timeout_s=30)
        except subprocess.TimeoutExpired:
            raise LabctlError(f"{minion} could not be asked over SSH within 30 s") from None
        if done.returncode:
            raise LabctlError(f"`curl {address}` on {minion} exited {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def load(self, minion: str) -> Load:
        """Return a client on that minion that sends requests to the virtual IP all the time."""
        return Load(self.lab, minion, self.vip)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_ready(self, count: int, *, without: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        """Wait for exactly `count` nginx pods, all Ready, none of them on a machine or with a name in `without`."""

        def there() -> list[dict[str, Any]]:
            pods = self.ready()
            strangers = [pod for pod in pods if without & {pod["metadata"]["name"], pod["spec"]["nodeName"]}]
            return pods if len(pods) == count == len(self.pods()) and not strangers else []

        return self.wait(there, f"{count} Ready pods")

    def wait(self, look: Callable[[], T], what: str, timeout_s: float = PODS_S) -> T:
        """Wait until `look()` returns something true. A failure shows the output of `kubectl get`."""
        shown = ("get", "pods,rc,services,endpoints", "-o", "wide")
        return wait_until(look, what, timeout_s, seen=lambda: self.kubectl(*shown, check=False))


def condition(thing: dict[str, Any], kind: str) -> str:
    return next((c["status"] for c in thing.get("status", {}).get("conditions", []) if c["type"] == kind), "")
