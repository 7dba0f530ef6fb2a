from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from labctl.providers.namespace import cgroup, probe
from labctl.providers.namespace.provider import NamespaceProvider
from tests.namespaces import needs_root

CGROUPS = Path("/sys/fs/cgroup")


@pytest.mark.root
@needs_root
def test_it_works_here_and_trying_leaves_nothing(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    verdict = NamespaceProvider("x", tmp_path / "deep" / "state", tmp_path / "cache").probe()
    assert verdict.works, verdict
    assert sorted(tmp_path.rglob("*")) == before
    assert left_by(os.getpid()) == []


def left_by(process: int) -> list[Path]:
    """Other tests kill trials, whose cgroups are there until the next one."""
    return [*CGROUPS.glob(f"labctl/probe-{process}"), *CGROUPS.glob(f"*/labctl/probe-{process}")]


@pytest.mark.root
@needs_root
def test_a_trial_removes_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    cgroup.detect(f"probe-{ended.pid}").make("machine", memory_bytes=64 << 20, cpus=1)
    provider = NamespaceProvider("x", tmp_path / "state", tmp_path / "cache")
    assert provider.probe().works and left_by(ended.pid), "it might still be at work elsewhere"
    monkeypatch.setattr(probe, "RUIN_S", 0.0)
    assert provider.probe().works and not left_by(ended.pid)


@pytest.mark.root
@needs_root
def test_a_file_system_that_no_overlay_can_write_to_is_told_with_the_mend() -> None:
    verdict = probe.probe(Path("/sys/labctl"))
    assert (verdict.works, verdict.mend) == (False, "set LABCTL_STATE_HOME to a folder on ext4, xfs or btrfs")
    assert "/sys" in verdict.reason


@pytest.mark.root
@needs_root
def test_an_overlay_on_an_overlay_is_refused_with_the_mend(tmp_path: Path) -> None:
    """As in a container without a volume: run in a mount namespace whose state folder lies on an overlay."""
    import subprocess
    import sys

    for name in ("lower", "upper", "work", "root"):
        (tmp_path / name).mkdir()
    program = "import sys; from pathlib import Path; from labctl.providers.namespace.probe import probe; print(probe(Path(sys.argv[1])))"
    script = f"mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root && exec {sys.executable} -c '{program}' {tmp_path}/root/state"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert "works=False" in done.stdout
    assert "no overlay file system on" in done.stdout
    assert "LABCTL_STATE_HOME" in done.stdout


def test_missing_programs_are_told_as_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = probe.probe(tmp_path)
    assert (verdict.works, verdict.reason) == (False, "missing: iproute2, mmdebstrap, util-linux")
    assert verdict.mend == "apt-get install iproute2 mmdebstrap util-linux"


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert probe.probe(tmp_path).reason == "making namespaces needs root"
