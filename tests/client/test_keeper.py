"""The operator of the second tour (examples/today): by its ServiceAccount's token and its role it does what it is for, and no more."""

from __future__ import annotations

import base64
import importlib.util
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

TODAY = Path(__file__).parents[2] / "examples" / "today"


@pytest.fixture
def keeper(labctl_api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, told what a pod of its ServiceAccount finds."""
    labctl_api.apply(TODAY / "crd.yml")
    labctl_api.kubectl("wait", "--for=condition=Established", "crd/backups.example.com", "--timeout=10s")
    text = (TODAY / "keeper.yml").read_text().replace("namespace: default", f"namespace: {labctl_api.namespace}")
    labctl_api.kubectl("apply", "-f", "-", input=text)
    config = yaml.safe_load(labctl_api.kubeconfig.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    spec = importlib.util.spec_from_file_location("keeper", TODAY / "keeper.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "token").write_text(labctl_api.kubectl("create", "token", "keeper").strip())
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(authority))
    (tmp_path / "namespace").write_text(labctl_api.namespace)
    monkeypatch.setattr(module, "OWN", tmp_path)
    monkeypatch.setattr(module, "SERVER", labctl_api.url)
    return module


@pytest.mark.labctl(fresh=True)  # its watch is of all namespaces, and ends with its API
def test_each_backup_gets_a_job_and_a_status(labctl_api: Any, keeper: ModuleType) -> None:
    threading.Thread(target=keeper.watch, daemon=True).start()
    labctl_api.apply(TODAY / "backup.yml")
    labctl_api.wait(lambda: (labctl_api.get("backups.example.com", "nightly") or {}).get("status", {}).get("last"), 30)
    job = labctl_api.get("jobs.batch", "backup-nightly")
    assert job["metadata"]["ownerReferences"][0]["kind"] == "Backup"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"] == ["echo", "nightly: 3 are kept"]
    assert keeper.listed("backups") == ["nightly"]
    assert 'cannot list resource "secrets"' in keeper.listed("secrets")
    labctl_api.kubectl("delete", "backup", "nightly")
    labctl_api.wait(lambda: labctl_api.get("jobs.batch", "backup-nightly") is None, 30)


def test_a_backup_that_it_meets_twice_is_made_once(labctl_api: Any, keeper: ModuleType) -> None:
    labctl_api.apply(TODAY / "backup.yml")
    backup = labctl_api.get("backups.example.com", "nightly")
    keeper.reconcile(backup)
    keeper.reconcile(backup)
    assert labctl_api.kubectl("get", "jobs", "-o", "name") == "job.batch/backup-nightly\n"
