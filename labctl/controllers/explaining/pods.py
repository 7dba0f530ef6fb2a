"""What is to be said of a pod: where it is, what its containers do, why it waits or is not ready."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.controllers.explaining import faults
from labctl.controllers.explaining.words import colon
from labctl.controllers.indexes import NODES, POD_SIGNING_REQUESTS
from labctl.controllers.volumes import why as volumes
from labctl.reconcile.plan import View
from labctl.resources.isolation import NETWORK_READY
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod
from labctl.resources.kinds.shared import condition

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")


def pod_now(view: View, pod: Pod) -> Iterator[str]:
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
    yield from _certificates(view, pod)
    yield from faults.on_pod(view, pod)


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
        yield f"Container {status.name} waits: {state.waiting.reason or 'it is being prepared'}{colon(state.waiting.message)}"
        if state.waiting.reason in _NO_IMAGE:
            yield "An image needs no registry: `labctl image build NAME` and `labctl image load FILE` bring it."
    elif state.terminated:
        ended = state.terminated
        yield f"Container {status.name} ended: {ended.reason or 'exit'} (exit code {ended.exit_code}){colon(ended.message)}"
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
    isolated = condition(pod.status.conditions, NETWORK_READY)
    if isolated and isolated.status == "False":
        yield f"It waits to be isolated: {isolated.message}"
    told = condition(pod.status.conditions, "Ready")
    if told and told.message:
        yield f"It is not ready: {told.message}"


def _certificates(view: View, pod: Pod) -> Iterator[str]:
    """Say which signers have not answered, or said no."""
    pending = pod.status.phase in ("", "Pending")
    for request in view.by(POD_SIGNING_REQUESTS, "pod", f"{pod.metadata.namespace}/{pod.metadata.name}"):
        if request.spec.pod_uid != pod.metadata.uid:
            continue
        end = next(iter(request.status.conditions), None)
        named, signer = f"PodCertificateRequest {request.metadata.name}", f"signer {request.spec.signer_name}"
        if end is None:
            verdict = "It waits for a certificate" if pending else "Its certificate is to be renewed"
            since = request.metadata.creation_timestamp
            yield f"{verdict}: {signer} has not answered {named} since {since}. Signers are programs that you run."
        elif end.type != "Issued":
            verdict = "It gets no certificate" if pending else "Its certificate is not renewed"
            yield f"{verdict}: {signer} answered {named} with {end.type} ({end.reason}){colon(end.message)}"


def short(view: View, pod: Pod) -> str:
    """Say in a phrase why one pod of several is not ready."""
    lines = list(pod_now(view, pod))[1:]  # the owner is known here, so its sentence is left out
    telling = [line for line in lines if "waits" in line or "ended" in line or "not ready" in line]
    return " ".join(telling or lines[-1:])
