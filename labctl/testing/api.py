"""What one test gets: a namespace of its own, clients that find the API, and nodes to break."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.certificates import write_file
from labctl.errors import LabctlError
from labctl.lab.kubectl import find_kubectl

if TYPE_CHECKING:
    from labctl.testing.cluster import Cluster

_NAME_MAX = 40
_KUBECTL_S = 60.0
_numbers = itertools.count(1)


def namespace_name(test: str) -> str:
    """Returns a namespace's name for a test: its own name as far as a namespace can have it, and a number."""
    slug = re.sub(r"[^a-z0-9]+", "-", test.lower()).strip("-")[:_NAME_MAX].strip("-")
    return f"{slug or 'test'}-{next(_numbers)}"


class Api:
    """A Kubernetes API for one test. `kubeconfig` is a file whose context is an admin's, in the test's own namespace."""

    def __init__(self, cluster: Cluster, folder: Path, namespace: str) -> None:
        self._cluster = cluster
        self._folder = folder
        self.namespace = namespace
        self.kubeconfig = folder / "kubeconfig"
        write_file(self.kubeconfig, cluster.kubeconfig(namespace))

    @property
    def url(self) -> str:
        return self._cluster.url

    @property
    def nodes(self) -> Sequence[str]:
        """Return the names of the hollow nodes."""
        return self._cluster.nodes

    def power_off(self, node: str) -> None:
        """Cuts a node's power: its pods are gone, the node is fenced, and controllers replace the pods on other nodes."""
        self._cluster.power_off(node)

    def power_on(self, node: str) -> None:
        """Gives a node power again. All nodes have it again after the test."""
        self._cluster.power_on(node)

    def fall_silent(self, node: str) -> None:
        """Lets a node report nothing any more, as when its network fails."""
        self._cluster.fall_silent(node)

    def speak_again(self, node: str) -> None:
        self._cluster.speak_again(node)

    def end_pod(self, name: str, exit_code: int = 0, namespace: str = "") -> None:
        """Lets a running pod's containers end, as a Job's do when they are done: hollow pods end only when they are told to."""
        self._cluster.end_pod(namespace or self.namespace, name, exit_code)

    def kubeconfig_of(self, user: str, *groups: str) -> Path:
        """Returns a kubeconfig for a user who may do what RBAC says: `system:serviceaccount:NAMESPACE:NAME` is a ServiceAccount."""
        path = self._folder / f"kubeconfig-{re.sub(r'[^A-Za-z0-9.-]', '_', user)}"
        write_file(path, self._cluster.kubeconfig(self.namespace, user, groups))
        return path

    def kubectl(self, *args: str, input: str | bytes | None = None, check: bool = True) -> str:
        """Runs the real kubectl in the test's namespace and returns what it printed. Raises LabctlError with its message if it fails."""
        given = input.encode() if isinstance(input, str) else input
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run([find_kubectl(), *args], input=given, capture_output=True, env=environment, timeout=_KUBECTL_S, check=False)
        if check and done.returncode:
            raise LabctlError(f"kubectl {' '.join(args)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    def get(self, kind: str, name: str, namespace: str | None = None) -> Mapping[str, Any] | None:
        """Returns an object as it is now, read in this process; None if there is none. `kind` is its plural, with the group: `deployments.apps`."""
        resources = self._cluster.master.resources
        known = next((k for k in resources.registry if kind in (k.plural, k.resource, k.singular)), None)
        if known is None:
            raise LabctlError(f"there is no kind {kind}")
        key = f"{self.namespace if namespace is None else namespace}/{name}" if known.namespaced else name

        async def read() -> Mapping[str, Any] | None:
            return self._cluster.master.client.raw(known.resource, key)

        return self._cluster.call(read())

    def wait(self, condition: Callable[[], Any], within_s: float = 10.0, what: str = "") -> Any:
        """Asks again and again until the condition is true, and returns its result. Raises LabctlError after `within_s`."""
        end = time.monotonic() + within_s
        while not (result := condition()):
            if time.monotonic() > end:
                raise LabctlError(f"not within {within_s:g} s: {what or getattr(condition, '__name__', 'the condition')}")
            time.sleep(0.01)
        return result

    def apply(self, *manifests: Path | Mapping[str, Any]) -> None:
        """Applies manifests: files, folders, or objects."""
        for manifest in manifests:
            if isinstance(manifest, Path):
                self.kubectl("apply", "-f", str(manifest))
            else:
                self.kubectl("apply", "-f", "-", input=msgspec.json.encode(manifest))
