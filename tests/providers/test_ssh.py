"""Provider ssh beyond the contract: what a machine has, whose it is, how its key is pinned, what a reboot and a silence mean."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import HostKeyMismatch, ProviderError
from labctl.providers.protocol import MachineEvent, MachineSpec, Power
from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh import look, probe
from labctl.providers.ssh.provider import SshProvider
from tests.existing import Rack, package
from tests.namespaces import needs_root

SOON_S = 20.0
BARE = """root 0
kernel 2c1d
arch aarch64
system Debian GNU/Linux 12 (bookworm)
python 3.11.2
has iptables
has iptables-restore
has ip
has pkill
has tar
has apt-get
cgroup 2 cpuset cpu io pids
overlay yes
nat yes
free 900000
address 192.168.1.21
source 192.168.1.21
"""


class TestLook:
    facts = look.parse(BARE, "ssh-ed25519 AAAA")
    machine = SshMachine("minion-1", "pi.local", user="pi", sudo=True)

    def test_packages_that_apt_can_bring(self) -> None:
        assert self.facts.packages() == ["conmon", "conntrack", "crun"]
        assert look.parse(BARE.replace("3.11.2", "3.8.1"), "").packages() == ["conmon", "conntrack", "crun", "python3"]

    def test_a_network_may_need_more(self) -> None:
        assert set(self.facts.packages("bgp")) - set(self.facts.packages()) == {"bird2"}
        assert set(self.facts.packages("ovs")) - set(self.facts.packages()) == {"openvswitch-switch"}

    def test_what_no_package_brings(self) -> None:
        assert self.facts.lacks() == ["the cgroup controllers memory", "space: 878 MiB are free below /var/lib, 1024 are needed"]

    def test_the_table_has_a_line_for_each_thing_and_its_mend(self) -> None:
        lines = [(line.level, line.found, line.mend) for line in probe.findings([(self.machine, self.facts)])]
        assert lines[0] == ("ok", "pi@pi.local: Debian GNU/Linux 12 (bookworm), arm64, python 3.11.2, cgroup v2, 0 GiB free", "")
        assert lines[1] == ("error", "minion-1 (pi@pi.local) lacks the packages conmon conntrack crun", probe.PREPARE)
        assert "cgroup_enable=memory" in lines[2][2]
        assert len(lines) == 4

    def test_without_apt_the_packages_are_named(self) -> None:
        (_, line, *_) = probe.findings([(self.machine, look.parse(BARE.replace("has apt-get\n", ""), ""))])
        assert line.mend == "install them there: conmon conntrack crun (Debian's names)"

    def test_missing_packages_are_no_obstacle_where_they_will_be_installed(self) -> None:
        whole = look.parse(BARE.replace("cpu io", "cpu memory io").replace("900000", "9000000"), "")
        assert not probe.verdict([(self.machine, whole)], prepare=False).works
        assert probe.verdict([(self.machine, whole)], prepare=True).works
        assert not probe.verdict([(self.machine, self.facts)], prepare=True).works

    def test_the_nodes_address_is_one_that_it_has(self) -> None:
        assert self.facts.node_address("192.168.1.21") == "192.168.1.21"
        assert self.facts.node_address("203.0.113.7") == "192.168.1.21"

    def test_a_boot_is_the_kernels_once_the_claims_kernel_is_gone(self) -> None:
        claim = "claim-lab a\nclaim-name minion-1\nclaim-power On\nclaim-kernel {}\nclaim-boot ours\n"
        assert look.parse(BARE + claim.format("2c1d"), "").boot_id == "ours"
        assert look.parse(BARE + claim.format("before"), "").boot_id == "2c1d"


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory, provider_cache: Path) -> Iterator[Rack]:
    rack = Rack(tmp_path_factory.mktemp("rack"), provider_cache, 1)
    try:
        yield rack
    finally:
        rack.close()


@pytest.fixture
def new(rack: Rack, tmp_path: Path) -> Iterator[Callable[..., SshProvider]]:
    """A provider for lab `lab` on the one machine; what it left is removed."""
    made = []

    def make(lab: str = "one", prepare: bool = False, **machine: Any) -> SshProvider:
        entry = SshMachine("minion-1", rack.machines["minion-1"].address, **{"key": str(rack.key), **machine})
        settings = SshSettings((entry,), prepare, "reverse", command=(*rack.inside, "ssh"), alive_every_s=1)
        made.append(SshProvider(lab, tmp_path / lab, settings, said.append))
        return made[-1]

    said: list[str] = []
    make.said = said  # type: ignore[attr-defined]
    yield make
    for provider in made:
        provider.destroy_lab()


def spec() -> MachineSpec:
    return MachineSpec("minion-1", 1, 1 << 30, 1.0, "10.245.1.11", 24, "")


@needs_root
@pytest.mark.root
class TestRack:
    def test_a_key_is_pinned_on_first_use_and_said_once(self, new: Any, rack: Rack) -> None:
        provider = new()
        provider.prepare()
        (line,) = new.said
        listed = subprocess.run(["ssh-keygen", "-lf", "-"], input=rack.machines["minion-1"].host_key, text=True, capture_output=True).stdout
        assert line.startswith("minion-1: pinned its SSH host key on first use: ssh-ed25519 SHA256:")
        assert listed.split()[1] in line
        provider.prepare()
        assert len(new.said) == 1
        assert provider.up(spec()).host_key == rack.machines["minion-1"].host_key

    def test_another_key_than_the_pinned_one_is_refused(self, new: Any, tmp_path: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
        provider = new(host_key=(tmp_path / "other.pub").read_text().strip())
        assert "another SSH host key" in provider.probe().reason
        with pytest.raises(HostKeyMismatch):
            provider.up(spec())

    def test_a_key_that_its_sshd_does_not_accept(self, new: Any, tmp_path: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "mine")], check=True)
        verdict = new(key=str(tmp_path / "mine")).probe()
        assert not verdict.works
        assert "does not accept" in verdict.reason
        assert verdict.mend.startswith("ssh-copy-id ")

    def test_two_labs_do_not_share_a_machine(self, new: Any) -> None:
        one, two = new("one"), new("two")
        one.up(spec())
        with pytest.raises(ProviderError, match="is in use by lab one"):
            two.up(spec())
        two.destroy_lab()
        assert one.machines()["minion-1"].power is Power.ON
        one.destroy_lab()
        assert two.up(spec()).power is Power.ON

    def test_up_after_halt_is_another_boot(self, new: Any) -> None:
        provider = new()
        first = provider.up(spec())
        provider.halt("minion-1")
        assert provider.machines()["minion-1"].power is Power.OFF
        second = provider.up(spec())
        assert second.power is Power.ON
        assert second.boot_id not in ("", first.boot_id)

    def test_silence_is_no_end_and_a_reboot_is(self, new: Any, rack: Rack, tmp_path: Path) -> None:
        provider, heard, news = new(), [], threading.Semaphore(0)

        def tell(event: MachineEvent) -> None:
            heard.append(event)
            news.release()

        first = provider.up(spec())
        stop = provider.watch(tell)
        assert news.acquire(timeout=SOON_S)
        rack.power_off("minion-1")
        assert provider.machines()["minion-1"] == first  # what was seen last: nobody knows better
        assert len(heard) == 1
        known_hosts = tmp_path / "one" / "machines" / "minion-1.known_hosts"  # of the connection that is held
        assert known_hosts.read_text() == f"minion-1 {first.host_key}\n"
        rack.boot(1)
        assert news.acquire(timeout=SOON_S)
        assert news.acquire(timeout=SOON_S)
        stop()
        _, off, on = heard
        assert (off.power, off.boot_id, off.intended) == (Power.OFF, first.boot_id, False)
        assert (on.power, on.boot_id) == (Power.ON, provider.machines()["minion-1"].boot_id)
        assert on.boot_id != first.boot_id
        provider.destroy_lab()
        assert list(known_hosts.parent.iterdir()) == []

    def test_destroy_says_what_it_could_not_clean_and_can_be_repeated(self, new: Any, rack: Rack) -> None:
        provider = new()
        provider.up(spec())
        rack.power_off("minion-1")
        with pytest.raises(ProviderError, match="something of this lab is left on a machine"):
            provider.destroy_lab()
        rack.boot(1)
        provider.destroy_lab()
        assert provider.machines() == {}
        assert rack.on("minion-1", "ls /etc/labctl/claim", check=False) == ""

    def test_what_lab_yml_names_no_more_is_still_cleaned(self, new: Any, rack: Rack, tmp_path: Path) -> None:
        new().up(spec())
        SshProvider("one", tmp_path / "one", SshSettings(command=(*rack.inside, "ssh"))).destroy_lab()
        assert rack.on("minion-1", "ls /etc/labctl/claim", check=False) == ""

    def test_what_is_missing_is_installed_and_purged_again(self, new: Any, rack: Rack, provider_cache: Path) -> None:
        rack.offer("minion-1", package(provider_cache, "conntrack"))
        verdict = new().probe()
        assert (verdict.works, verdict.mend) == (False, probe.PREPARE)
        provider = new(prepare=True)
        assert provider.probe().works
        provider.prepare()
        assert "minion-1: apt-get install conntrack" in new.said
        provider.up(spec())
        assert rack.on("minion-1", "cat /etc/labctl/installed").split() == ["conntrack"]
        provider.destroy_lab()
        assert rack.on("minion-1", "command -v conntrack; ls /etc/labctl", check=False).split() == ["boot_id", "kernel_boot_id"]
