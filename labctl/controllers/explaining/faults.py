"""What is to be said of a fault, and of what faults do to a pod or a machine now."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.reconcile.plan import View
from labctl.resources.faulttypes import TYPES
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.labctl_internal_v1.fault import ACTIVE, FAILED, HEALED, HEALING, INJECTING, PENDING, REFUSED, UNFINISHED, Fault
from labctl.resources.plurals import FAULTS, MACHINES, PODS

_PHASES = {
    PENDING: "It was not injected yet: the master has not come to it.",
    INJECTING: "It is being injected now.",
    ACTIVE: "It acts now.",
    HEALING: "It is being healed now.",
    HEALED: "It is over.",
    REFUSED: "It was refused, and nothing was touched.",
    FAILED: "It could not be injected or healed.",
}


def fault_now(view: View, fault: Fault) -> Iterator[str]:
    spec, status = fault.spec, fault.status
    type_ = TYPES.get(spec.type)
    peer = f" and {spec.peer}" if spec.peer else ""
    yield f"It is {spec.type} of {spec.target}{peer}" + (f": {type_.summary}" if type_ else ".")
    yield _PHASES.get(fault.phase, f"Its phase is {fault.phase}.") + (f" {status.message}" if status.message else "")
    yield from (f"Done: {sentence}" for sentence in status.done)
    if status.injected_at:
        healed = f", and healed at {status.healed_at}" if status.healed_at else ""
        yield f"It was injected at {status.injected_at}{healed}."
    if fault.phase in UNFINISHED:
        until = f"after {spec.duration}" if spec.duration else "only when somebody asks for it"
        yield f"It is healed {until}: labctl fault heal {fault.metadata.name}"
    if not _there(view, fault):
        yield f"What it is about, {spec.target}, is not there now."
    if status.injected_at:
        yield f"What it led to, step by step: labctl timeline {fault.metadata.name}"


def on_machine(view: View, name: str) -> Iterator[str]:
    """Yield a sentence for each fault that acts on the machine now, or on a link of it."""
    yield from (_acting(fault) for fault in view.all(FAULTS) if fault.phase in UNFINISHED and name in (fault.spec.target, fault.spec.peer))


def on_pod(view: View, pod: Pod) -> Iterator[str]:
    """Yield a sentence for each fault that acts on the pod now, or on its machine."""
    for fault in view.all(FAULTS):
        if fault.phase not in UNFINISHED:
            continue
        its_own = fault.form == "pod" and "/".join(fault.pod[:2]) == pod.metadata.key
        if its_own or (pod.spec.node_name and pod.spec.node_name in (fault.spec.target, fault.spec.peer)):
            yield _acting(fault)


def _acting(fault: Fault) -> str:
    return f"A fault acts on purpose: {fault.metadata.name} ({fault.spec.type} of {fault.spec.target}); labctl fault heal {fault.metadata.name}"


def _there(view: View, fault: Fault) -> bool:
    if fault.form == "machine":
        return view.get(MACHINES, fault.machine) is not None
    return fault.form != "pod" or view.get(PODS, "/".join(fault.pod[:2])) is not None
