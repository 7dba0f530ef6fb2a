"""The lab's ssh_config, as ssh itself reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.lab.ssh import write_config
from labctl.paths import Paths
from labctl.providers.protocol import Machine, Power


def read_by_ssh(paths: Paths, name: str) -> dict[str, str]:
    done = subprocess.run(["ssh", "-G", "-F", str(paths.ssh_config), name], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_keys_are_exchanged_quickly_with_machines_that_labctl_makes_and_as_ssh_would_with_others(tmp_path: Path) -> None:
    made = Machine("minion-1", Power.ON, "10.245.1.11", host_key="ssh-ed25519 AAAA")
    existing = Machine("minion-2", Power.ON, "10.245.1.12", host_key="ssh-ed25519 AAAA", key_path="/somebody/key")
    lab: Any = SimpleNamespace(paths=Paths(tmp_path, tmp_path, tmp_path))
    write_config(lab, [made, existing])
    first, second = (read_by_ssh(lab.paths, machine.name)["kexalgorithms"].split(",") for machine in (made, existing))
    assert first[0] == "curve25519-sha256" and set(first) == set(second), "the others are still offered"
    default = subprocess.run(["ssh", "-G", "-F", "none", "minion-2"], capture_output=True, text=True, check=True).stdout
    assert f"kexalgorithms {','.join(second)}\n" in default


@pytest.mark.parametrize("name", ["a b", "ü'x", 'say "so"', "100%h", "back\\slash", "$HOME", "~", "#1", "a = b"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    lab: Any = SimpleNamespace(paths=Paths(folder, tmp_path, tmp_path))
    write_config(lab, [Machine("minion-1", Power.ON, "10.245.1.11", host_key="ssh-ed25519 AAAA")])
    read = read_by_ssh(lab.paths, "minion-1")
    as_used = [
        read[key].replace("%%", "%") for key in ("identityfile", "userknownhostsfile")
    ]  # `-G` shows them before percents are expanded
    assert as_used == [str(lab.paths.ssh_key), str(folder / "known_hosts")]


def test_a_proxy_command_reaches_its_shell_as_it_is(tmp_path: Path) -> None:
    lab: Any = SimpleNamespace(paths=Paths(tmp_path, tmp_path, tmp_path))
    command = "sh -c 'echo 100%h \"$HOME\" >&2; exit 1'"
    write_config(lab, [Machine("minion-1", Power.ON, "10.245.1.11", proxy_command=command)])
    done = subprocess.run(
        ["ssh", "-F", str(lab.paths.ssh_config), "minion-1"], capture_output=True, text=True, check=False, env={"HOME": "/h"}
    )
    assert done.stderr.startswith("100%h /h\n")
