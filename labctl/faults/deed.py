"""What a deed is, and where it acts: the protocols that the files in labctl/faults/deeds/ keep, and the `Site` that they are given.

A deed carries out the faults of some types. The reconciler (reconciler.py) calls it in this order:

    refuse, probe ─► undo ─► (undo is written, durably) ─► inject ─► ... time passes ... ─► heal

The master may be killed after any of these, and goes on where it was: `inject` and `heal` may be called again, and `heal` also after an
`inject` that was broken off or never began. A deed keeps nothing in memory that it needs for that: it is in `undo`, or it can be seen.
Raise LabctlError for what the world refuses. A deed never writes the Fault; the reconciler does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from labctl.errors import LabctlError
from labctl.resources.kinds.labctl_internal_v1.fault import UNFINISHED, Fault
from labctl.resources.plurals import FAULTS, MACHINES

if TYPE_CHECKING:
    from labctl.api.interference import Interference
    from labctl.clock import Clock
    from labctl.images.gate import PullGate
    from labctl.journal import Journal
    from labctl.providers.protocol import Machine as RealMachine
    from labctl.providers.protocol import Provider
    from labctl.reconcile.plan import View
    from labctl.remote.interface import Remote
    from labctl.resources.client import Client
    from labctl.resources.kinds.labctl_internal_v1.machine import Machine

T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """What a deed may use. `provider` and `remote` are None in a lab without machines.

    `blocking` runs a call of the provider, which blocks, in a thread. `process` names this run of the master. `kill_master` ends the master
    at once, as SIGKILL does. `master_address` is the master's in the lab's network. `pulls` is
    the gate that all image pulls pass, `api` what all requests to the API meet.
    """

    view: View
    client: Client
    journal: Journal
    clock: Clock
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]]
    provider: Provider | None = None
    remote: Remote | None = None
    process: str = ""
    kill_master: Callable[[], None] = lambda: None
    master_address: str = ""
    pulls: PullGate | None = None
    api: Interference | None = None

    def machine(self, name: str) -> Machine | None:
        """Returns the Machine object, or None."""
        found: Machine | None = self.view.get(MACHINES, name)
        return found

    def why_not_on(self, name: str) -> str:
        """Says why the machine can't be broken: it does not exist, or it is off. Empty if it is on, or paused."""
        machine = self.machine(name)
        if machine is None:
            known = ", ".join(each.metadata.name for each in self.view.all(MACHINES))
            return f"there is no machine {name}: there are {known or 'none'}"
        if machine.status.power not in ("On", "Paused"):
            return f"{name} is off"
        return ""

    def unfinished(self, fault: Fault) -> Sequence[Fault]:
        """Returns the other faults that are at work now, as the store has them."""
        return [each for each in self.client.list(FAULTS) if each.phase in UNFINISHED and each.name != fault.name]

    async def real_machine(self, name: str) -> RealMachine | None:
        """Returns the machine as its provider sees it now; None if there is none."""
        if self.provider is None:
            return None
        found: Mapping[str, RealMachine] = await self.blocking(self.provider.machines)
        return found.get(name)

    def its_provider(self) -> Provider:
        """Returns the provider. Raises LabctlError in a lab without machines."""
        if self.provider is None:
            raise LabctlError("this lab has no machines")
        return self.provider


class Deed(Protocol):
    """Carries out the faults of some types. See the module's story."""

    @property
    def types(self) -> Sequence[str]:
        """Return the types (rows of resources/faulttypes.py) that it carries out. A deed writes `types = ("cut",)`."""

    def refuse(self, fault: Fault, site: Site) -> str:
        """Says in one clear line why this can't be done here; empty if it can. It looks at objects only, at once, and touches nothing."""

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        """Returns what healing needs, and what `inject` needs to notice that it was done already. It is JSON, and touches nothing."""

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        """Inject the fault, and return sentences about what was really done.

        `fault.status.undo` has what `undo` returned. It may be repeated after a kill: what was done already is not done twice.
        """

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        """Makes it whole again, and returns sentences about that. It may be repeated, and called when nothing, or half, was done, or when the
        target is gone. It is not called for a fault that is `once` and was done.
        """


@runtime_checkable
class Probes(Protocol):
    """A deed that has to try something before it can say whether it works here: a kernel's ability, a program on the machine."""

    async def probe(self, fault: Fault, site: Site) -> str:
        """Try more than `refuse` does, after it; it may take a moment. What it tries is removed before it returns."""


@runtime_checkable
class Ends(Protocol):
    """A deed whose fault may be over without being healed: a machine that was off is booted by `labctl up`."""

    def over(self, fault: Fault, site: Site) -> str:
        """Says why the active fault is over; empty if it is not. It looks at objects only. `heal` is called then."""


@runtime_checkable
class Keeps(Protocol):
    """A deed that lives in the master's memory, and has to be done again when a new master finds it active."""

    async def keep(self, fault: Fault, site: Site) -> None:
        """Called once by each process for each fault that it finds active."""
