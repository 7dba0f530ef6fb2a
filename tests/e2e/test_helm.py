"""The real helm against real machines: a chart as `helm create` makes it is installed, tested, upgraded, rolled back and removed."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import wait
from tools.helm import fetch


@pytest.fixture(scope="session")
def helm(provider_cache) -> Path:
    """The helm binary, fetched once into the cache of the machine."""
    return fetch(Path(provider_cache))


def test_a_chart_lives_its_whole_life(cluster, helm):
    environment = {**cluster.environment, "KUBECONFIG": str(cluster.folder / ".labctl" / "kubeconfig")}

    def run(*arguments: str, check: bool = True) -> str:
        done = subprocess.run([helm, *arguments], cwd=cluster.folder, env=environment, capture_output=True, text=True, timeout=180)
        assert not check or done.returncode == 0, f"helm {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    run("create", "shop")
    assert "STATUS: deployed" in run("install", "shop", "./shop", "--set", "image.tag=latest", "--wait", "--timeout", "90s")
    assert cluster.get("deployment", "shop")["status"]["readyReplicas"] == 1
    assert cluster.get("pod", "-l", "app.kubernetes.io/name=shop")["items"][0]["spec"]["serviceAccountName"] == "shop"
    assert "Phase:          Succeeded" in run("test", "shop", "--timeout", "60s")
    run("upgrade", "shop", "./shop", "--set", "image.tag=latest,replicaCount=2", "--wait", "--timeout", "90s")
    assert cluster.get("deployment", "shop")["status"]["readyReplicas"] == 2
    run("rollback", "shop", "1", "--wait", "--timeout", "90s")
    wait(lambda: len(cluster.ready_pods("app.kubernetes.io/name=shop")) == 1, "one pod is left")
    assert run("history", "shop").count("deployed") == 1
    run("uninstall", "shop", "--wait", "--timeout", "60s")
    wait(lambda: not cluster.items("deployments,services,serviceaccounts", "-l", "app.kubernetes.io/instance=shop"), "all of it is gone")
