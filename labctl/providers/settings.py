"""What can be set about providers. Composed by `lab/settings.py`; units are in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from labctl import defaults


@dataclass(frozen=True)
class NamespaceSettings:
    """The embedded provider's. `suite` and `mirror` go to mmdebstrap; an empty mirror is apt's default for that suite."""

    network: str = defaults.MACHINE_NETWORK
    mtu_bytes: int = 1500
    pod_network: str = ""  # some need packages of their own in the root file system
    suite: str = "bookworm"
    mirror: str = ""
    boot_deadline_s: float = 60.0  # inside an emulated machine a boot takes ten seconds
    kill_deadline_s: float = 10.0
    rescan_s: float = 1.0  # how soon a machine that another process started is noticed


@dataclass(frozen=True)
class VagrantSettings:
    """The virtual machines'. An empty `box` is labctl's own for this architecture, built where there is none; `machines_bytes` is all their memory."""

    network: str = defaults.MACHINE_NETWORK
    box: str = ""
    machines_bytes: int = 0
    suite: str = "bookworm"
    mirror: str = ""
    boot_deadline_s: float = 240.0  # all attempts together; emulated machines on a busy host are slow
    watchdog_s: float = 45.0  # a machine that says nothing for this long after its start is reset; then for twice as long
    vagrant_deadline_s: float = 420.0
    ssh_deadline_s: float = 20.0


class SshMachine(msgspec.Struct, frozen=True):
    """A machine that exists already, as lab.yml has it. `host_key` empty: pinned on first use."""

    name: str
    address: str
    port: int = 22
    user: str = "root"
    key: str = ""
    sudo: bool = False
    host_key: str = ""


@dataclass(frozen=True)
class SshSettings:
    """The provider's of machines that exist already. `command` begins every ssh command line."""

    machines: tuple[SshMachine, ...] = ()
    prepare: bool = False  # install what they lack
    uplink: str = "auto"
    master_address: str = ""  # where the master listens for them; empty: a reverse tunnel
    network: str = "route"  # some need more packages
    command: tuple[str, ...] = ("ssh",)
    connect_deadline_s: float = 10.0
    script_deadline_s: float = 60.0
    prepare_deadline_s: float = 900.0  # a slow mirror, a slow card
    alive_every_s: int = 5  # a watch's connection is asked so often; three times without an answer, it is lost
    retry_first_s: float = 0.5  # then a watch connects again, after twice as long each time,
    retry_most_s: float = 10.0  # up to this


def ssh_settings(settings: Mapping[str, Any]) -> SshSettings:
    """Out of the lab's settings, by their names in lab.yml."""
    machines = msgspec.convert(settings["machines"], tuple[SshMachine, ...])
    return SshSettings(machines, settings["prepare"], settings["uplink"], settings["master_address"], settings["network"])
