"""The fixture `labctl_api`, used here as other projects use it; docs/testing.md tells of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import LabctlError
from labctl.testing.api import namespace_name

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ("create", "deployment", "web", "--image=nginx", "--replicas=2")


def pytest_run(folder: Path, *args: str, timeout_s: float = 100.0) -> subprocess.CompletedProcess[str]:
    """A test run of another project."""
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        *args,
        str(folder),
    ]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)


def pods(api: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(api.kubectl("get", "pods", "-o", "json"))["items"]
    return found


def test_a_deployment_runs_and_moves_when_its_machine_loses_power(labctl_api: Any) -> None:
    labctl_api.kubectl(*DEPLOYMENT)
    labctl_api.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    one = pods(labctl_api)[0]
    assert one["status"]["containerStatuses"][0]["state"]["running"] and one["spec"]["nodeName"] in labctl_api.nodes
    labctl_api.power_off("minion-1")
    labctl_api.wait(lambda: [p["spec"].get("nodeName") for p in pods(labctl_api)] == ["minion-2"] * 2)
    labctl_api.kubectl("rollout", "status", "deployment/web", "--timeout=20s")


def test_the_next_test_has_an_empty_namespace_and_whole_machines(labctl_api: Any) -> None:
    assert pods(labctl_api) == [] and os.environ["KUBECONFIG"] == str(labctl_api.kubeconfig)
    labctl_api.wait(lambda: labctl_api.kubectl("get", "nodes").count(" Ready") == 2)
    labctl_api.kubectl("create", "job", "once", "--image=busybox")
    pod = labctl_api.wait(lambda: next((p for p in pods(labctl_api) if p["status"]["phase"] == "Running"), None))
    labctl_api.end_pod(pod["metadata"]["name"])
    labctl_api.kubectl("wait", "--for=condition=complete", "job/once", "--timeout=20s")


def test_a_user_may_do_what_rbac_says(labctl_api: Any) -> None:
    reader = labctl_api.kubeconfig_of(f"system:serviceaccount:{labctl_api.namespace}:it")
    assert labctl_api.kubectl("--kubeconfig", str(reader), "auth", "can-i", "list", "pods", check=False).strip() == "no"
    labctl_api.kubectl("create", "rolebinding", "r", "--clusterrole=view", f"--serviceaccount={labctl_api.namespace}:it")
    assert labctl_api.kubectl("--kubeconfig", str(reader), "auth", "can-i", "list", "pods").strip() == "yes"
    with pytest.raises(LabctlError, match="a name in a certificate has at most 64 bytes"):
        labctl_api.kubeconfig_of("x" * 65)


@pytest.mark.labctl(fresh=True, nodes=3)
def test_an_api_of_its_own(labctl_api: Any) -> None:
    assert labctl_api.nodes == ("minion-1", "minion-2", "minion-3")
    namespaces = labctl_api.kubectl("get", "namespaces", "-o", "name").split()
    assert f"namespace/{labctl_api.namespace}" in namespaces and len(namespaces) <= 5


@pytest.mark.labctl(nodes=0)
def test_without_nodes_pods_wait(labctl_api: Any) -> None:
    labctl_api.kubectl("run", "lonely", "--image=nginx")
    assert pods(labctl_api)[0]["status"]["phase"] == "Pending"
    with pytest.raises(LabctlError, match="not within 0.1 s: the pod runs"):
        labctl_api.wait(lambda: pods(labctl_api)[0]["status"]["phase"] == "Running", 0.1, "the pod runs")


def test_what_goes_wrong_is_said(labctl_api: Any) -> None:
    with pytest.raises(LabctlError, match='kubectl get pods nobody: .*pods "nobody" not found'):
        labctl_api.kubectl("get", "pods", "nobody")
    with pytest.raises(LabctlError, match="there is no node minion-9"):
        labctl_api.power_off("minion-9")
    with pytest.raises(LabctlError, match="does not run"):
        labctl_api.end_pod("nobody")
    with pytest.raises(LabctlError, match="there is no kind shops"):
        labctl_api.get("shops", "x")


@pytest.mark.parametrize("name", ["test_a[1]", "Test::ünï", "x" * 300, "---"])
def test_a_namespace_s_name_is_one(name: str) -> None:
    made = namespace_name(name)
    assert 0 < len(made) <= 63 and made.strip("-") == made and made.replace("-", "").isascii()


def test_the_example_passes_as_a_project_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("kopf")
    for file in (ROOT / "examples" / "testing").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    done = pytest_run(tmp_path)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("test", "ini", "said"),
    [
        (
            "@pytest.mark.labctl(minions=2)\ndef test_a(labctl_api): pass",
            "",
            "the marker labctl knows no 'minions': it takes fresh and nodes",
        ),
        ("def test_a(labctl_api): pass", "labctl_nodes = two", "labctl_nodes = two: write a number of machines"),
    ],
)
def test_bad_settings_are_one_clear_line(tmp_path: Path, test: str, ini: str, said: str) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    (tmp_path / "test_a.py").write_text(f"import pytest\n{test}\n")
    done = pytest_run(tmp_path)
    assert done.returncode != 0 and said in done.stdout


def test_the_plug_in_costs_other_test_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import sys\ndef test_a(): assert not [m for m in sys.modules if m.startswith('labctl.') and not m.startswith('labctl.testing')]\n"
    )
    done = pytest_run(tmp_path)
    assert done.returncode == 0, done.stdout
