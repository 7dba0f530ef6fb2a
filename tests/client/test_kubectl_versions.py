"""Old and new kubectl, as their makers built them, against a master with hollow nodes: what people type most.

What needs a container that really runs (logs, exec, cp, port-forward) is in tests/e2e/test_kubectl_versions.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.certificates import write_file
from labctl.testing.cluster import Cluster
from tests.kubectls import VERSIONS, fetch

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crons.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: crons, singular: cron, kind: Cron}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {replicas: {type: integer, description: "How many."}}}
"""
OPEN = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: opens.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: opens, singular: open, kind: Open}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  - name: v1beta1
    served: true
    storage: false
    schema:
      openAPIV3Schema:
        type: object
        properties:
          free: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {named: {type: string}}}
          maybe: {type: object, nullable: true, required: [named], properties: {named: {type: string}}}
"""
WEB = """
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: nginx, image: nginx}]}
"""


def cron(name: str, replicas: int | str) -> str:
    return json.dumps({"apiVersion": "example.com/v1", "kind": "Cron", "metadata": {"name": name}, "spec": {"replicas": replicas}})


class Kubectl:
    """One version, in a namespace and with a cache of its own. `folder` is its home."""

    def __init__(self, version: str, binary: Path, cluster: Cluster, folder: Path) -> None:
        self.minor = int(version.partition(".")[2])
        self._argv = [str(binary), f"--namespace=v{self.minor}", f"--cache-dir={folder / 'cache'}", "--request-timeout=30s"]
        self._environment = {
            "PATH": os.environ["PATH"],
            "GOGC": os.environ["GOGC"],
            "HOME": str(folder),
            "KUBECONFIG": str(folder / "kubeconfig"),
        }
        write_file(folder / "kubeconfig", cluster.kubeconfig(f"v{self.minor}"))
        self.run("create", "namespace", f"v{self.minor}")

    def run(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        """Both outputs in one; an exit status other than `code` fails the test."""
        done = subprocess.run(
            [*self._argv, *arguments], input=stdin, env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self.run("get", *arguments, "-o", "json"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), nodes=2) as running:
        yield running


@pytest.fixture(scope="module", params=VERSIONS)
def kubectl(request: pytest.FixtureRequest, cluster: Cluster, provider_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    version = request.param
    return Kubectl(version, fetch(Path(provider_cache), version, "kubectl"), cluster, tmp_path_factory.mktemp("home"))


def test_create_get_and_describe(kubectl: Kubectl) -> None:
    assert f"Server Version: {'' if kubectl.minor > 27 else 'version.Info'}" in kubectl.run("version")
    assert "deployment.apps/web created" in kubectl.run("create", "deployment", "web", "--image=nginx", "--replicas=2")
    assert "configmap/c created" in kubectl.run("create", "configmap", "c", "--from-literal=a=b")
    assert "secret/s created" in kubectl.run("create", "secret", "generic", "s", "--from-literal=a=b")
    assert "job.batch/once created" in kubectl.run("create", "job", "once", "--image=busybox")
    assert "service/web exposed" in kubectl.run("expose", "deployment", "web", "--port=80")
    assert "role.rbac.authorization.k8s.io/r created" in kubectl.run("create", "role", "r", "--verb=get", "--resource=pods")
    assert "successfully rolled out" in kubectl.run("rollout", "status", "deployment/web", "--timeout=30s")
    header, row = kubectl.run("get", "deployment", "web").splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"] and row.split()[:4] == ["web", "2/2", "2", "2"]
    assert "pod/web-" in kubectl.run("get", "all") and "minion-" in kubectl.run("get", "pods", "-o", "wide", "-l", "app=web")
    assert "2 desired | 2 updated | 2 total | 2 available" in kubectl.run("describe", "deployment", "web")
    pod = kubectl.get("pods", "-l", "app=web")["items"][0]["metadata"]["name"]
    assert "Successfully assigned" in kubectl.run("describe", "pod", pod)
    assert "Endpoints:" in kubectl.run("describe", "service", "web") and "Allocatable:" in kubectl.run("describe", "node", "minion-1")
    assert 'pods "x" not found' in kubectl.run("get", "pod", "x", code=1)
    assert "yes" in kubectl.run("auth", "can-i", "create", "pods")
    assert "minion-1" in kubectl.run("get", "nodes") and "Running" in kubectl.run("get", "pods", "-A")


def test_apply_and_diff(kubectl: Kubectl) -> None:
    assert kubectl.run("apply", "-f", "-", stdin=WEB) == "service/shop created\ndeployment.apps/shop created\n"
    assert kubectl.run("apply", "-f", "-", stdin=WEB) == "service/shop unchanged\ndeployment.apps/shop unchanged\n"
    more = WEB.replace("replicas: 2", "replicas: 3")
    assert "replicas: 3" in kubectl.run("diff", "-f", "-", stdin=more, code=1)
    assert kubectl.run("diff", "-f", "-", stdin=WEB) == ""
    assert "deployment.apps/shop configured" in kubectl.run("apply", "-f", "-", stdin=more)
    assert "(server dry run)" in kubectl.run("apply", "--dry-run=server", "-f", "-", stdin=WEB)
    assert kubectl.get("deployment", "shop")["spec"]["replicas"] == 3
    assert 'unknown field "' in kubectl.run("apply", "-f", "-", stdin=WEB.replace("replicas: 2", "replicass: 2"), code=1)
    assert "deleted" in kubectl.run("delete", "-f", "-", stdin=WEB)


def test_apply_on_the_servers_side(kubectl: Kubectl) -> None:
    arguments = ("apply", "--server-side", "-f", "-")
    assert "deployment.apps/shop serverside-applied" in kubectl.run(*arguments, stdin=WEB)
    other = WEB.replace("replicas: 2", "replicas: 4")
    assert 'conflict with "kubectl": .spec.replicas' in kubectl.run(*arguments, "--field-manager=other", stdin=other, code=1)
    kubectl.run(*arguments, "--field-manager=other", "--force-conflicts", stdin=other)
    assert kubectl.get("deployment", "shop")["spec"]["replicas"] == 4
    assert "replicas: 2" in kubectl.run("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=WEB, code=1)
    kubectl.run("delete", "-f", "-", stdin=WEB)


def test_explain_and_kinds_of_ones_own(kubectl: Kubectl) -> None:
    assert "image" in kubectl.run("explain", "pods.spec.containers.image")
    assert "replicas" in kubectl.run("explain", "deployment.spec", "--recursive")
    kubectl.run("apply", "-f", "-", stdin=CRD)
    kubectl.run("wait", "--for=condition=established", "crd/crons.example.com", "--timeout=10s")
    assert "How many." in kubectl.run("explain", "crons.spec.replicas")
    kubectl.run("apply", "-f", "-", stdin=cron("one", 1))
    assert "spec.replicas" in kubectl.run("create", "-f", "-", stdin=cron("two", "many"), code=1)
    assert "one" in kubectl.run("get", "crons") and "Name:         one" in kubectl.run("describe", "cron", "one")
    assert "crons" in kubectl.run("api-resources", "--api-group=example.com")
    kubectl.run("delete", "crd", "crons.example.com")


def test_what_keeps_unknown_fields_or_may_be_null_is_not_taken_for_a_mistake(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f", "-", stdin=OPEN)
    kubectl.run("wait", "--for=condition=established", "crd/opens.example.com", "--timeout=10s")
    of = {"kind": "Open", "metadata": {"name": "one"}}
    kubectl.run("create", "-f", "-", stdin=json.dumps({"apiVersion": "example.com/v1", "any": {"b": [{"c": 1}]}, **of}))
    assert kubectl.get("opens.v1.example.com", "one")["any"] == {"b": [{"c": 1}]}
    more = {**of, "apiVersion": "example.com/v1beta1", "metadata": {"name": "two"}, "free": {"more": {"b": 1}}, "maybe": None}
    kubectl.run("apply", "-f", "-", stdin=json.dumps(more))
    kubectl.run("delete", "crd", "opens.example.com")


def test_scale_roll_and_undo(kubectl: Kubectl) -> None:
    kubectl.run("create", "deployment", "roll", "--image=nginx")
    assert "scaled" in kubectl.run("scale", "deployment", "roll", "--replicas=3")
    kubectl.run("rollout", "status", "deployment/roll", "--timeout=30s")
    assert "image updated" in kubectl.run("set", "image", "deployment/roll", "nginx=nginx:2")
    kubectl.run("rollout", "status", "deployment/roll", "--timeout=30s")
    assert "2  " in kubectl.run("rollout", "history", "deployment/roll")
    assert "rolled back" in kubectl.run("rollout", "undo", "deployment/roll")
    assert "restarted" in kubectl.run("rollout", "restart", "deployment/roll")
    kubectl.run("rollout", "status", "deployment/roll", "--timeout=30s")
    assert kubectl.get("deployment", "roll")["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx"
    assert "autoscaled" in kubectl.run("autoscale", "deployment", "roll", "--max=4")
    patch = '{"spec":{"template":{"spec":{"containers":[{"name":"nginx","image":"nginx:3"}]}}}}'
    assert "patched" in kubectl.run("patch", "deployment", "roll", "-p", patch)
    assert "labeled" in kubectl.run("label", "deployment", "roll", "tier=web") and "annotated" in kubectl.run(
        "annotate", "deployment", "roll", "a=b"
    )
    assert "deleted" in kubectl.run("delete", "deployment", "roll", "--timeout=30s")


def test_a_node_is_drained(kubectl: Kubectl) -> None:
    kubectl.run("create", "deployment", "moves", "--image=nginx", "--replicas=2")
    kubectl.run("rollout", "status", "deployment/moves", "--timeout=30s")
    try:
        assert "node/minion-1 cordoned" in kubectl.run("drain", "minion-1", "--ignore-daemonsets", "--force", "--timeout=30s")
        assert "SchedulingDisabled" in kubectl.run("get", "nodes")
    finally:
        assert "uncordoned" in kubectl.run("uncordon", "minion-1")
    kubectl.run("delete", "deployment", "moves")
    assert "deleted" in kubectl.run("delete", "namespace", f"v{kubectl.minor}", "--timeout=60s")
