"""Scenarios look at a lab without kubectl: what they see is what the real kubectl says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.certificates import write_file
from labctl.testing.cluster import Cluster
from tests.e2e.looks import Looks, Unknown
from tests.inprocess import kubectl_path

DEPLOYMENT = ["create", "deployment", "web", "--image=nginx", "--replicas=2", "--namespace=shop"]


class Kubectl:
    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def __call__(self, *words: str) -> str:
        argv = [kubectl_path(), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.kubeconfig.parent / 'cache'}", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, nodes=2) as running:
        write_file(folder / "config", running.kubeconfig())
        kubectl = Kubectl(folder / "config")
        kubectl("create", "namespace", "shop")
        kubectl(*DEPLOYMENT)
        kubectl("rollout", "status", "deployment/web", "--namespace=shop", "--timeout=30s")
        yield kubectl


@pytest.fixture
def looks(kubectl: Kubectl) -> Iterator[Looks]:
    made = Looks(kubectl.kubeconfig, 20)
    yield made
    made.close()


@pytest.mark.parametrize(
    "words",
    [
        "namespace shop",
        "ns",
        "deploy web -n shop",
        "rs -n shop",
        "pods -A -l app=web",
        "pods -l app=web",
        "pods -n shop --field-selector spec.nodeName=minion-1",
        "deployments.apps,pods -n shop",
        "ns default shop",
        "svc",
    ],
)
def test_it_is_what_kubectl_says(kubectl: Kubectl, looks: Looks, words: str) -> None:
    said, seen = json.loads(kubectl("get", *words.split(), "-o", "json")), looks.get(*words.split())
    assert seen.get("items") == said.get("items") and seen["kind"] == said["kind"]
    assert "items" in seen or seen == said


@pytest.mark.parametrize("words", ["all", "pods/web", "pod,svc web", "pods --sort-by x", "nonesuch", ""])
def test_what_it_does_not_know_is_for_kubectl(looks: Looks, words: str) -> None:
    with pytest.raises(Unknown):
        looks.get(*words.split())


def test_what_is_absent_fails_and_the_next_look_is_answered(looks: Looks) -> None:
    with pytest.raises(AssertionError, match="404.*NotFound"):
        looks.get("pod", "absent")
    assert looks.get("ns", "default")["metadata"]["name"] == "default"


def test_without_a_lab_a_look_fails_as_kubectl_does(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no lab"):
        Looks(tmp_path / "config", 20).get("pods")
