"""What a namespace machine's snapshot keeps, and what a kill at any moment of a save or a load costs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labctl.errors import ProviderError
from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import Power
from tests.namespaces import Lab, needs_root

pytestmark = [pytest.mark.root, needs_root]

_OPERATION = """
import sys, time
from pathlib import Path
from labctl.providers.namespace.provider import NamespaceProvider
lab, state, cache, operation, folder = sys.argv[1:]
provider = NamespaceProvider(lab, Path(state), Path(cache))
print("begin", flush=True)
if operation == "load":
    provider.load_machines(Path(folder))
else:
    provider.save_machines(Path(folder), lambda: (print("paused", flush=True), time.sleep(60 if operation == "hang" else 0)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "saved").mkdir()
    return tmp_path / "saved"


def begin(lab: Lab, operation: str, folder: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _OPERATION, lab.id, str(lab.state), str(lab.cache), operation, str(folder)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout and process.stdout.readline() == "begin\n"
    return process


def wait_for(power: Power, provider: NamespaceProvider, timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while (seen := {machine.power for machine in provider.machines().values()}) != {power}:
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)


def test_files_come_back_with_all_that_makes_them(lab: Lab, folder: Path) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    script = """set -e; mkdir /data; cd /data; echo one > file; chmod 4751 file; chown 7:8 file; ln file same; ln -s nowhere link
        mkfifo pipe; truncate -s 100M holes; rm /etc/issue; touch -d 2001-01-01 file; echo kept > /var/lib/labctl/disk; mkdir /root/.ssh/new
        rm -r /usr/share/bash-completion 2>/dev/null; mkdir -p /usr/share/bash-completion; echo mine > /usr/share/bash-completion/x"""
    look = (
        "cd /data; stat -c '%n %a %u %g %h %Y %F' file same link pipe; cat file; stat -c %s holes; ls /etc/issue; cat /var/lib/labctl/disk"
    )
    look += "; ls /usr/share/bash-completion; cat /etc/machine-id"
    assert lab.ssh("minion-1", script).returncode == 0
    before = lab.ssh("minion-1", look)
    provider.save_machines(folder, lambda: None)
    lab.ssh("minion-1", "rm -r /data; echo changed > /etc/issue; echo changed > /var/lib/labctl/disk")
    provider.load_machines(folder)
    after = lab.ssh("minion-1", look)
    assert (after.stdout, after.stderr) == (before.stdout, before.stderr)
    assert "regular file" in before.stdout and "kept" in before.stdout and "No such file" in before.stderr
    blocks = sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
    assert blocks < 50 << 20, "holes are kept"


def test_what_was_written_together_is_kept_together(lab: Lab, folder: Path) -> None:
    """A writer that always writes the one file before the other is never seen to have done it the other way round."""
    provider = lab.provider()
    provider.up(lab.spec())
    loop = "i=0; while :; do i=$((i+1)); echo $i > /first.new; mv /first.new /first; echo $i > /second.new; mv /second.new /second; done"
    lab.ssh(
        "minion-1", f"nohup sh -c '{loop}' > /dev/null 2>&1 & until test \"$(cat /second 2>/dev/null || echo 0)\" -gt 1; do sleep 0.1; done"
    )
    provider.save_machines(folder, lambda: None)
    provider.load_machines(folder)
    first, second = lab.ssh("minion-1", "cat /first /second").stdout.split()
    assert int(first) - int(second) in (0, 1) and int(second) > 1


def test_processes_never_run_while_the_machines_are_saved(lab: Lab, folder: Path) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    lab.ssh("minion-1", "nohup sh -c 'while :; do date +%s.%N > /beat; done' > /dev/null 2>&1 & sleep 0.2")
    beat = lab.state / "machines/minion-1/upper/beat"
    seen: list[str] = []

    def meanwhile() -> None:
        seen.append(beat.read_text())
        time.sleep(0.1)  # what is tried is that nothing happens meanwhile
        seen.append(beat.read_text())

    provider.save_machines(folder, meanwhile)
    assert seen[0] == seen[1] == (folder / "minion-1/upper/beat").read_text()


def test_whoever_saves_may_be_killed_and_the_machines_go_on(lab: Lab, folder: Path) -> None:
    provider = lab.provider()
    for number in (1, 2):
        provider.up(lab.spec(number))
    saving = begin(lab, "hang", folder)
    assert saving.stdout and saving.stdout.readline() == "paused\n"
    wait_for(Power.PAUSED, provider)
    saving.kill()
    saving.wait()
    wait_for(Power.ON, provider)
    assert lab.ssh("minion-1", "echo on").stdout == "on\n"
    again = folder.with_name("again")
    again.mkdir()
    provider.save_machines(again, lambda: None)


@pytest.mark.parametrize("seed", range(6))
def test_a_load_that_was_killed_is_finished_by_the_next(lab: Lab, folder: Path, seed: int) -> None:
    provider = lab.provider()
    for number in (1, 2):
        provider.up(lab.spec(number))
        lab.ssh(f"minion-{number}", "echo saved > /mark")
    provider.save_machines(folder, lambda: None)
    for number in (1, 2):
        lab.ssh(f"minion-{number}", "echo later > /mark")
    loading = begin(lab, "load", folder)
    time.sleep(random.Random(seed).uniform(0, 0.5))  # the moment at which it dies is what is being tried
    os.kill(loading.pid, signal.SIGKILL)
    loading.wait()
    provider.load_machines(folder)
    for number in (1, 2):
        assert lab.ssh(f"minion-{number}", "cat /mark").stdout == "saved\n"
    assert not (lab.state / "incoming").exists()


def test_nobody_halts_a_machine_while_it_is_saved(lab: Lab, folder: Path) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    halting = threading.Thread(target=lab.provider().halt, args=("minion-1",))

    def meanwhile() -> None:
        halting.start()
        halting.join(0.3)
        assert halting.is_alive()

    provider.save_machines(folder, meanwhile)
    halting.join(20)
    assert provider.machines()["minion-1"].power is Power.OFF


def test_no_room_is_one_line_and_the_machines_go_on(lab: Lab, tmp_path: Path) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    lab.ssh("minion-1", "head -c 20M /dev/urandom > /big")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        with pytest.raises(ProviderError, match="No space left on device") as refused:
            provider.save_machines(small, lambda: None)
        assert "\n" not in str(refused.value)
    finally:
        subprocess.run(["umount", small], check=True)
    wait_for(Power.ON, provider)


def test_a_machine_that_starts_processes_all_the_time_can_be_paused(lab: Lab) -> None:
    provider = lab.provider()
    provider.up(lab.spec())
    lab.ssh("minion-1", "nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i > /n.new; mv /n.new /n; done' > /dev/null 2>&1 & sleep 0.2")
    count = lab.state / "machines/minion-1/upper/n"
    provider.pause("minion-1")
    first = count.read_text()
    time.sleep(0.1)  # what is tried is that nothing happens meanwhile
    assert count.read_text() == first
    provider.resume("minion-1")
    deadline = time.monotonic() + 5
    while not count.exists() or count.read_text() == first:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.01)
