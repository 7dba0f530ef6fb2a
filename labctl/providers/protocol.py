"""Machines: what a provider promises. Every provider folder has the same file names.

Who calls it: `machines` (up, halt, destroy, watch, uplink), `lab` (probe, destroy without a master, Snapshots), `faults` (PowerControl, Links).
What flows: a MachineSpec in, a Machine (how to reach its sshd) out, MachineEvents about what is KNOWN.
What it never does: know a pod, a node or the API; guess; ask a person. All methods block, are idempotent, and may be called from several threads.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec


class Power(enum.StrEnum):
    ON = "On"
    OFF = "Off"
    PAUSED = "Paused"


class MachineSpec(msgspec.Struct, frozen=True):
    """What is wanted. `number` is N of `minion-N` (1..200); `address` the lab-network address the machine gets."""

    name: str
    number: int
    memory_bytes: int
    cpus: float
    address: str  # 10.245.1.(10+N)
    prefix_length: int
    authorized_key: str  # the lab's public SSH key, one line
    box: str = ""


class Machine(msgspec.Struct, frozen=True):
    """A machine as it is. sshd answers at (address, port) from inside the lab's network; `host_key` is pinned ('ssh-ed25519 AAAA...')."""

    name: str
    power: Power
    address: str
    port: int = 22
    user: str = "root"
    key_path: str = ""  # private key that its sshd accepts
    host_key: str = ""
    arch: str = "amd64"  # GOARCH words: amd64, arm64
    boot_id: str = ""  # changes with every boot
    proxy_command: str = ""  # an ssh ProxyCommand that reaches the address from the host; empty: reachable as it is
    node_address: str = ""  # its own address, which other machines reach, where that is not `address` (a translated port)
    own_clock: bool = False  # its clock is not the host's, and labctl's to set


class MachineEvent(msgspec.Struct, frozen=True):
    """What is known about one boot of a machine. OFF is told only when nothing of that boot can run any more."""

    name: str
    power: Power
    boot_id: str
    reason: str  # a sentence for people: "its init was killed by signal 9"
    intended: bool = False  # halt or destroy asked for it


class Verdict(msgspec.Struct, frozen=True):
    """Whether the provider works here; else why not, and the command that mends it."""

    works: bool
    reason: str = ""
    mend: str = ""


class Finding(msgspec.Struct, frozen=True):
    """A line of the doctor's table. `level`: ok, warning or error; an error means that `up` will fail."""

    name: str
    level: str
    found: str
    mend: str = ""


class Uplink(msgspec.Struct, frozen=True):
    """How minions reach the master. `sockets` are bound and listening on the lab's network (in whatever network namespace that is); `url` is what agents call.

    `network_namespace` is a path for setns (empty: the host's own): the SSH process enters it as a whole.
    """

    url: str
    host: str
    port: int
    sockets: tuple[socket.socket, ...] = ()
    network_namespace: str = ""
    reverse_tunnel: bool = False


class Stop(Protocol):
    def __call__(self) -> None:
        """End a watch; returns when no further event will be told."""


class Provider(Protocol):
    name: str

    def probe(self) -> Verdict:
        """Does it work here? Changes nothing."""

    def up(self, spec: MachineSpec) -> Machine:
        """Make or start the machine; sshd answers on return. A machine that is up already is answered as it is. Does not push anything to it."""

    def halt(self, name: str, grace_s: float = 10.0) -> None:
        """Stop the machine in order; its disk stays. Halting what is off or unknown is no error."""

    def destroy(self, name: str) -> None:
        """Remove the machine and its disk. Unknown names are no error. Does not touch the lab's network."""

    def machines(self) -> Mapping[str, Machine]:
        """Read from reality, never from memory."""

    def watch(self, tell: Callable[[MachineEvent], None]) -> Stop:
        """Tell (from a thread of the provider's) what becomes known. Silence is no event."""

    def uplink(self, port: int) -> Uplink:
        """Make the lab's network if needed and listen there on `port`. Called by the master once after start."""

    def destroy_lab(self) -> None:
        """Remove what the machines shared: network, init, folders. Leaves nothing behind. Idempotent."""


# -- abilities ---------------------------------------------------------------------------------------------------------------------------
#
# What only some providers can do. Each is a protocol of its own, and `ability` is the one place that asks for them.


@runtime_checkable
class Prepares(Protocol):
    """Makes what its machines start from."""

    prepares: str
    """What that is, for people: `root file system`, `box`."""

    def prepare(self) -> Mapping[str, Any] | None:
        """Make it, where it is not there yet. Answers settings of the lab that are decided by it, and kept with the lab. Raises LabctlError."""


@runtime_checkable
class Checks(Protocol):
    """Looks at more beforehand than `probe` does."""

    def checks(self) -> Sequence[Finding]:
        """All of it, in the order in which `up` needs it. Changes nothing."""


@runtime_checkable
class Listed(Protocol):
    """Can't make machines, but takes those that exist."""

    @property
    def numbers(self) -> Sequence[int]:
        """Which there are, ascending: minion-N by its N. They may have gaps."""


@runtime_checkable
class MayEmulate(Protocol):
    """Its machines may run on an emulated processor, many times slower."""

    @property
    def emulated(self) -> bool: ...


@runtime_checkable
class PowerControl(Protocol):
    """Breaks machines on purpose. A name that is unknown, and a machine that is so already, are no error (but for `reset`)."""

    def power_off(self, name: str) -> None:
        """The plug is pulled: abrupt, told to watchers as not intended. Its disk stays as far as it was written."""

    def pause(self, name: str) -> None:
        """Nothing of it runs from the return on, and nothing is lost: memory, connections and disk stay. Watchers are told PAUSED.

        It stays paused when this process or the master ends. `up`, `halt`, `power_off` and `destroy` work on a paused machine as on one that runs.
        """

    def resume(self, name: str) -> None:
        """It goes on where it was; watchers are told ON, with the same boot id. What it missed the provider does not tell it: a clock of its own is set by
        who hears that it is on again."""

    def reset(self, name: str) -> None:
        """Power off and on at once: the end of one boot is told as not intended, then another boot id. Raises ProviderError for an unknown name."""


@runtime_checkable
class Links(Protocol):
    """Breaks a machine's link to the lab's network. A name that is unknown, and a link that is so already, are no error."""

    def cut(self, name: str) -> None:
        """No packet passes in either direction from the return on, as when the cable is out: nobody is told, the machine runs, and so do its pods.

        Connections are not reset. The cut lasts until `restore`, at least as long as the machine does not boot anew.
        """

    def restore(self, name: str) -> None:
        """Packets pass again. The machine has the addresses and routes that it had."""


@runtime_checkable
class Snapshots(Protocol):
    """All machines of the lab as they stood at one moment, kept in a folder that outlives them and their lab.

    The folder is the provider's own, but not its name or its life: `lab` makes it (empty, on a local disk, readable by root alone), renames it
    when it is whole, and removes it; there may be any number. What is in it must be enough for a new lab of another id on this host.
    """

    keeps_memory: bool
    """True: processes go on after a load where they were. False: disks only, and a machine that was on is booted anew."""

    def save_machines(self, folder: Path, meanwhile: Callable[[], None]) -> None:
        """Pause every machine that is on, call `meanwhile` while nothing of theirs runs (the caller keeps its own state of that very moment), write
        them into `folder`, and let those go on that this paused: also after an error, and also if this process is killed in the middle."""

    def check_machines(self, folder: Path) -> None:
        """ProviderError with the mend if `folder` can't be loaded on this host now. Changes nothing: asked before the lab that is there is touched."""

    def load_machines(self, folder: Path) -> None:
        """Make the lab's machines be those of `folder`: what they are now is ended first, and others are destroyed. On return those that
        were on are on (sshd answers, and their clocks are right), with their addresses, keys and disks. Run again after a kill, it finishes."""


A = TypeVar("A")


def ability(provider: Provider, wanted: type[A]) -> A | None:
    """The provider as one that also keeps the protocol `wanted`; None if it can't."""
    return provider if isinstance(provider, wanted) else None


ProviderFactory = Callable[[str, Path, Path], Provider]
"""(lab id, STATE/ID, CACHE) -> Provider."""
