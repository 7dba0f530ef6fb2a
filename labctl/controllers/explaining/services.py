"""What is to be said of a Service and of a ReplicationController: which pods belong to it, and why each of them does not answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labctl import defaults
from labctl.controllers.backends import ports_of
from labctl.controllers.explaining import words
from labctl.controllers.explaining.pods import short
from labctl.controllers.indexes import ENDPOINTS, PODS, selected_pods
from labctl.reconcile.plan import View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.replicationcontroller import ReplicationController
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.networking_v1.networkpolicy import INGRESS
from labctl.resources.plurals import NETWORK_POLICIES


def replication_controller(view: View, rc: ReplicationController) -> Iterator[str]:
    mine = list(view.by(PODS, "controller", rc.metadata.uid))
    active = [pod for pod in mine if pod.active]
    ready = [pod for pod in active if pod.ready]
    yield f"It wants {words.pods(rc.spec.replicas)}: {len(active)} there, {len(ready)} ready."
    selector = ",".join(f"{name}={value}" for name, value in sorted(rc.spec.selector.items()))
    yield f"It counts pods with {selector} that are neither finished nor being deleted."
    for pod in active:
        if not pod.ready:
            yield f"pod {pod.metadata.name}: {short(view, pod)}"
    for pod in mine:
        if not pod.active:
            yield f"pod {pod.metadata.name}: does not count, it is {pod.status.phase if pod.finished else 'being deleted'}"


def service_now(view: View, service: Service) -> Iterator[str]:
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
    if not ready:
        yield "Nobody answers for it: none of the pods that its selector matches is ready."
    yield f"Its selector {selector} matches {words.pods(len(pods))}; {len(ready)} of them answer for it."
    behind = {address.target_ref.uid: address for address in ready if address.target_ref}
    for pod in pods:
        yield f"pod {pod.metadata.name}: {_place(view, service, pod, pod.metadata.uid in behind)}"
    yield from _fenced(view, service, pods)


def _place(view: View, service: Service, pod: Pod, behind: bool) -> str:
    if behind:
        return f"answers at {pod.status.pod_ip} on {pod.spec.node_name}"
    if pod.metadata.deletion_timestamp:
        return "is being deleted, so no new connections go to it"
    if not pod.ready:
        return f"is not ready. {short(view, pod)}"
    if len(ports_of(pod, service)) < len(service.spec.ports):
        wanted = ", ".join(str(port.target_port) for port in service.spec.ports)
        return f"has no port named {wanted}"
    return "will be among its endpoints in a moment"


def _fenced(view: View, service: Service, pods: Sequence[Pod]) -> Iterator[str]:
    """Yield the NetworkPolicies that choose who may connect to its pods: a client that none of them names gets no answer."""
    for policy in view.all(NETWORK_POLICIES, service.metadata.namespace):
        fenced = sum(policy.pods().matches(pod.metadata.labels) for pod in pods)
        if fenced and INGRESS in policy.spec.policy_types:
            name = policy.metadata.name
            yield f"NetworkPolicy {name} says who may connect to {fenced} of them: labctl trace {service.metadata.name} --from CLIENT tells of a client."
