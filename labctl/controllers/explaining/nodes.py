"""What is to be said of a node, and of the machine that it is."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.controllers.explaining import faults, words
from labctl.controllers.indexes import LEASES, MACHINES, NODES, PODS
from labctl.controllers.nodes import LEASE_NAMESPACE
from labctl.reconcile.plan import View
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.labctl_internal_v1.machine import Machine
from labctl.resources.kinds.shared import condition


def node_now(view: View, node: Node) -> Iterator[str]:
    ready = condition(node.status.conditions, "Ready")
    said = f"{ready.reason}: {ready.message}" if ready else "its agent has not reported yet"
    yield f"It is {'ready' if node.ready else 'not ready'}: {said}"
    name = node.metadata.name
    lease = view.get(LEASES, f"{LEASE_NAMESPACE}/{name}")
    sign = f"; its agent's lease was last renewed at {lease.spec.renew_time}" if lease and lease.spec.renew_time else ""
    yield f"It has {words.pods(view.count(PODS, 'node', name))}{sign}."
    if node.spec.unschedulable:
        yield "It is cordoned: no new pods come to it."
    for taint in node.spec.taints:
        yield f"It has the taint {taint.key}{'=' + taint.value if taint.value else ''}:{taint.effect}."
    machine = view.get(MACHINES, name)
    if machine is not None:
        yield from machine_of(view, machine)


def machine_of(view: View, machine: Machine) -> Iterator[str]:
    status = machine.status
    yield f"Its machine is {status.power or 'not seen yet'}, and wanted {machine.spec.power}{words.colon(status.message)}."
    if status.last_event and status.last_event.reason:
        intended = ", as intended" if status.last_event.intended else ""
        yield f"The provider's last report: {status.last_event.power}{intended}: {status.last_event.reason} (boot {status.last_event.boot_id})."
    yield from faults.on_machine(view, machine.metadata.name)


def machine_now(view: View, machine: Machine) -> Iterator[str]:
    """Yield what is known of the machine itself, beyond its node's text."""
    yield from machine_of(view, machine)
    phase, address = machine.status.phase, machine.status.address
    yield f"It is minion number {machine.spec.number} of provider {machine.spec.provider or 'unknown'}{f' at {address}' if address else ''}; its phase is {phase or 'unknown'}."
    node = view.get(NODES, machine.metadata.name)
    if node is None:
        yield "It is no node yet: its agent has not registered."
    elif node.status.node_info.boot_id != machine.status.boot_id:
        yield "Its node is from an earlier boot: its agent has not registered since."
    else:
        yield f"Its node is {'ready' if node.ready else 'not ready'}, with {words.pods(view.count(PODS, 'node', node.metadata.name))}: labctl why node/{node.metadata.name}"
    if machine.boot_requested:
        yield "A boot was asked for, and is still to come."
    if machine.metadata.deletion_timestamp:
        yield "It is being removed."
