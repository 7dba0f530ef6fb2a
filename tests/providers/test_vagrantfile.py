"""What the Vagrantfile yields for each hypervisor. Only libvirt's machines can be booted in tests; the others' are read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from labctl import assets

PROVIDERS = ("libvirt", "virtualbox", "vmware_desktop", "parallels", "hyperv")
READER = Path(__file__).with_name("vagrantfile.rb")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOtest labctl\n"

pytestmark = pytest.mark.skipif(not shutil.which("ruby"), reason="no ruby here")


@pytest.fixture
def yields(tmp_path: Path):
    """What the Vagrantfile says in a folder of its own: yields("libvirt", lab={...}, NUM_MINIONS="3")."""
    shutil.copy(assets.root() / "Vagrantfile", tmp_path)
    keys = tmp_path / ".labctl" / "ssh"
    keys.mkdir(parents=True)
    (keys / "id_ed25519").write_text("private")
    (keys / "id_ed25519.pub").write_text(KEY)

    def read(provider: str, lab: dict[str, Any] | None = None, **environment: str) -> dict[str, Any]:
        if lab is not None:
            (tmp_path / ".labctl" / "vagrant.json").write_text(json.dumps(lab))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LABCTL", "MINION", "NUM_"))}
        argv = ["ruby", str(READER), str(tmp_path / "Vagrantfile"), provider]
        done = subprocess.run(argv, capture_output=True, text=True, env={**clean, **environment})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


@pytest.mark.parametrize("provider", PROVIDERS)
def test_machines_are_named_and_sized_as_the_environment_says(yields, provider: str) -> None:
    said = yields(provider, NUM_MINIONS="3", MINION_MEMORY="512M", MINION_CPUS="2")
    assert list(said["machines"]) == ["minion-1", "minion-2", "minion-3"]
    sizes = said["machines"]["minion-3"]["provider"]
    if provider == "vmware_desktop":
        assert (sizes["vmx"]["memsize"], sizes["vmx"]["numvcpus"]) == ("512", "2")
    else:
        assert (sizes["memory"], sizes["cpus"]) == (512, 2)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nothing_of_the_host_is_shared_and_no_public_key_stays(yields, provider: str) -> None:
    said = yields(provider)
    assert ["synced_folder", ".", "/vagrant", {"disabled": True}] in said["folders"]
    assert said["ssh"]["insert_key"] is True
    own = yields(provider, LABCTL_BOX="labctl/minion-amd64-0123456789ab")
    assert own["ssh"]["insert_key"] is False and own["ssh"]["private_key_path"].endswith(".labctl/ssh/id_ed25519")


@pytest.mark.parametrize(("provider", "first"), [("libvirt", "10.245.1.11"), ("virtualbox", "192.168.56.11"), ("parallels", "10.245.1.11")])
def test_addresses_are_fixed_and_of_a_range_that_the_hypervisor_allows(yields, provider: str, first: str) -> None:
    machines = yields(provider)["machines"]
    (network,) = machines["minion-1"]["networks"]
    assert (network["type"], network["ip"], network["netmask"]) == ("private_network", first, "255.255.255.0")
    assert machines["minion-2"]["networks"][0]["ip"] == first[:-1] + "2"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stock_box_is_made_a_minion_that_takes_the_labs_key(yields, provider: str) -> None:
    machine = yields(provider)["machines"]["minion-1"]
    upload, script = machine["provisions"]
    assert upload[-1]["source"].endswith("provision") and upload[-1]["type"] == "file"
    assert "install.sh" in script[-1]["inline"] and KEY.strip() in script[-1]["inline"]
    assert subprocess.run(["sh", "-n"], input=script[-1]["inline"], text=True).returncode == 0


def test_a_box_of_our_own_is_told_all_on_the_kernels_command_line(yields) -> None:
    machine = yields("libvirt", LABCTL_BOX="labctl/minion-amd64-0123456789ab")["machines"]["minion-2"]
    words = dict(word.partition("=")[::2] for word in machine["provider"]["cmd_line"].split())
    assert words["labctl.name"] == "minion-2"
    assert words["labctl.address"] == "10.245.1.12/24"
    assert words["labctl.key"] == KEY.strip().removesuffix(" labctl").replace(" ", ":")
    assert words["labctl.mac"] == machine["networks"][0]["libvirt__mac"]
    assert machine["provisions"] == []


def test_a_lab_says_what_its_machines_are(yields) -> None:
    lab = {
        "lab": "lab-12345678",
        "network": "10.9.8.0/25",
        "box": "labctl/minion-amd64-0123456789ab",
        "driver": "qemu",
        "machines": [{"name": "minion-4", "number": 4, "memory": 768, "cpus": 1, "console": "/var/log/x.log"}],
    }
    said = yields("libvirt", lab, NUM_MINIONS="9", LABCTL_BOX="other")
    assert said["vm"]["box"] == lab["box"] and list(said["machines"]) == ["minion-4"]
    machine = said["machines"]["minion-4"]
    assert (machine["networks"][0]["ip"], machine["networks"][0]["netmask"]) == ("10.9.8.14", "255.255.255.128")
    assert machine["networks"][0]["libvirt__network_name"] == "lab-12345678"
    assert machine["provider"]["default_prefix"] == "lab-12345678-"
    assert (machine["provider"]["driver"], machine["provider"]["cpu_model"], machine["provider"]["memory"]) == ("qemu", "qemu64", 768)
    assert ["serial", {"type": "file", "source": {"path": "/var/log/x.log"}}] in machine["calls"]


def test_a_hardware_address_goes_with_the_address_in_every_lab(yields) -> None:
    """A machine made anew, also in a lab that came out of a snapshot of another, is for its peers who it was."""

    def mac(lab: str, network: str, number: int = 1) -> str:
        machines = [{"name": f"minion-{number}", "number": number, "memory": 512, "cpus": 1}]
        said = yields("libvirt", {"lab": lab, "network": network, "box": "labctl/minion-amd64-0123456789ab", "machines": machines})
        machine = said["machines"][f"minion-{number}"]
        address = machine["networks"][0]["libvirt__mac"]
        assert f"labctl.mac={address} " in machine["provider"]["cmd_line"]
        return address

    assert mac("lab-1", "10.245.1.0/24") == mac("lab-2", "10.245.1.0/24")
    others = {mac("lab-1", "10.245.1.0/24", 2), mac("lab-1", "10.245.2.0/24"), mac("lab-1", "10.245.1.0/24")}
    assert len(others) == 3


def test_a_size_that_is_none_is_refused_with_the_mend(tmp_path: Path) -> None:
    shutil.copy(assets.root() / "Vagrantfile", tmp_path)
    argv = ["ruby", str(READER), str(tmp_path / "Vagrantfile"), "libvirt"]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "MINION_MEMORY": "plenty"})
    assert done.returncode == 1 and "write a size such as 1G or 512M" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("vagrant"), reason="no vagrant here")
@pytest.mark.parametrize("provider", ["libvirt", "virtualbox", "hyperv"])
def test_vagrant_itself_finds_nothing_wrong(tmp_path: Path, provider: str) -> None:
    """libvirt's words are checked too; of the others those that are not their hypervisor's, which is not here."""
    shutil.copy(assets.root() / "Vagrantfile", tmp_path)
    home = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DEFAULT_PROVIDER": provider, "LABCTL_PROVISION": str(assets.provision(""))}
    ignoring = [] if provider == "libvirt" else ["--ignore-provider"]
    done = subprocess.run(["vagrant", "validate", *ignoring], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **home})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecated" not in done.stdout + done.stderr
