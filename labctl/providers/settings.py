"""The settings of providers. `lab/settings.py` composes them; units are in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from labctl import defaults
from labctl.decoding import from_values


@dataclass(frozen=True)
class NamespaceSettings:
    """The settings of provider `namespace`. `suite` and `mirror` go to mmdebstrap; an empty mirror means apt's default for that suite."""

    network: str = defaults.MACHINE_NETWORK
    mtu_bytes: int = 1500
    pod_network: str = ""  # some networks need packages of their own in the root file system
    suite: str = "bookworm"
    mirror: str = ""
    boot_deadline_s: float = 60.0  # a boot takes ten seconds if the host itself is an emulated machine
    kill_deadline_s: float = 10.0
    rescan_s: float = 1.0  # how often to look for machines that another process started


@dataclass(frozen=True)
class VagrantSettings:
    """The settings of provider `vagrant`.

    An empty `box` means labctl's own for this architecture, which is built if there is none. `machines_bytes` is the memory of all machines
    together.
    """

    network: str = defaults.MACHINE_NETWORK
    box: str = ""
    machines_bytes: int = 0
    suite: str = "bookworm"
    mirror: str = ""
    boot_deadline_s: float = 240.0  # all attempts together; emulated machines on a busy host are slow
    watchdog_s: float = 45.0  # a machine that prints nothing for this long after its start is reset; the next limit is twice as long
    vagrant_deadline_s: float = 420.0
    ssh_deadline_s: float = 20.0


class SshMachine(msgspec.Struct, frozen=True):
    """A machine that exists already, as lab.yml describes it. An empty `host_key` means that it is pinned on first use."""

    name: str
    address: str
    port: int = 22
    user: str = "root"
    key: str = ""
    sudo: bool = False
    host_key: str = ""


@dataclass(frozen=True)
class SshSettings:
    """The settings of provider `ssh`, for machines that exist already. Every ssh command line begins with `command`."""

    machines: tuple[SshMachine, ...] = ()
    prepare: bool = False  # install missing packages
    uplink: str = "auto"
    master_address: str = ""  # where the master listens for them; empty: a reverse tunnel
    network: str = "route"  # some networks need more packages
    command: tuple[str, ...] = ("ssh",)
    connect_deadline_s: float = 10.0
    script_deadline_s: float = 60.0
    prepare_deadline_s: float = 900.0  # the mirror or a memory card may be slow
    alive_every_s: int = 5  # how often a watch's connection is checked; after three checks without an answer it is lost
    retry_first_s: float = 0.5  # the first pause before a watch connects again; it doubles each time,
    retry_max_s: float = 10.0  # up to this


def ssh_settings(settings: Mapping[str, Any]) -> SshSettings:
    """Take the settings out of the lab's, which are named as in lab.yml."""
    machines = from_values(settings["machines"], tuple[SshMachine, ...])
    return SshSettings(machines, settings["prepare"], settings["uplink"], settings["master_address"], settings["network"])
