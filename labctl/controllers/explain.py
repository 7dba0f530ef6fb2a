"""`labctl why`: an object's present state, and how it came to it, in sentences.

The functions are pure and read the view and the journal. The present comes from the objects, which are the truth; the past comes from the
journal, which may have been
lost with an earlier master, and then from Kubernetes' Events. A deleted object has only its past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from labctl import defaults
from labctl.clock import parse_rfc3339
from labctl.controllers.backends import ports_of
from labctl.controllers.indexes import (
    CLAIMS,
    ENDPOINTS,
    EVENTS,
    LEASES,
    MACHINES,
    NODES,
    PODS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    VOLUMES,
    selected_pods,
)
from labctl.controllers.peers import LEASE_NAMESPACE
from labctl.controllers.volumes import why as volumes
from labctl.journal import Line
from labctl.reconcile.plan import Key, View
from labctl.resources.cells import duration
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod
from labctl.resources.kinds.core_v1.replicationcontroller import ReplicationController
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.labctl_internal_v1.machine import Machine
from labctl.resources.kinds.shared import condition

PAST_LINES = 12  # of an object's past, the latest
NODES_TOLD = 50  # nodes of which it is said why a waiting pod is not there
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")
_KILLERS = ("taint-eviction-controller", "pod-garbage-collector")


Refusals = Callable[[View, Key], Sequence[str]]
"""Why a waiting pod is on none of the nodes, a line for each node; nothing for others."""


class Past(Protocol):
    """The part of the journal that is read."""

    @property
    def lines(self) -> Sequence[Line]: ...


def explain(view: View, journal: Past, kind: str, key: Key, refusals: Refusals = lambda _view, _key: ()) -> list[str]:
    """What it is now, a line each; then its past, oldest first. Nothing, for what is not there and of which nothing is remembered."""
    thing = view.get(kind, key)
    past = _past(view, journal, kind, key, thing)
    if thing is None:
        return [f"There is no {key} among the {kind.partition('.')[0]} now.", *past] if past else []
    nodes = refusals(view, key) if kind == PODS else ()
    return [*PRESENT.get(kind, _any)(view, thing), *(f"  {line}" for line in nodes[:NODES_TOLD]), *past]


# -- now -------------------------------------------------------------------------------------------------------------------------------


def _pod(view: View, pod: Pod) -> Iterator[str]:
    yield from _owner(pod)
    if pod.metadata.deletion_timestamp:
        yield f"It is being deleted: its agent has until {pod.metadata.deletion_timestamp} to end it."
    if not pod.spec.node_name:
        told = condition(pod.status.conditions, "PodScheduled")
        yield f"It waits for a node: {told.message if told and told.message else 'the scheduler has not decided yet'}"
        yield from volumes.of_pod(view, pod)
        return
    yield f"It is on node {pod.spec.node_name}" + (f" at {pod.status.pod_ip}." if pod.status.pod_ip else ".")
    yield f"It is {pod.status.phase or 'Pending'}{' and ready' if pod.ready else ''}." + _because(pod)
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        yield from _container(pod, status)
    if not pod.ready and not pod.finished:
        yield from _not_ready(view, pod)


def _because(pod: Pod) -> str:
    told = ": ".join(text for text in (pod.status.reason, pod.status.message) if text)
    return f" {told}" if told else ""


def _owner(pod: Pod) -> Iterator[str]:
    owner = pod.metadata.controller
    if owner:
        yield f"It was made by {owner.kind} {owner.name}, which replaces it if it is lost."
    else:
        yield "No controller made it: it stays on its node, and is lost with it."


def _container(pod: Pod, status: ContainerStatus) -> Iterator[str]:
    state, last = status.state, status.last_state.terminated
    if state.waiting:
        yield f"Container {status.name} waits: {state.waiting.reason or 'it is being prepared'}{_colon(state.waiting.message)}"
        if state.waiting.reason in _NO_IMAGE:
            yield "An image needs no registry: `labctl image build NAME` and `labctl image load FILE` bring it."
    elif state.terminated:
        ended = state.terminated
        yield f"Container {status.name} ended: {ended.reason or 'exit'} (exit code {ended.exit_code}){_colon(ended.message)}"
    if status.restart_count and last:
        times = "once" if status.restart_count == 1 else f"{status.restart_count} times"
        yield f"Container {status.name} was restarted {times}; last it ended with {last.reason} (exit code {last.exit_code})."
        yield f"What it wrote before: labctl logs -n {pod.metadata.namespace} {pod.metadata.name} -c {status.name} --previous"


def _not_ready(view: View, pod: Pod) -> Iterator[str]:
    node: Node | None = view.get(NODES, pod.spec.node_name)
    if node is None:
        yield f"Its node {pod.spec.node_name} does not exist."
    elif not node.ready:
        ready = condition(node.status.conditions, "Ready")
        yield f"Its node is not ready: {ready.message if ready else 'it has not reported yet'}"
    told = condition(pod.status.conditions, "Ready")
    if told and told.message:
        yield f"It is not ready: {told.message}"


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _colon(message: str) -> str:
    return f": {message}" if message else ""


def _replication_controller(view: View, rc: ReplicationController) -> Iterator[str]:
    mine = list(view.by(PODS, "controller", rc.metadata.uid))
    active = [pod for pod in mine if pod.active]
    ready = [pod for pod in active if pod.ready]
    yield f"It wants {_pods(rc.spec.replicas)}: {len(active)} there, {len(ready)} ready."
    selector = ",".join(f"{name}={value}" for name, value in sorted(rc.spec.selector.items()))
    yield f"It counts pods with {selector} that are neither finished nor being deleted."
    for pod in active:
        if not pod.ready:
            yield f"pod {pod.metadata.name}: {_short(view, pod)}"
    for pod in mine:
        if not pod.active:
            yield f"pod {pod.metadata.name}: does not count, it is {pod.status.phase if pod.finished else 'being deleted'}"


def _short(view: View, pod: Pod) -> str:
    """Say in a phrase why one pod of several is not ready."""
    lines = list(_pod(view, pod))[1:]  # the owner is known here, so its sentence is left out
    telling = [line for line in lines if "waits" in line or "ended" in line or "not ready" in line]
    return " ".join(telling or lines[-1:])


def _service(view: View, service: Service) -> Iterator[str]:
    spec = service.spec
    if spec.type == "ExternalName":
        yield f"It is another name for {spec.external_name}; it has no address and no endpoints."
        return
    yield "It is headless: it has no virtual address." if spec.headless else f"Its virtual address is {spec.cluster_ip}."
    name = f"{service.metadata.name}.{service.metadata.namespace}.svc.{defaults.CLUSTER_DOMAIN}"
    yield f"Its name is {name}" + (", as long as one of its endpoints is ready." if spec.headless else ".")
    endpoints = view.get(ENDPOINTS, service.metadata.key)
    ready = [address for subset in (endpoints.subsets if endpoints else ()) for address in subset.addresses]
    if not spec.selector:
        yield f"It has no selector: a person keeps its endpoints, {len(ready)} of them."
        return
    selector = ",".join(f"{name}={value}" for name, value in sorted(spec.selector.items()))
    pods = list(selected_pods(view, service.metadata.namespace, spec.selector))
    if not pods:
        yield f"It has no endpoints: its selector {selector} matches no pods in namespace {service.metadata.namespace}."
        return
    yield f"Its selector {selector} matches {_pods(len(pods))}; {len(ready)} of them answer for it."
    behind = {address.target_ref.uid: address for address in ready if address.target_ref}
    for pod in pods:
        yield f"pod {pod.metadata.name}: {_place(view, service, pod, pod.metadata.uid in behind)}"


def _place(view: View, service: Service, pod: Pod, behind: bool) -> str:
    if behind:
        return f"answers at {pod.status.pod_ip} on {pod.spec.node_name}"
    if pod.metadata.deletion_timestamp:
        return "is being deleted, so no new connections go to it"
    if not pod.ready:
        return f"is not ready. {_short(view, pod)}"
    if len(ports_of(pod, service)) < len(service.spec.ports):
        wanted = ", ".join(str(port.target_port) for port in service.spec.ports)
        return f"has no port named {wanted}"
    return "will be among its endpoints in a moment"


def _node(view: View, node: Node) -> Iterator[str]:
    ready = condition(node.status.conditions, "Ready")
    said = f"{ready.reason}: {ready.message}" if ready else "its agent has not reported yet"
    yield f"It is {'ready' if node.ready else 'not ready'}: {said}"
    name = node.metadata.name
    lease = view.get(LEASES, f"{LEASE_NAMESPACE}/{name}")
    sign = f"; its agent's lease was last renewed at {lease.spec.renew_time}" if lease and lease.spec.renew_time else ""
    yield f"It has {_pods(view.count(PODS, 'node', name))}{sign}."
    if node.spec.unschedulable:
        yield "It is cordoned: no new pods come to it."
    for taint in node.spec.taints:
        yield f"It has the taint {taint.key}{'=' + taint.value if taint.value else ''}:{taint.effect}."
    machine = view.get(MACHINES, name)
    if machine is not None:
        yield from _machine(view, machine)


def _machine(_view: View, machine: Machine) -> Iterator[str]:
    status = machine.status
    yield f"Its machine is {status.power or 'not seen yet'}, and wanted {machine.spec.power}{_colon(status.message)}."
    if status.last_event and status.last_event.reason:
        intended = ", as intended" if status.last_event.intended else ""
        yield f"The provider's last report: {status.last_event.power}{intended}: {status.last_event.reason} (boot {status.last_event.boot_id})."


def _any(_view: View, thing: Any) -> Iterator[str]:
    if thing.metadata.deletion_timestamp:
        waits = ", ".join(thing.metadata.finalizers)
        yield f"It is being deleted{f', and waits for {waits}' if waits else ''}."
    else:
        yield "It exists."
    for owner in thing.metadata.owner_references:
        yield f"It belongs to {owner.kind} {owner.name}."


PRESENT: dict[str, Callable[[View, Any], Iterator[str]]] = {
    PODS: _pod,
    REPLICATION_CONTROLLERS: _replication_controller,
    SERVICES: _service,
    NODES: _node,
    MACHINES: _machine,
    CLAIMS: volumes.claim,
    VOLUMES: volumes.volume,
}


# -- then ------------------------------------------------------------------------------------------------------------------------------


def _past(view: View, journal: Past, kind: str, key: Key, thing: Any) -> list[str]:
    abouts = {f"{kind}/{key}", *_same(kind, key)}
    told = [
        _told(view, line.at, line.text, line.room, line.about.rpartition("/")[2] if line.about not in abouts else "")
        for line in _latest_rules(_lines(journal, kind, key, abouts))
    ]
    return (told or list(_events(view, key, thing)))[-PAST_LINES:]


def _lines(journal: Past, kind: str, key: Key, abouts: set[str]) -> Iterator[Line]:
    """Yield the lines about an object. A controller's past includes what it did to its pods, and what killed them."""
    by = f" by replicationcontroller {key.rpartition('/')[2]}" if kind == REPLICATION_CONTROLLERS else None
    pods = f"{PODS}/{key.partition('/')[0]}/"
    its_own: set[str] = set()
    for line in journal.lines:
        if line.about in abouts:
            yield line
        elif by and line.about.startswith(pods):
            if by in line.text:
                its_own.add(line.about)
                yield line
            elif line.about in its_own and line.room in _KILLERS:
                yield line


def _latest_rules(lines: Iterable[Line]) -> list[Line]:
    """Keep only the last line of each minion about a Service's rules, which are written again and again."""
    kept: dict[Any, Line] = {}
    for number, line in enumerate(lines):
        same = line.text.partition(" has its rules")[0] if line.room == "proxy" and " has its rules" in line.text else number
        kept.pop(same, None)
        kept[same] = line
    return list(kept.values())


def _same(kind: str, key: Key) -> Iterator[str]:
    """Yield other names by which the journal calls the object."""
    if kind in (NODES, MACHINES):
        yield from (f"{NODES}/{key}", f"{MACHINES}/{key}", f"machine/{key}")
    if kind == SERVICES:
        yield f"{ENDPOINTS}/{key}"


def _events(view: View, key: Key, thing: Any) -> Iterator[str]:
    """Yield Kubernetes' Events about the object, if the journal has nothing."""
    if thing is None:
        return
    about = list(view.by(EVENTS, "about", thing.metadata.uid))
    for event in sorted(about, key=lambda event: (event.last_timestamp, event.metadata.name)):
        at = event.last_timestamp or event.metadata.creation_timestamp
        text = f"{event.message} ({event.reason}{f', {event.count} times' if event.count > 1 else ''})"
        yield _told(view, parse_rfc3339(at) if at else view.wall(), text, event.source.component or event.reporting_component, "")


def _told(view: View, at_s: float, text: str, room: str, name: str) -> str:
    age = duration(max(0.0, view.wall() - at_s))
    return f"{age} ago: {f'{name}: ' if name else ''}{text} [{room}]"
