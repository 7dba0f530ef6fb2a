"""What the workers of all machines share, and what the provider is asked for.

Who uses it: machines.py makes one `Tools`; each worker (worker.py) has it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from labctl.clock import Clock
from labctl.errors import LabctlError
from labctl.journal import Journal
from labctl.machines.join import Join
from labctl.machines.settings import LabFacts, MachinesSettings
from labctl.providers.protocol import MachineSpec, Provider
from labctl.remote.interface import Remote
from labctl.resources import quantities
from labctl.resources.kinds.labctl_internal_v1.machine import Machine
from labctl.supervisor import Supervisor


class Writer(Protocol):
    """The part of the in-process client that the worker uses."""

    async def patch(self, resource: str, key: str, patch: dict[str, Any], subresource: str = "", revision: int = 0) -> Any: ...
    async def delete(self, resource: str, key: str, uid: str = "", grace_s: int | None = None, propagation: str | None = None) -> Any: ...


class Recorder(Protocol):
    """The part of the Events' recorder that the worker uses."""

    def record(self, about: Any, type_: str, reason: str, message: str) -> None: ...


@dataclass(frozen=True)
class Tools:
    """What the workers of all machines share. `blocking` runs a call of the provider in a thread, because it blocks."""

    client: Writer
    provider: Provider
    remote: Remote
    join: Callable[[], Awaitable[Join]]
    recorder: Recorder
    lab: LabFacts
    settings: MachinesSettings
    journal: Journal
    clock: Clock
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]]
    supervisor: Supervisor


def machine_spec(machine: Machine, provider: str, lab: LabFacts, settings: MachinesSettings) -> MachineSpec:
    """Return the specification for the provider. Raises LabctlError for a machine of another provider."""
    name, spec = machine.metadata.name, machine.spec
    network = ipaddress.IPv4Network(settings.machine_network)
    if spec.provider and spec.provider != provider:
        raise LabctlError(f"{name}: its provider is {spec.provider}, this lab's is {provider}")
    return MachineSpec(
        name=name,
        number=spec.number,
        memory_bytes=quantities.to_int(spec.memory or "1Gi"),
        cpus=quantities.to_milli(spec.cpus or "1") / 1000,
        address=spec.address or str(network[10 + spec.number]),
        prefix_length=network.prefixlen,
        authorized_key=lab.authorized_key,
    )
