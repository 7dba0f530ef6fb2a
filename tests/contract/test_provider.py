"""What every provider promises: the fake, real namespaces, virtual machines, and machines that exist already, which have no power to switch.

Virtual machines are tried beside a libvirtd of their own (`make test-vm`), where the others are not tried again. They boot slowly, so all tests share two,
which are there when a test begins; else there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import ProviderError
from labctl.providers.namespace.cgroup import V2
from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import LinkRule, LinkRules, MachineEvent, MachineSpec, Power, Stop, ability
from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh.provider import SshProvider
from labctl.sim.machines import FakeProvider
from tests.existing import Rack
from tests.vm.labs import PATIENCE

SOON_S = 5.0 * PATIENCE
BESIDE_A_LIBVIRTD = os.environ.get("LABCTL_VM_INSIDE") == "1"
REAL = ("vagrant",) if BESIDE_A_LIBVIRTD else ("namespace", "namespace-unified-cgroups", "ssh", "vagrant")
HYBRID = Path("/sys/fs/cgroup/unified")  # a version 2 tree beside version 1's


class Heard:
    """What a watch told, in order; `wait` for a condition on what it told of one machine."""

    def __init__(self) -> None:
        self.events: list[MachineEvent] = []
        self._changed = threading.Condition()

    def tell(self, event: MachineEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, condition: Callable[[list[MachineEvent]], bool], name: str = "minion-1") -> list[MachineEvent]:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.of(name)), SOON_S), self.events
            return self.of(name)

    def of(self, name: str) -> list[MachineEvent]:
        return [event for event in self.events if event.name == name]

    def powers(self, name: str) -> list[tuple[Power, str]]:
        return [(event.power, event.boot_id) for event in self.of(name)]


@pytest.fixture(scope="module", autouse=True)
def machines_that_are_shared(request: pytest.FixtureRequest) -> Iterator[None]:
    """Gone at the end: the next file's lab has the same addresses."""
    lab = request.getfixturevalue("virtual") if BESIDE_A_LIBVIRTD else None
    yield
    if lab:
        lab.provider.destroy_lab()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(
    params=[
        *(() if BESIDE_A_LIBVIRTD else ("fake",)),
        *(pytest.param(name, marks=[pytest.mark.root, pytest.mark.timeout(300)]) for name in REAL),
    ]
)
def provider(request: pytest.FixtureRequest, tmp_path: Path, provider_cache: Path) -> Iterator[Any]:
    if request.param == "fake":
        yield FakeProvider()
        return
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param == "vagrant":
        if not BESIDE_A_LIBVIRTD:
            pytest.skip("virtual machines run beside a libvirtd of their own: make test-vm")
        if "makes_machines_anew" in request.fixturenames:
            pytest.skip("there are machines already, and to make others takes long; tests/e2e makes them")
        lab = request.getfixturevalue("virtual")
        lab.put_right()
        yield lab.provider
        return
    if request.param == "ssh" and "makes_machines" in request.fixturenames:
        pytest.skip("machines that exist already have no power to switch and no disk to copy")
    if request.param == "ssh":
        yield from _existing(tmp_path, provider_cache)
        return
    lab, state = f"test-{uuid.uuid4().hex[:8]}", tmp_path / "state"
    if request.param == "namespace":
        real = NamespaceProvider(lab, state, provider_cache)
    elif (HYBRID / "cgroup.procs").exists():
        real = NamespaceProvider(lab, state, provider_cache, cgroups=lambda lab: V2(lab, HYBRID))
    else:
        pytest.skip("no second cgroup tree here: the first is all there is")
    try:
        yield real
    finally:
        real.destroy_lab()


def _existing(folder: Path, cache: Path) -> Iterator[SshProvider]:
    rack = Rack(folder, cache, 3)
    try:
        machines = tuple(SshMachine(name, each.address, key=str(rack.key)) for name, each in rack.machines.items())
        yield SshProvider("test-lab", folder / "state", SshSettings(machines, command=(*rack.inside, "ssh")))
    finally:
        rack.close()


@pytest.fixture
def makes_machines() -> None:
    """For tests that pull plugs or take snapshots: `provider` skips what it can't."""


@pytest.fixture
def makes_machines_anew() -> None:
    """For tests that begin with none."""


@pytest.fixture(scope="session")
def public_key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ssh") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


@pytest.fixture
def spec(request: pytest.FixtureRequest, provider: Any, public_key: str) -> Callable[..., MachineSpec]:
    if provider.name == "vagrant":
        return request.getfixturevalue("virtual").spec  # type: ignore[no-any-return]

    def make(number: int = 1, memory_bytes: int = 256 << 20) -> MachineSpec:
        return MachineSpec(f"minion-{number}", number, memory_bytes, 1.0, f"10.245.1.{10 + number}", 24, public_key)

    return make


def test_a_machine_that_is_up_can_be_described(provider: Any, spec: Any) -> None:
    before = provider.machines()
    machine = provider.up(spec())
    assert (machine.name, machine.power, machine.address, machine.port) == ("minion-1", Power.ON, "10.245.1.11", 22)
    assert machine.host_key.startswith("ssh-ed25519 ")
    assert machine.boot_id
    assert machine.arch in ("amd64", "arm64")
    assert provider.machines() == {**before, "minion-1": machine}


def test_up_of_what_is_up_changes_nothing(provider: Any, spec: Any) -> None:
    assert provider.up(spec()) == provider.up(spec())


@pytest.mark.usefixtures("makes_machines")
def test_halt_destroy_and_faults_of_what_is_unknown_are_no_error(provider: Any) -> None:
    before = provider.machines()
    for call in (provider.halt, provider.destroy, provider.power_off, provider.pause, provider.resume, provider.cut, provider.restore):
        call("minion-7")
    assert provider.machines() == before


@pytest.mark.usefixtures("makes_machines")
def test_another_boot_has_another_id_and_the_same_host_key(provider: Any, spec: Any) -> None:
    first = provider.up(spec())
    provider.power_off("minion-1")
    off = provider.machines()["minion-1"]
    assert (off.power, off.boot_id) == (Power.OFF, "")
    second = provider.up(spec())
    assert second.boot_id != first.boot_id
    assert second.host_key == first.host_key


@pytest.mark.usefixtures("makes_machines")
def test_power_off_is_told_with_the_boot_it_ended_and_not_as_intended(provider: Any, spec: Any, heard: Heard) -> None:
    stop = provider.watch(heard.tell)
    machine = provider.up(spec())
    heard.wait(lambda events: bool(events))
    provider.power_off("minion-1")
    events = heard.wait(lambda events: events[-1].power is Power.OFF)
    stop()
    assert heard.powers("minion-1") == [(Power.ON, machine.boot_id), (Power.OFF, machine.boot_id)]
    assert not events[-1].intended
    assert events[-1].reason


@pytest.mark.parametrize("end", ["halt", "destroy"])
def test_what_was_asked_for_is_told_as_intended(provider: Any, spec: Any, heard: Heard, end: str) -> None:
    stop = provider.watch(heard.tell)
    machine = provider.up(spec())
    heard.wait(lambda events: bool(events))
    getattr(provider, end)("minion-1")
    last = heard.wait(lambda events: events[-1].power is Power.OFF)[-1]
    stop()
    assert (last.boot_id, last.intended) == (machine.boot_id, True)
    assert ("minion-1" in provider.machines()) is (end == "halt")


@pytest.mark.usefixtures("makes_machines")
def test_reset_tells_the_end_of_one_boot_before_the_next(provider: Any, spec: Any, heard: Heard) -> None:
    first = provider.up(spec())
    stop = provider.watch(heard.tell)
    provider.reset("minion-1")
    heard.wait(lambda events: len(events) >= 3)
    stop()
    second = provider.machines()["minion-1"]
    assert heard.powers("minion-1") == [(Power.ON, first.boot_id), (Power.OFF, first.boot_id), (Power.ON, second.boot_id)]


@pytest.mark.usefixtures("makes_machines")
def test_pause_is_told_and_is_no_end(provider: Any, spec: Any, heard: Heard) -> None:
    machine = provider.up(spec())
    stop = provider.watch(heard.tell)
    heard.wait(lambda events: bool(events))
    provider.pause("minion-1")
    heard.wait(lambda events: events[-1].power is Power.PAUSED)
    assert provider.machines()["minion-1"].power is Power.PAUSED
    provider.resume("minion-1")
    heard.wait(lambda events: events[-1].power is Power.ON)
    stop()
    assert {boot for _, boot in heard.powers("minion-1")} == {machine.boot_id}


@pytest.mark.usefixtures("makes_machines")
def test_a_paused_machine_can_be_powered_off(provider: Any, spec: Any) -> None:
    provider.up(spec())
    provider.pause("minion-1")
    provider.power_off("minion-1")
    assert provider.machines()["minion-1"].power is Power.OFF


@pytest.mark.usefixtures("makes_machines")
def test_up_of_a_paused_machine_resumes_it(provider: Any, spec: Any) -> None:
    machine = provider.up(spec())
    provider.pause("minion-1")
    assert provider.up(spec()) == machine


@pytest.mark.usefixtures("makes_machines")
def test_a_new_watch_tells_the_present_state_once(provider: Any, spec: Any, heard: Heard) -> None:
    one, two = provider.up(spec(1)), provider.up(spec(2))
    provider.power_off("minion-2")
    stop = provider.watch(heard.tell)
    for name in ("minion-1", "minion-2"):
        heard.wait(bool, name)
    stop()
    assert heard.powers("minion-1") == [(Power.ON, one.boot_id)]
    assert heard.powers("minion-2") == [(Power.OFF, two.boot_id)]


@pytest.mark.usefixtures("makes_machines_anew")
def test_nothing_is_told_after_a_watch_was_stopped(provider: Any, spec: Any, heard: Heard) -> None:
    stop: Stop = provider.watch(heard.tell)
    stop()
    stop()
    provider.up(spec())
    assert heard.events == []


@pytest.mark.usefixtures("makes_machines_anew")
def test_machines_come_up_side_by_side(provider: Any, spec: Any) -> None:
    threads = [threading.Thread(target=provider.up, args=(spec(number),)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: machine.power for name, machine in provider.machines().items()} == dict.fromkeys(
        ("minion-1", "minion-2", "minion-3"), Power.ON
    )


def test_a_links_rules_are_what_was_asked_for_until_the_machine_boots_again(provider: Any, spec: Any) -> None:
    links = ability(provider, LinkRules)
    if links is None:
        pytest.skip("it can't reach its machines' links")
    lossy, slow = LinkRule("loss", "in", share=0.1), LinkRule("rate", addresses=("10.245.1.12", "10.246.2.0/24"), rate_bits=1e7)
    if why_not := links.why_no_rule(slow):
        pytest.skip(why_not)
    with pytest.raises(ProviderError, match="off"):
        links.add_rule("minion-7", "a", lossy)
    links.remove_rule("minion-7", "a")
    provider.up(spec())
    assert links.link_rules("minion-1") == {}
    links.add_rule("minion-1", "a", lossy)
    links.add_rule("minion-1", "a", lossy)
    links.add_rule("minion-1", "b", slow)
    assert links.link_rules("minion-1") == {"a": lossy, "b": slow}
    links.remove_rule("minion-1", "a")
    links.remove_rule("minion-1", "a")
    assert links.link_rules("minion-1") == {"b": slow}
    provider.reset("minion-1")
    assert links.link_rules("minion-1") == {}
    links.remove_rule("minion-1", "b")


def test_the_uplink_is_the_labs_first_address(provider: Any) -> None:
    if provider.name == "ssh":
        pytest.skip("machines that exist have their own network")
    uplink = provider.uplink(6443)
    try:
        assert (uplink.url, uplink.host, uplink.port) == ("https://10.245.1.1:6443", "10.245.1.1", 6443)
    finally:
        for each in uplink.sockets:
            each.close()


def test_destroying_the_lab_forgets_every_machine_and_can_be_repeated(provider: Any, spec: Any) -> None:
    provider.up(spec(1))
    provider.up(spec(2))
    provider.destroy_lab()
    provider.destroy_lab()
    assert provider.machines() == {}


@pytest.mark.usefixtures("makes_machines_anew")
def test_a_lab_that_was_destroyed_can_be_made_again_at_once(provider: Any, spec: Any) -> None:
    provider.up(spec(1))
    provider.destroy_lab()
    started = time.monotonic()
    assert provider.up(spec(1)).power is Power.ON
    assert time.monotonic() - started < 30


# -- snapshots -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(provider: Any, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    folders: list[Path] = []

    def save(meanwhile: Callable[[], None] = lambda: None) -> Path:
        folder = tmp_path / f"saved-{uuid.uuid4().hex[:4]}"
        folder.mkdir()
        folders.append(folder)
        provider.save_machines(folder, meanwhile)
        return folder

    yield save
    for folder in folders:
        shutil.rmtree(folder)  # memory and disks take hundreds of megabytes


def powers(provider: Any) -> dict[str, Power]:
    return {name: machine.power for name, machine in provider.machines().items()}


@pytest.mark.usefixtures("makes_machines")
def test_machines_stand_still_while_they_are_saved_and_go_on_as_they_were(provider: Any, spec: Any, saved: Any) -> None:
    provider.up(spec(1))
    provider.up(spec(2))
    provider.power_off("minion-2")
    before, seen = provider.machines(), []
    saved(lambda: seen.append(powers(provider)))
    assert seen == [{"minion-1": Power.PAUSED, "minion-2": Power.OFF}]
    assert provider.machines() == before


@pytest.mark.usefixtures("makes_machines")
def test_who_was_paused_before_a_save_stays_so(provider: Any, spec: Any, saved: Any) -> None:
    provider.up(spec(1))
    provider.pause("minion-1")
    saved()
    assert powers(provider)["minion-1"] is Power.PAUSED


@pytest.mark.usefixtures("makes_machines")
def test_a_save_that_fails_lets_the_machines_go_on(provider: Any, spec: Any, saved: Any) -> None:
    provider.up(spec(1))

    def fail() -> None:
        raise RuntimeError("the store refused")

    with pytest.raises(RuntimeError, match="the store refused"):
        saved(fail)
    assert powers(provider)["minion-1"] is Power.ON
    saved()


@pytest.mark.usefixtures("makes_machines")
def test_loading_brings_back_who_was_there_and_nobody_else(provider: Any, spec: Any, saved: Any) -> None:
    one = provider.up(spec(1))
    provider.up(spec(2))
    provider.power_off("minion-2")
    both = saved()
    provider.destroy("minion-1")
    second = saved()
    for _ in range(2):  # any number of times
        provider.load_machines(both)
        assert powers(provider) == {"minion-1": Power.ON, "minion-2": Power.OFF}
        again = provider.machines()["minion-1"]
        assert (again.address, again.host_key) == (one.address, one.host_key)
        assert again.boot_id == one.boot_id if provider.keeps_memory else again.boot_id not in ("", one.boot_id)
    provider.load_machines(second)
    assert powers(provider) == {"minion-2": Power.OFF}
    assert provider.up(spec(2)).power is Power.ON


@pytest.mark.usefixtures("makes_machines")
def test_what_is_loaded_may_be_of_a_lab_that_is_gone(provider: Any, spec: Any, saved: Any) -> None:
    one = provider.up(spec(1))
    folder = saved()
    provider.destroy_lab()
    provider.load_machines(folder)
    assert provider.machines()["minion-1"].host_key == one.host_key


@pytest.mark.usefixtures("makes_machines")
def test_a_folder_that_is_no_snapshot_changes_nothing(provider: Any, spec: Any, tmp_path: Path) -> None:
    provider.up(spec(1))
    before = provider.machines()
    with pytest.raises(ProviderError, match="can't be read"):
        provider.load_machines(tmp_path)
    assert provider.machines() == before
