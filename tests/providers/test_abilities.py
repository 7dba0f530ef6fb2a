"""What each provider can do beside making machines, asked through the one function that asks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import labctl
from labctl.cli.fault import FAULTS as words
from labctl.errors import LabctlError
from labctl.faults.machines import FAULTS, LINKS, POWER, break_machine
from labctl.providers import protocol
from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import Checks, LinkRules, Links, Listed, MayEmulate, PowerControl, Prepares, Provider, Snapshots, ability
from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh.provider import SshProvider
from labctl.providers.vagrant.provider import VagrantProvider
from labctl.sim.machines import FakeProvider

ALL = tuple(each for each in vars(protocol).values() if getattr(each, "_is_runtime_protocol", False))
"""Every ability there is: the protocols of protocol.py that `ability` can ask for."""
HAVE = {
    "fake": {LinkRules, Links, PowerControl, Snapshots},
    "namespace": {LinkRules, Links, PowerControl, Prepares, Snapshots},
    "ssh": {Checks, Listed, Prepares},
    "vagrant": {Checks, LinkRules, Links, MayEmulate, PowerControl, Prepares, Snapshots},
}


def provider(name: str, folder: Path) -> Provider:
    match name:
        case "namespace":
            return NamespaceProvider("test", folder, folder)
        case "ssh":
            return SshProvider("test", folder, SshSettings((SshMachine("minion-1", "10.0.0.1"),)))
        case "vagrant":
            return VagrantProvider("test", folder, folder, folder)
        case _:
            return FakeProvider()


@pytest.mark.parametrize("name", HAVE)
def test_who_can_do_what(name: str, tmp_path: Path) -> None:
    made = provider(name, tmp_path)
    assert {wanted for wanted in ALL if ability(made, wanted) is not None} == HAVE[name]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_a_provider_has_no_word_for_is_refused(fault: str, tmp_path: Path) -> None:
    with pytest.raises(LabctlError, match=f"provider ssh can't {fault.replace('_', '-')} a machine"):
        break_machine(provider("ssh", tmp_path), fault, "minion-1")


def test_every_fault_is_a_method_of_its_ability() -> None:
    for names, wanted in ((POWER, PowerControl), (LINKS, Links)):
        assert set(names) == {name for name in vars(wanted) if not name.startswith("_")}


def test_every_fault_has_its_word_on_the_command_line() -> None:
    assert list(words.values()) == list(FAULTS)


def test_every_ability_is_one_that_some_provider_has() -> None:
    assert set(ALL) == set().union(*HAVE.values())


def test_nobody_asks_in_another_way() -> None:
    asked = re.compile(r"(has|get)attr\((self\.)?_?(provider|remote)\b")
    sources = [path for path in Path(labctl.__file__).parent.rglob("*.py") if asked.search(path.read_text())]
    assert not sources
