"""NodeRestriction: what a node's agent may write, decided on the object as it would be stored, beside the one that is.

The authorizer (api/authorize.py) has let an agent try a few verbs on a few paths: its own Node, its Lease, its pods' status and the end of their
deletion, Events, the end of a volume on its disk, tokens and certificates for its pods.
This step compares what comes out with what is there, so it does not matter in which words a body says it (`null`, `$patch`,
a generated name). As in Kubernetes' plugin of the same name, and stricter in one thing: facts about a machine (its addresses) come from its Machine
object, and the range of its pods' addresses from the master, never from the node.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.coordination_v1.lease import HEARD, HEARD_MAX
from labctl.resources.kinds.core_v1.persistentvolume import LOCAL_DATA
from labctl.resources.plurals import EVENTS, LEASES, MACHINES, NODES, POD_SIGNING_REQUESTS, PODS, SERVICE_ACCOUNTS, VOLUMES
from labctl.resources.service import ISSUER

HOSTNAME = "kubernetes.io/hostname"

_OWN_LABELS = frozenset(
    {
        HOSTNAME,
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
_OWN_LABEL_DOMAINS = ("kubelet.kubernetes.io/", "node.kubernetes.io/")
_NAMES = frozenset({"Hostname", "InternalDNS", "ExternalDNS"})  # types of a Node's addresses that are names
_SET_BY_SERVER = frozenset({"name", "namespace", "uid", "creationTimestamp", "resourceVersion", "generation"})
_SAME_IN_EVENTS = ("involvedObject", "related", "source", "reportingComponent", "reportingInstance")

Rule = Callable[[str, Attributes], Iterator[str]]


class NodeRestriction:
    """A validating step. Everybody but a node's agent passes it unseen."""

    name = "NodeRestriction"
    kinds: frozenset[str] | None = frozenset({NODES, PODS, EVENTS, LEASES, VOLUMES, SERVICE_ACCOUNTS, POD_SIGNING_REQUESTS})
    verbs: frozenset[Verb] = frozenset({"create", "update", "delete"})

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rules: dict[tuple[str, Verb], Rule] = {
            (NODES, "create"): self._node_created,
            (NODES, "update"): self._node_updated,
            (LEASES, "create"): _lease_created,
            (LEASES, "update"): _lease_updated,
            (PODS, "update"): self._pod_updated,
            (PODS, "delete"): _pod_deleted,
            (VOLUMES, "update"): _volume_updated,
            (EVENTS, "create"): self._event_created,
            (EVENTS, "update"): self._event_updated,
            (SERVICE_ACCOUNTS, "create"): self._token_asked,
            (POD_SIGNING_REQUESTS, "create"): self._certificate_asked,
        }

    async def admit(self, attributes: Attributes) -> None:
        node = attributes.user.node
        if not node:
            return
        rule = self._rules.get((attributes.kind.resource, attributes.verb), _never)
        why = next(rule(node, attributes), "")
        if why:
            raise failures.forbidden(attributes.kind, attributes.name, why)

    # -- each rule yields what is wrong, as a clause about the node; nothing if all is well

    def _node_created(self, node: str, attributes: Attributes) -> Iterator[str]:
        new = _of(attributes.new)
        metadata = new["metadata"]
        if metadata["name"] != node:
            yield f'node "{node}" is not allowed to modify node "{metadata["name"]}"'
        touched = next((field for field, value in new.get("spec", {}).items() if value), "")
        if touched:
            yield f'node "{node}" is not allowed to set spec.{touched}'
        yield from _metadata_beyond(node, metadata, "labels", "annotations")
        wrong = sorted(key for key, value in metadata.get("labels", {}).items() if not _may_register(node, key, value))
        if wrong:
            yield f'node "{node}" is not allowed to set the following labels: {", ".join(wrong)}'
        yield from self._wrong_addresses(node, new)

    def _node_updated(self, node: str, attributes: Attributes) -> Iterator[str]:
        new, old = _of(attributes.new), _of(attributes.old)
        if old["metadata"]["name"] != node:
            yield f'node "{node}" is not allowed to modify node "{old["metadata"]["name"]}"'
        if new.get("spec") != old.get("spec"):
            yield f'node "{node}" is not allowed to modify its spec'
        yield from _metadata_changed(node, new, old, "labels")
        had, has = old["metadata"].get("labels", {}), new["metadata"].get("labels", {})
        modified = (key for key in {*had, *has} if had.get(key) != has.get(key))
        wrong = sorted(key for key in modified if not _is_own(key) or (key == HOSTNAME and has.get(key) != node))
        if wrong:
            yield f'node "{node}" is not allowed to modify labels: {", ".join(wrong)}'
        yield from self._wrong_addresses(node, new)

    def _wrong_addresses(self, node: str, obj: Object) -> Iterator[str]:
        """Names must be the node's own name, addresses those of its Machine: rules and routes on all minions are made of them."""
        known = self._addresses(node)
        for entry in obj.get("status", {}).get("addresses", ()):
            address = entry.get("address", "")
            if entry.get("type") in _NAMES:
                if address != node:
                    yield f'node "{node}" is not allowed to be called "{address}"'
            elif address not in known:
                yield f'address {address} is not that of machine "{node}"'

    def _addresses(self, node: str) -> frozenset[str]:
        machine = self._client.get(MACHINES, node)
        if machine is None:
            return frozenset()
        return frozenset({machine.status.address, machine.spec.address} - {""})

    def _pod_updated(self, node: str, attributes: Attributes) -> Iterator[str]:
        new, old = _of(attributes.new), _of(attributes.old)
        if old["spec"].get("nodeName") != node:
            yield f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
        if attributes.subresource != "status" or new["spec"] != old["spec"]:
            yield f'node "{node}" is only allowed to update the status of its pods'
        yield from _metadata_changed(node, new, old)
        had, has = old.get("status", {}), new.get("status", {})
        host = sorted(_addresses_of(has, "hostIP") - _addresses_of(had, "hostIP") - self._addresses(node))
        if host:
            yield f'address {host[0]} is not that of machine "{node}"'
        added = sorted(_addresses_of(has, "podIP") - _addresses_of(had, "podIP"))
        wrong = next((address for address in added if not self._may_have(node, old, address)), "")
        if wrong:
            yield f'address {wrong} is not in the pod range of node "{node}"'

    def _may_have(self, node: str, pod: Object, address: str) -> bool:
        """Tell whether a pod may have this address: one of its node's range, or its machine's with hostNetwork."""
        if pod["spec"].get("hostNetwork"):
            return address in self._addresses(node)
        view = self._client.get(NODES, node)
        return view is not None and any(_within(address, cidr) for cidr in {view.spec.pod_cidr, *view.spec.pod_cidrs} if cidr)

    def _event_created(self, node: str, attributes: Attributes) -> Iterator[str]:
        new = _of(attributes.new)
        yield from _metadata_beyond(node, new["metadata"], "labels", "annotations")
        for reference in (new.get("involvedObject", {}), new.get("related")):
            if reference is not None and not self._concerns(node, reference):
                yield f'node "{node}" is only allowed to write events about itself and its pods'
        if not _reported_by(node, new):
            yield f'node "{node}" is only allowed to write events in its own name'

    def _event_updated(self, node: str, attributes: Attributes) -> Iterator[str]:
        new, old = _of(attributes.new), _of(attributes.old)
        if not _reported_by(node, old):
            yield f'node "{node}" is only allowed to update events that it reported itself'
        yield from _metadata_changed(node, new, old, "annotations")  # how old its news is
        changed = next((field for field in _SAME_IN_EVENTS if new.get(field) != old.get(field)), "")
        if changed:
            yield f'node "{node}" is not allowed to change {changed} of an event'

    def _token_asked(self, node: str, attributes: Attributes) -> Iterator[str]:
        """Yield objections. A token must be bound to a pod of the node, and be for an audience that this pod's volumes name."""
        spec = _of(attributes.new).get("spec", {})
        reference = spec.get("boundObjectRef") or {}
        if attributes.subresource != "token" or reference.get("kind") != "Pod":
            yield "node requested token not bound to a pod"
            return
        if not reference.get("uid"):
            yield "node requested token with a pod binding without a uid"
        pod = self._client.raw(PODS, f"{attributes.namespace}/{reference.get('name', '')}")
        if pod is None or pod["spec"].get("nodeName") != node or pod["metadata"]["uid"] != reference.get("uid"):
            yield "node requested token bound to a pod scheduled on a different node"
            return
        named = {source.get("audience", "") for source in _sources(pod, "serviceAccountToken")}
        wrong = next((each for each in spec.get("audiences", ()) if each not in named and not ("" in named and each == ISSUER)), None)
        if wrong is not None:
            yield f'audience "{wrong}" not found in pod spec volume'

    def _certificate_asked(self, node: str, attributes: Attributes) -> Iterator[str]:
        """Yield objections. A certificate is for a pod of the node, with all names and uids as they are now, from a signer that this pod's volumes name."""
        new = _of(attributes.new)
        spec, metadata = new.get("spec", {}), new["metadata"]
        yield from _metadata_beyond(node, metadata, "ownerReferences", "generateName")
        name = f"{attributes.namespace}/{spec.get('podName', '')}"
        owners = [
            (each.get("apiVersion"), each.get("kind"), each.get("name"), each.get("uid")) for each in metadata.get("ownerReferences", ())
        ]
        if owners not in ([], [("v1", "Pod", spec.get("podName"), spec.get("podUID"))]):
            yield f'node "{node}" is only allowed to make the pod "{name}" the owner of its PodCertificateRequest'
        if spec.get("nodeName") != node:
            yield f'PodCertificateRequest.Spec.NodeName="{spec.get("nodeName")}", which is not the requesting node "{node}"'
        pod = self._client.raw(PODS, name)
        if pod is None:
            yield f'pod "{name}" named in the PodCertificateRequest does not exist'
            return
        if pod["spec"].get("nodeName") != node:
            yield f'pod "{name}" is not running on node "{node}" named in the PodCertificateRequest'
        account = pod["spec"].get("serviceAccountName", "")
        if spec.get("serviceAccountName") != account:
            yield f'PodCertificateRequest for pod "{name}" contains serviceAccountName ("{spec.get("serviceAccountName")}") that differs from running pod ("{account}")'
        for field, kind, key in (("nodeUID", NODES, node), ("podUID", PODS, name), ("serviceAccountUID", SERVICE_ACCOUNTS, f"{attributes.namespace}/{account}")):  # fmt: skip
            is_so = (self._client.raw(kind, key) or {"metadata": {"uid": ""}})["metadata"]["uid"]
            if not is_so or spec.get(field) != is_so:
                yield f'PodCertificateRequest for pod "{name}" contains {field} ("{spec.get(field)}") which differs from the one that is there ("{is_so}")'
        named = [source for source in _sources(pod, "podCertificate") if source.get("signerName") == spec.get("signerName")]
        if not named:
            yield f'signer "{spec.get("signerName")}" not found in pod spec volume'
        if not any((source.get("userAnnotations") or {}) == (spec.get("unverifiedUserAnnotations") or {}) for source in named):
            yield "unverifiedUserAnnotations are not those of the pod spec volume"

    def _concerns(self, node: str, reference: Object) -> bool:
        """Tell whether a reference is to the node or to one of its pods. A pod's last Event may come when the pod is gone; it has the pod's uid then."""
        name, namespace = reference.get("name", ""), reference.get("namespace", "")
        if reference.get("kind") == "Node":
            return name == node and not namespace
        if reference.get("kind") != "Pod":
            return False
        pod = self._client.get(PODS, f"{namespace}/{name}")
        return bool(reference.get("uid")) if pod is None else bool(pod.spec.node_name == node)


def _lease_created(node: str, attributes: Attributes) -> Iterator[str]:
    metadata = _of(attributes.new)["metadata"]
    yield from _other_lease(node, metadata)
    yield from _metadata_beyond(node, metadata, "ownerReferences")
    yield from _other_owners(node, metadata)


def _lease_updated(node: str, attributes: Attributes) -> Iterator[str]:
    new, old = _of(attributes.new), _of(attributes.old)
    yield from _other_lease(node, old["metadata"])
    yield from _metadata_changed(node, new, old, "ownerReferences", "annotations")
    yield from _other_owners(node, new["metadata"])
    had, has = ({**each["metadata"].get("annotations", {})} for each in (old, new))
    had.pop(HEARD, None)
    if len(has.pop(HEARD, "")) > HEARD_MAX:
        yield f'node "{node}" is not allowed to set an annotation {HEARD} of more than {HEARD_MAX} characters'
    if had != has:
        yield f'node "{node}" is not allowed to change annotations of its lease besides {HEARD}'


def _other_lease(node: str, metadata: Object) -> Iterator[str]:
    if (metadata["namespace"], metadata["name"]) != ("kube-node-lease", node):
        yield f'node "{node}" can only access the lease with the same name as itself, in the "kube-node-lease" namespace'


def _other_owners(node: str, metadata: Object) -> Iterator[str]:
    if any((owner.get("kind"), owner.get("name")) != ("Node", node) for owner in metadata.get("ownerReferences", ())):
        yield f'node "{node}" is only allowed to make itself the owner of its lease'


def _pod_deleted(node: str, attributes: Attributes) -> Iterator[str]:
    old = _of(attributes.old)
    if old["spec"].get("nodeName") != node:
        yield f'node "{node}" can only delete pods with spec.nodeName set to itself'
    if "deletionTimestamp" not in old["metadata"]:
        yield f'node "{node}" is only allowed to finish a deletion, not to begin one'


def _volume_updated(node: str, attributes: Attributes) -> Iterator[str]:
    """Yield objections to anything but the removal of the one finalizer. The authorizer has checked whose volume it is."""
    new, old = _of(attributes.new), _of(attributes.old)
    had, has = old["metadata"].get("finalizers", []), new["metadata"].get("finalizers", [])
    if "deletionTimestamp" not in old["metadata"] or has != [each for each in had if each != LOCAL_DATA]:
        yield f'node "{node}" is only allowed to finish the deletion of a volume on its disk'
    if any(new.get(part) != old.get(part) for part in ("spec", "status")):
        yield f'node "{node}" is not allowed to modify a volume'
    yield from _metadata_changed(node, new, old, "finalizers")


def _sources(pod: Object, kind: str) -> Iterator[Object]:
    """Yield what the pod's projected volumes ask for of one kind of source."""
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get(kind) is not None:
                yield source[kind]


def _never(node: str, attributes: Attributes) -> Iterator[str]:
    yield f'node "{node}" is not allowed to {attributes.verb} {attributes.kind.resource}'


def _metadata_beyond(node: str, metadata: Object, *allowed: str) -> Iterator[str]:
    """Yield objections to what a node's new object may not say about itself. Finalizers, for example, would keep it for ever."""
    beyond = next((field for field, value in metadata.items() if value and field not in _SET_BY_SERVER and field not in allowed), "")
    if beyond:
        yield f'node "{node}" is not allowed to set metadata.{beyond}'


def _metadata_changed(node: str, new: Object, old: Object, *allowed: str) -> Iterator[str]:
    had, has = old["metadata"], new["metadata"]
    changed = sorted(field for field in {*had, *has}.difference(allowed) if had.get(field) != has.get(field))
    if changed:
        yield f'node "{node}" is not allowed to change metadata.{changed[0]}'


def _may_register(node: str, key: str, value: str) -> bool:
    """At its registration a node may give itself labels outside of Kubernetes' and labctl's domains too, as in Kubernetes."""
    if key == HOSTNAME:
        return value == node
    domain = key.rpartition("/")[0]
    return _is_own(key) or not domain.endswith(("kubernetes.io", "k8s.io", "labctl.internal"))


def _is_own(key: str) -> bool:
    """Tell whether it is a label that describes the machine. All others belong to people: the agent may neither change nor remove them."""
    return key in _OWN_LABELS or key.startswith(_OWN_LABEL_DOMAINS)


def _addresses_of(status: Object, field: str) -> set[str]:
    """Return the addresses of `podIP` and `podIPs`, or of `hostIP` and `hostIPs`."""
    listed = (entry.get("ip", "") for entry in status.get(f"{field}s", ()))
    return {address for address in (status.get(field, ""), *listed) if address}


def _within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False


def _reported_by(node: str, event: Object) -> bool:
    hosts = {event.get("source", {}).get("host", ""), event.get("reportingInstance", "")} - {""}
    return hosts == {node}


def _of(obj: Object | None) -> dict[str, Any]:
    assert obj is not None, "a rule is asked only for the verbs that have this object"
    return obj
