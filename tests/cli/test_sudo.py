"""Nobody types sudo: labctl asks for root by itself, where and only where the machines need it. As another user than root, with a sudo of the test's own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def place():
    """A folder that everybody may enter. `tmp_path` is none: each pytest that starts on this host takes that right away from the folder of all of them."""
    with tempfile.TemporaryDirectory(prefix="labctl-sudo-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def person(place):
    """Runs labctl as nobody in particular; sudo there says how it was called and goes no further."""
    folder, programs = place / "lab", place / "bin"
    folder.mkdir()
    programs.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    sudo = programs / "sudo"
    sudo.write_text('#!/bin/sh\nwhile [ "$1" != -m ]; do shift; done; shift; echo "as root: $*"\n')
    sudo.chmod(0o755)

    def run(*arguments, sudo=True, **environment):
        # who is not root may not read this checkout, wherever it lies; that one right is kept
        person = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        person += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        path = f"{programs}:/usr/bin:/bin" if sudo else "/usr/bin:/bin"
        return subprocess.run(
            [*person, sys.executable, "-m", "labctl", *arguments],
            cwd=folder, env={"PATH": path, "HOME": str(folder), **environment}, text=True, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    run.folder = folder
    return run


@pytest.mark.parametrize("command", [("up",), ("smoke",), ("image", "list"), ("image", "build", "nginx"), ("doctor",)])
def test_what_concerns_namespace_machines_goes_on_as_root(person, command):
    answer = person(*command, LABCTL_PROVIDER="namespace")
    assert answer.stdout == f"as root: labctl.cli {' '.join(command)}\n", answer.stderr
    assert answer.stderr == "labctl: namespace machines need root; continuing through sudo\n"


@pytest.mark.parametrize("command", [("config",), ("version",), ("status",)])
def test_what_only_looks_does_not(person, command):
    assert "as root" not in person(*command).stdout


def test_without_sudo_up_says_so_and_the_rest_goes_on(person):
    assert person("up", sudo=False).stderr == "labctl: namespace machines need root: run this as root, or install sudo\n"
    assert person("image", "list", sudo=False).returncode == 0
    checks = json.loads(person("doctor", "-o", "json", sudo=False).stdout)
    assert "error" in {check["level"] for check in checks if check["name"] == "privilege"}


def test_machines_that_need_no_root_get_none(person):
    assert "as root" not in person("image", "list", LABCTL_PROVIDER="vagrant").stdout
    assert "as root" not in person("image", "list", NUM_MINIONS="0").stdout


def test_a_master_that_was_roots_is_started_again_as_root(person):
    lab = person.folder / ".labctl"
    lab.mkdir()
    (lab / "kubeconfig").write_text("")
    record = {
        "id": "lab-x",
        "state": str(person.folder / "gone"),
        "cache": str(person.folder),
        "kept": {"provider": "namespace", "minions": 2},
    }
    (lab / "lab.json").write_text(json.dumps(record))
    assert person("why", "pod/a").stdout == "as root: labctl.cli why pod/a\n"
    assert person("get", "pods", "-o", "wide").stdout == "as root: labctl.cli get pods -o wide\n"
