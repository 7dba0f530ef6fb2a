"""The protocol of providers, which make machines. Every provider's folder has the same file names.

`machines` calls it (up, halt, destroy, watch, uplink), `lab` (probe, destroy without a master, Snapshots) and `faults` (PowerControl,
Links).
A MachineSpec goes in; a Machine (how to reach its sshd) comes out, and MachineEvents about what is KNOWN.
A provider never knows a pod, a node or the API, never guesses, and never asks a person. All methods block, are idempotent, and may be
called from
several threads.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

MACHINE_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""The pattern of a machine's name, which becomes the name of a folder and of a host."""


class Power(enum.StrEnum):
    """Whether a machine is on, off or paused."""

    ON = "On"
    OFF = "Off"
    PAUSED = "Paused"


class MachineSpec(msgspec.Struct, frozen=True):
    """The machine that is wanted. `number` is N of `minion-N` (1..200); `address` is the one that the machine gets in the lab's network."""

    name: str
    number: int
    memory_bytes: int
    cpus: float
    address: str  # 10.245.1.(10+N)
    prefix_length: int
    authorized_key: str  # the lab's public SSH key, one line
    box: str = ""


class Machine(msgspec.Struct, frozen=True):
    """A machine's present state.

    Its sshd answers at (address, port) inside the lab's network; `host_key` is pinned ('ssh-ed25519 AAAA...').
    """

    name: str
    power: Power
    address: str
    port: int = 22
    user: str = "root"
    key_path: str = ""  # private key that its sshd accepts
    host_key: str = ""
    arch: str = "amd64"  # GOARCH words: amd64, arm64
    boot_id: str = ""  # changes with every boot
    proxy_command: str = ""  # of a shell, for ssh: it reaches the address from the host; empty if the host reaches it directly
    node_address: str = ""  # its own address, by which other machines reach it, if that is not `address` (a forwarded port)
    own_clock: bool = False  # it has a clock of its own, which labctl has to set


class MachineEvent(msgspec.Struct, frozen=True):
    """What is known about one boot of a machine. OFF is reported only when nothing of that boot can run any more."""

    name: str
    power: Power
    boot_id: str
    reason: str  # a sentence for people: "its init was killed by signal 9"
    intended: bool = False  # halt or destroy asked for it


class Verdict(msgspec.Struct, frozen=True):
    """Whether the provider works here. If not, it says why, and which command mends it."""

    works: bool
    reason: str = ""
    mend: str = ""


class Finding(msgspec.Struct, frozen=True):
    """A line of the doctor's table. `level` is ok, warning or error; an error means that `up` will fail."""

    name: str
    level: str
    found: str
    mend: str = ""


class Uplink(msgspec.Struct, frozen=True):
    """How minions reach the master. `sockets` listen on the lab's network (in whatever network namespace that is); agents call `url`.

    `network_namespace` is a path for setns (empty for the host's own), which the whole SSH process enters.
    """

    url: str
    host: str
    port: int
    sockets: tuple[socket.socket, ...] = ()
    network_namespace: str = ""
    reverse_tunnel: bool = False


class Stop(Protocol):
    """Ends a watch."""

    def __call__(self) -> None:
        """End the watch. After the return no further event is reported."""


class Provider(Protocol):
    """Makes machines, by eight methods."""

    name: str

    def probe(self) -> Verdict:
        """Tell whether the provider works here. Nothing is changed."""

    def up(self, spec: MachineSpec) -> Machine:
        """Make or start the machine; its sshd answers on return. A machine that is on already is returned as it is.

        Nothing is installed on it.
        """

    def halt(self, name: str, grace_s: float = 10.0) -> None:
        """Stop the machine in order; its disk stays. A machine that is off or unknown is no error."""

    def destroy(self, name: str) -> None:
        """Remove the machine and its disk. An unknown name is no error. The lab's network stays."""

    def machines(self) -> Mapping[str, Machine]:
        """Return the machines as they really are now, never from memory."""

    def watch(self, tell: Callable[[MachineEvent], None]) -> Stop:
        """Call `tell` (from a thread of the provider's) with what becomes known. Silence of a machine is no event."""

    def uplink(self, port: int) -> Uplink:
        """Make the lab's network if needed and listen there on `port`. The master calls it once after its start."""

    def destroy_lab(self) -> None:
        """Remove what the machines shared: network, init, folders. Nothing is left behind. It may be repeated."""


# -- abilities ---------------------------------------------------------------------------------------------------------------------------
#
# Only some providers can do the following. Each ability is a protocol of its own, and only `ability` asks for it.


@runtime_checkable
class Prepares(Protocol):
    """The provider makes first what its machines start from."""

    prepares: str
    """Its name for people: `root file system`, `box`."""

    def prepare(self) -> Mapping[str, Any] | None:
        """Make it, if there is none yet. Return settings that this decided and that are kept with the lab. Raises LabctlError."""


@runtime_checkable
class Checks(Protocol):
    """The provider can check more beforehand than `probe` does."""

    def checks(self) -> Sequence[Finding]:
        """Return all findings, in the order in which `up` needs the things. Nothing is changed."""


@runtime_checkable
class Listed(Protocol):
    """The provider makes no machines, but takes those that exist."""

    @property
    def numbers(self) -> Sequence[int]:
        """Return the numbers N of the existing minion-N, ascending. There may be gaps."""


@runtime_checkable
class MayEmulate(Protocol):
    """The provider's machines may run on an emulated processor, many times slower."""

    @property
    def emulated(self) -> bool: ...


@runtime_checkable
class PowerControl(Protocol):
    """The provider can break machines on purpose. An unknown name, or a machine already in that state, is no error (except for `reset`)."""

    def power_off(self, name: str) -> None:
        """Cut the power at once. Watchers hear of it as not intended. The disk has what was written to it so far."""

    def pause(self, name: str) -> None:
        """Stop the machine: from the return on nothing of it runs, and nothing is lost: memory, connections and disk stay. Watchers hear of
        PAUSED.

        It stays paused when this process or the master ends. `up`, `halt`, `power_off` and `destroy` work on a paused machine as on a
        running one.
        """

    def resume(self, name: str) -> None:
        """Let the machine continue where it was. Watchers hear of ON, with the same boot id.

        The provider does not correct the machine's clock; whoever hears that it is on again does that.
        """

    def reset(self, name: str) -> None:
        """Cut the power and boot again at once. The end of the boot is reported as not intended, then another boot id.

        Raises ProviderError for an unknown name.
        """


@runtime_checkable
class Links(Protocol):
    """The provider can break a machine's link to the lab's network. An unknown name, or a link already in that state, is no error."""

    def cut(self, name: str) -> None:
        """Let no packet pass in either direction from the return on, as when the cable is pulled. Nobody is notified, and the machine and
        its pods still run.

        Connections are not reset. The cut lasts until `restore`, or at least until the machine boots again.
        """

    def restore(self, name: str) -> None:
        """Let packets pass again. The machine still has its addresses and routes."""


class LinkRule(msgspec.Struct, frozen=True):
    """What happens to packets on a machine's link.

    `what` is cut, loss (of `share`), delay (by `delay_s`, more or less by `jitter_s`), rate (at most `rate_bits` per second) or duplicate (of `share`).
    `direction` is in (to the machine), out (from it) or both. `addresses` are those of the other end, as IPv4 addresses or networks; empty means every packet.
    """

    what: str
    direction: str = "both"
    addresses: tuple[str, ...] = ()
    share: float = 0.0  # between 0 and 1
    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate_bits: float = 0.0


@runtime_checkable
class LinkRules(Protocol):
    """The provider can make a machine's link worse, from outside the machine. Rules have tags, and those of several tags act together.

    Nobody is notified. They last until `remove_rule`, or until the machine boots again: then it has a new link, without rules.
    """

    def why_no_rule(self, rule: LinkRule) -> str:
        """Say why this host can't do such a rule, or return an empty text. It is really tried, on a link made for that, which is gone then."""

    def add_rule(self, name: str, tag: str, rule: LinkRule) -> None:
        """Let the rule act from the return on; it may be repeated. Raises ProviderError if the machine is off or unknown."""

    def remove_rule(self, name: str, tag: str) -> None:
        """Take the rule off. An unknown name or tag is no error."""

    def link_rules(self, name: str) -> Mapping[str, LinkRule]:
        """Return the rules that act on the machine's link now, by tag."""


@runtime_checkable
class Snapshots(Protocol):
    """The provider can save all machines of the lab as they were at one moment, in a folder that outlives them and their lab.

    The provider fills the folder; `lab` makes it (empty, on a local disk, readable by root alone), renames it when it is complete, and
    removes it.
    There may be any number of them. A folder must be enough to make a new lab with another id on this host.
    """

    keeps_memory: bool
    """If true, processes continue after a load where they were. If false, only disks are saved, and a machine that was on is booted again."""

    def save_machines(self, folder: Path, meanwhile: Callable[[], None]) -> None:
        """Pause every machine that is on, call `meanwhile`, write the machines into `folder`, and resume those that this paused.

        Nothing of theirs runs during `meanwhile`, so the caller can save its own state of that very moment. The machines are resumed also
        after an error, and
        also if this process is killed in the middle.
        """

    def check_machines(self, folder: Path) -> None:
        """Raise ProviderError, which says how to mend it, if `folder` can't be loaded on this host now.

        Nothing is changed. It is called before the present lab is touched.
        """

    def load_machines(self, folder: Path) -> None:
        """Replace the lab's machines by those of `folder`: the present ones are ended first, and those without a successor are destroyed.

        On return, those that were on are on (sshd answers, and their clocks are right), with their addresses, keys and disks. After a kill
        it can be repeated.
        """


A = TypeVar("A")


def ability(provider: Provider, wanted: type[A]) -> A | None:
    """Return the provider as one that has the ability `wanted`, or None if it has not."""
    return provider if isinstance(provider, wanted) else None


ProviderFactory = Callable[[str, Path, Path], Provider]
"""Makes a provider from a lab's id, STATE/ID and CACHE."""
