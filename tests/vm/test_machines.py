"""What virtual machines promise beyond what every provider does (tests/contract/test_provider.py): one lab of two. Run by `make test-vm`.

The steps build on each other, because a boot takes many seconds where it is emulated.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from labctl.providers.protocol import Power
from labctl.providers.vagrant import shell
from tests.vm.labs import BOOT_S, NEEDS_A_LIBVIRTD, PATIENCE, Lab

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600), NEEDS_A_LIBVIRTD]


@pytest.fixture(scope="module")
def lab(virtual: Lab) -> Iterator[Lab]:
    virtual.put_right()
    stop = virtual.provider.watch(virtual.tell)
    yield virtual
    stop()
    virtual.provider.destroy_lab()


def test_it_works_here(lab: Lab) -> None:
    assert lab.provider.probe().works
    assert [finding for finding in lab.provider.checks() if finding.level == "error"] == []


def test_they_are_who_they_are_said_to_be(lab: Lab) -> None:
    for number, machine in enumerate(lab.machines.values(), 1):
        assert (machine.address, machine.port, machine.user) == (f"10.245.1.{10 + number}", 22, "root")
    assert lab.on("minion-1", "hostname; cat /proc/sys/kernel/random/boot_id").split() == ["minion-1", lab.machines["minion-1"].boot_id]


def test_the_machine_has_the_host_key_that_was_pinned_and_knows_no_other_users(lab: Lab) -> None:
    machine = lab.machines["minion-1"]
    scanned = subprocess.run(["ssh-keyscan", "-T", "30", "-t", "ed25519", machine.address], capture_output=True, text=True).stdout
    assert machine.host_key in scanned
    keys = lab.on("minion-1", "cat /root/.ssh/authorized_keys").strip().splitlines()
    assert [key.split()[1] for key in keys] == [lab.spec(1).authorized_key.split()[1]]


def test_another_process_sees_the_same(lab: Lab) -> None:
    assert lab.another().machines() == lab.machines


def test_a_cut_cable_silences_and_is_no_death(lab: Lab) -> None:
    def reaches() -> bool:
        return shell.greets("10.245.1.12", deadline_s=PATIENCE)

    lab.clear()
    assert reaches()
    lab.provider.cut("minion-2")
    assert not reaches()
    lab.provider.restore("minion-2")
    deadline = time.monotonic() + 10 * PATIENCE
    while not reaches():
        assert time.monotonic() < deadline
    assert lab.events == []


def test_a_machine_that_reboots_itself_is_told_as_an_end_and_a_beginning(lab: Lab) -> None:
    lab.clear()
    before = lab.machines["minion-2"]
    lab.on("minion-2", "systemctl reboot --force --no-block")
    off = lab.wait(lambda event: event.power is Power.OFF, BOOT_S)
    on = lab.wait(lambda event: event.power is Power.ON and event.name == "minion-2", BOOT_S)
    assert off.boot_id == before.boot_id and on.boot_id not in ("", before.boot_id)
    lab.machines["minion-2"] = lab.provider.machines()["minion-2"]
    assert lab.machines["minion-2"].boot_id == on.boot_id


def test_the_master_can_listen_where_machines_reach_it(lab: Lab) -> None:
    uplink = lab.provider.uplink(6443)
    try:
        assert (uplink.url, uplink.network_namespace) == ("https://10.245.1.1:6443", "")
        lab.on("minion-1", "timeout 20 bash -c '</dev/tcp/10.245.1.1/6443'")
    finally:
        for each in uplink.sockets:
            each.close()


def test_vagrant_knows_them_too(lab: Lab) -> None:
    done = subprocess.run(["vagrant", "ssh", "minion-1", "-c", "hostname"], cwd=lab.folder, capture_output=True, text=True, timeout=BOOT_S)
    assert done.stdout.strip() == "minion-1", done.stderr


def test_a_power_off_is_told_within_milliseconds_with_the_boot_it_ended(lab: Lab) -> None:
    lab.clear()
    begun = time.monotonic()
    lab.provider.power_off("minion-1")
    off = lab.wait(lambda event: event.power is Power.OFF)
    took_ms = (time.monotonic() - begun) * 1000
    assert (off.name, off.boot_id, off.intended) == ("minion-1", lab.machines["minion-1"].boot_id, False)
    assert took_ms < 500 * PATIENCE
    assert lab.provider.machines()["minion-1"].power is Power.OFF


def test_destroying_leaves_nothing(lab: Lab) -> None:
    lab.provider.destroy("minion-1")
    assert set(lab.provider.machines()) == {"minion-2"}
    lab.provider.destroy_lab()
    lab.provider.destroy_lab()
    assert lab.provider.machines() == {}
    virsh = [
        ["virsh", "-q", "list", "--all", "--name"],
        ["virsh", "-q", "net-list", "--all", "--name"],
        ["virsh", "-q", "vol-list", "default"],
    ]
    left = "".join(subprocess.run(argv, capture_output=True, text=True).stdout for argv in virsh)
    assert lab.id not in left
    assert not (lab.folder / "Vagrantfile").exists() and not (lab.folder / ".vagrant").exists()
