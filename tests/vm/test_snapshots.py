"""Snapshots of virtual machines, beyond what every provider promises (tests/contract/test_provider.py): what runs in them goes on, in another lab too.

Run by `make test-vm TESTS=tests/vm/test_snapshots.py`. The steps build on each other, because a boot takes many seconds where it is emulated.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from labctl.errors import ProviderError
from labctl.providers.protocol import Power
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import snapshots
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.providers.vagrant.pool import Pool
from tests.vm.labs import BOOT_S, NEEDS_A_LIBVIRTD, PATIENCE, Lab

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600), NEEDS_A_LIBVIRTD]

SAVE = """
import sys
from pathlib import Path
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant.provider import VagrantProvider
lab, folder, cache, target = sys.argv[1], *map(Path, sys.argv[2:])
def meanwhile():
    print("paused", flush=True)
    sys.stdin.read()
VagrantProvider(lab, folder, folder / "state", cache, VagrantSettings()).save_machines(target, meanwhile)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def labs(virtual: Lab) -> Iterator[list[Lab]]:
    """The lab as it is now: its successor from the same snapshot is put in its place."""
    virtual.put_right()
    labs = [virtual]
    yield labs
    for lab in labs:
        lab.provider.destroy_lab()


@pytest.fixture
def lab(labs: list[Lab]) -> Lab:
    return labs[-1]


def since_boot_s(lab: Lab, name: str) -> float:
    return float(lab.on(name, "cat /proc/uptime").split()[0])


def test_machines_stand_still_while_they_are_saved_and_go_on(lab: Lab, folder: Path) -> None:
    lab.on(
        "minion-1",
        "echo before >/root/note; sync; sh -c 'echo $$ >/run/counter; while :; do date +%s >>/root/count; sleep 1; done' >/dev/null 2>&1 &",
    )
    lab.provider.pause("minion-2")
    before, seen = lab.provider.machines(), []
    lab.provider.save_machines(folder, lambda: seen.append({name: machine.power for name, machine in lab.provider.machines().items()}))
    assert seen == [{"minion-1": Power.PAUSED, "minion-2": Power.PAUSED}]
    assert lab.provider.machines() == before, "the one that was paused is so still, the other goes on"
    lab.on("minion-1", "echo after >/root/note")


def test_what_was_kept_is_whole_and_the_machines_disks_carry_nothing_of_it(lab: Lab, folder: Path) -> None:
    for name in ("minion-1", "minion-2"):
        disk = folder / name / "disk.qcow2"
        checked = subprocess.run(["qemu-img", "check", str(disk)], capture_output=True, text=True)
        assert checked.returncode in (0, 3), checked.stdout + checked.stderr  # 3: QEMU had not yet said of all that was free that it is
        kept = subprocess.run(["qemu-img", "snapshot", "-l", str(disk)], capture_output=True, text=True).stdout
        assert " labctl " in kept
        live = ["qemu-img", "snapshot", "-U", "-l", f"/var/lib/libvirt/images/{lab.id}-{name}.img"]
        assert " labctl " not in subprocess.run(live, capture_output=True, text=True).stdout


def test_a_disk_that_is_not_ours_to_read_comes_and_goes_through_libvirt(lab: Lab, folder: Path, tmp_path: Path) -> None:
    connection = Hypervisor(lab.id).connection
    pool = Pool(connection, may=lambda _path, _how: False)
    path = pool.put(folder / "minion-1" / "disk.qcow2", f"{lab.id}-streamed.img")
    try:
        pool.fetch(path, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (folder / "minion-1" / "disk.qcow2").read_bytes()
    finally:
        pool.delete(path)
    assert not pool.has(path)


def test_a_save_that_is_killed_lets_the_machine_go_on(lab: Lab, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SAVE, lab.id, str(lab.folder), str(lab.cache), str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as saving:
        assert saving.stdout and saving.stdout.readline() == b"paused\n"
        assert lab.provider.machines()["minion-1"].power is Power.PAUSED
        saving.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10 * PATIENCE
    while lab.provider.machines()["minion-1"].power is not Power.ON:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert lab.provider.machines()["minion-2"].power is Power.PAUSED, "nobody resumes what a person paused"


def test_another_lab_with_the_same_addresses_is_refused_and_so_is_a_snapshot_whose_box_is_gone(lab: Lab, folder: Path) -> None:
    with pytest.raises(ProviderError, match=f"{lab.id} on this host has the addresses"):
        Lab(folder.parent / "another").provider.check_machines(folder)
    saved = snapshots.read(folder)
    gone = [msgspec.structs.replace(each, base="/var/lib/libvirt/images/gone") for each in saved.machines]
    with pytest.raises(ProviderError, match="images/gone, which is gone"):
        snapshots.check(msgspec.structs.replace(saved, machines=gone), Hypervisor(lab.id), VagrantSettings().network)
    lab.provider.check_machines(folder)


def test_a_machine_goes_on_in_another_lab_where_it_was(labs: list[Lab], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    old = labs[-1]
    before, up_s, counter = old.provider.machines(), since_boot_s(old, "minion-1"), old.on("minion-1", "cat /run/counter")
    old.provider.destroy_lab()
    new = Lab(tmp_path_factory.mktemp("vm-lab"), key=old.key)
    labs.append(new)
    new.provider.load_machines(folder)
    assert new.provider.machines() == before, "the same boots with the same host keys, on and paused as they were"
    assert new.on("minion-1", "cat /root/note /run/counter") == f"before\n{counter}", "what was done since the save is not"
    assert 0 < since_boot_s(new, "minion-1") < up_s + 60 * PATIENCE
    counted = new.on("minion-1", "tail -n 1 /root/count")
    deadline = time.monotonic() + 20 * PATIENCE
    while new.on("minion-1", "tail -n 1 /root/count") == counted:
        assert time.monotonic() < deadline, "its processes run"


def test_its_clock_is_right(lab: Lab) -> None:
    assert abs(float(lab.on("minion-1", "date +%s.%N")) - time.time()) < 2 * PATIENCE


def test_vagrant_knows_it(lab: Lab) -> None:
    done = subprocess.run(["vagrant", "ssh", "minion-1", "-c", "hostname"], cwd=lab.folder, capture_output=True, text=True, timeout=BOOT_S)
    assert done.stdout.strip() == "minion-1", done.stderr


def test_nothing_is_left(lab: Lab) -> None:
    lab.provider.destroy_lab()
    virsh = [["list", "--all", "--name"], ["net-list", "--all", "--name"], ["vol-list", "default"]]
    left = "".join(subprocess.run(["virsh", "-q", *words], capture_output=True, text=True).stdout for words in virsh)
    assert lab.id not in left
    assert not (lab.folder / "Vagrantfile").exists() and not (lab.folder / ".vagrant").exists()
