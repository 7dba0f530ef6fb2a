"""Who may do what. Admins (`system:masters`) everything; a node's agent exactly what it needs for its own pods; all else is 403, in Kubernetes' words.

As Kubernetes' node authorizer and its NodeRestriction admission, on the objects as they stand when the request comes:
its own Node (status; neither taints nor podCIDR nor labels that place pods) and Lease, its pods (status, addresses within its podCIDR, the end of
their deletion), Events about them, the ConfigMaps and Secrets they use, by name; Services and endpoints; images and blobs.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from multidict import CIMultiDictProxy

from labctl.api import bodies, identity, negotiate, status
from labctl.api.call import Call
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.errors import ApiError
from labctl.resources.resources import Body, Resources
from labctl.resources.service import ListOptions, User

MASTERS = "system:masters"
LEASES = "kube-node-lease"

_READ = frozenset({"get", "list", "watch"})
_READABLE = frozenset({"services", "endpoints", "endpointslices.discovery.k8s.io"})
_ASKABLE = frozenset(  # anybody may ask about themselves
    {
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "selfsubjectreviews.authentication.k8s.io",
    }
)
_NODE_PATHS = ("/labctl/v1/images/", "/labctl/v1/blobs/")
DISCOVERY = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz")
_PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_META_OF_STATUS = frozenset({"name", "namespace", "uid", "resourceVersion"})
_NODE_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
_NODE_LABEL_DOMAINS = ("kubelet.kubernetes.io/", "node.kubernetes.io/")


def is_admin(user: User) -> bool:
    return MASTERS in user.groups


class Authorizer:
    """Asked once per request, with the verb already known; asked again with the body where what is written decides."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kinds = resources.registry

    def impersonated(self, user: User, headers: CIMultiDictProxy[str]) -> User:
        """Whom `kubectl --as` speaks for: admins may be anybody. Raises 400, 403."""
        name = headers.get("Impersonate-User", "")
        if not name:
            raise status.bad_request("a group is impersonated, but no user")
        if not is_admin(user):
            raise denied(user, "impersonate", Target("", "v1", "users", name=name))
        return User(name, (*headers.getall("Impersonate-Group", ()), identity.AUTHENTICATED))

    def path(self, user: User, method: str, path: str) -> None:
        """A path that names no object: anybody who is somebody may read discovery, a node the images."""
        if is_admin(user):
            return
        first = "/" + path.split("/")[1]
        if method in ("GET", "HEAD") and (path == "/" or first in DISCOVERY):
            return
        if method in ("GET", "HEAD") and identity.node_of(user) and path.startswith(_NODE_PATHS):
            return
        raise status.forbidden(f'forbidden: User "{user.name}" cannot {method.lower()} path "{path}"')

    def objects(self, user: User, verb: str, target: Target, parameters: Query) -> None:
        """May this user do `verb` there at all? Raises 403."""
        if is_admin(user) or (verb == "create" and _qualified(target) in _ASKABLE):
            return
        node = identity.node_of(user)
        if not node or not self._node_may(node, verb, target, parameters):
            raise denied(user, verb, target)

    def _node_may(self, node: str, verb: str, target: Target, parameters: Query) -> bool:
        resource = f"{target.resource}.{target.group}" if target.group else target.resource
        if resource in _READABLE:
            return verb in _READ and not target.subresource
        rule = _RULES.get(resource)
        return rule is not None and rule(self, node, verb, target, parameters)

    def _nodes(self, node: str, verb: str, target: Target, parameters: Query) -> bool:
        if verb in ("list", "watch"):
            return f"metadata.name={node}" in parameters.first("fieldSelector").split(",")
        if verb == "create":
            return not target.name
        if target.name != node:
            return False
        return verb == "get" if not target.subresource else verb == "patch" and target.subresource == "status"

    def _leases(self, node: str, verb: str, target: Target, _parameters: Query) -> bool:
        if target.namespace != LEASES:
            return False
        return verb == "create" or (target.name == node and verb in ("get", "update", "patch"))

    def _pods(self, node: str, verb: str, target: Target, parameters: Query) -> bool:
        if verb in ("list", "watch"):
            return f"spec.nodeName={node}" in parameters.first("fieldSelector").split(",")
        pod = self._find("pods", target.namespace, target.name)
        if pod is None or pod.spec.node_name != node:
            return False
        if target.subresource == "status":
            return verb == "patch"
        if target.subresource:
            return False
        return verb == "get" or (verb == "delete" and pod.metadata.deletion_timestamp is not None)

    def _config(self, node: str, verb: str, target: Target, _parameters: Query) -> bool:
        if verb != "get" or target.subresource:
            return False
        used = "config_maps" if target.resource == "configmaps" else "secrets"
        return any(target.name in getattr(pod.spec, used)() for pod in self._pods_on(node, target.namespace))

    def _events(self, node: str, verb: str, target: Target, _parameters: Query) -> bool:
        if verb == "create":
            return True  # about whom, the body says
        if verb != "patch":
            return False
        event = self._find("events", target.namespace, target.name)
        return event is not None and self._concerns(node, event.involved_object.kind, target.namespace, event.involved_object.name)

    # -- what is written ---------------------------------------------------------------------------------------------

    def body(self, call: Call, verb: str, body: Body) -> None:
        """May this user write that? For nodes alone: an admin's body is not looked into. Raises 403."""
        node = identity.node_of(call.user)
        if is_admin(call.user) or not node or verb == "delete":
            return
        resource = call.kind.resource
        if verb == "patch" and negotiate.media_type(call.request.headers.get("Content-Type", "")) not in _PATCHES:
            raise denied(call.user, verb, call.target, "a node may only use merge patches")
        said = bodies.as_object(body)
        why = ""
        if resource == "nodes":
            why = _node_body(node, said)
        elif resource == "pods":
            why = self._pod_body(node, said)
        elif resource == "leases.coordination.k8s.io":
            name = (said.get("metadata") or {}).get("name", node)
            why = "" if name == node else f'node "{node}" may only write its own lease'
        elif resource == "events" and verb == "create":
            ref = said.get("involvedObject") or {}
            concerns = self._concerns(node, ref.get("kind", ""), ref.get("namespace") or call.target.namespace, ref.get("name", ""))
            why = "" if concerns else f'node "{node}" may only write events about itself and its pods'
        if why:
            raise denied(call.user, verb, call.target, why)

    def _pod_body(self, node: str, said: dict[str, Any]) -> str:
        if set(said) - {"kind", "apiVersion", "metadata", "status"} or set(said.get("metadata") or {}) - _META_OF_STATUS:
            return "a node may only write its pods' status"
        reported = said.get("status") or {}
        addresses = {str(ip) for ip in (reported.get("podIP"), *(ip.get("ip") for ip in reported.get("podIPs") or ())) if ip}
        allowed = self._addresses(node)
        wrong = next((a for a in sorted(addresses) if not _within(a, allowed)), "")
        return f'address {wrong} is not in the pod range of node "{node}"' if wrong else ""

    def _addresses(self, node: str) -> list[str]:
        """Where its pods' addresses may lie: its podCIDR, or its own address (hostNetwork)."""
        view = self._find("nodes", "", node)
        if view is None:
            return []
        return [view.spec.pod_cidr, *(address.address for address in view.status.addresses)]

    def _concerns(self, node: str, kind: str, namespace: str, name: str) -> bool:
        if kind == "Node":
            return name == node
        if kind != "Pod":
            return False
        pod = self._find("pods", namespace, name)
        return pod is None or pod.spec.node_name == node  # its last Event may come after it is gone

    def _find(self, resource: str, namespace: str, name: str) -> Any:
        kind = self._kinds[resource]
        try:
            return self._resources.view(self._resources.get(kind, namespace, name))
        except ApiError:
            return None

    def _pods_on(self, node: str, namespace: str) -> list[Any]:
        kind = self._kinds["pods"]
        listed = self._resources.list(kind, namespace, ListOptions(field_selector=f"spec.nodeName={node}"))
        return [self._resources.view(entry) for entry in listed.entries]


_RULES = {
    "nodes": Authorizer._nodes,
    "leases.coordination.k8s.io": Authorizer._leases,
    "pods": Authorizer._pods,
    "configmaps": Authorizer._config,
    "secrets": Authorizer._config,
    "events": Authorizer._events,
}


def denied(user: User, verb: str, target: Target, why: str = "") -> ApiError:
    """`pods "x" is forbidden: User "system:node:minion-1" cannot get resource "pods" in API group "" in the namespace "default"`."""
    named = f'{_qualified(target)} "{target.name}"' if target.name else _qualified(target)
    resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    if target.namespace and target.resource != "namespaces":
        where = f'in the namespace "{target.namespace}"'
    else:
        where = "at the cluster scope"
    words = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{target.group}" {where}'
    details = {"name": target.name, "group": target.group, "kind": target.resource}
    return status.forbidden(f"{named} is forbidden: {words}{': ' + why if why else ''}", {k: v for k, v in details.items() if v})


def _qualified(target: Target) -> str:
    return f"{target.resource}.{target.group}" if target.group else target.resource


def _node_body(node: str, said: dict[str, Any]) -> str:
    """Registration (POST) and status (PATCH) alike: nothing of the spec, and only labels that tell what the machine is."""
    metadata = said.get("metadata") or {}
    if metadata.get("name", node) != node:
        return f'node "{node}" may not write node "{metadata.get("name")}"'
    touched = next((field for field, value in (said.get("spec") or {}).items() if value), "")
    if touched:
        return f'node "{node}" may not set spec.{touched}'
    wrong = next((label for label in metadata.get("labels") or {} if not _own_label(label)), "")
    return f'node "{node}" may not set label {wrong}' if wrong else ""


def _own_label(label: str) -> bool:
    """The labels that a node may give itself, as in NodeRestriction: those outside Kubernetes' own domains, and the ones that tell what it is."""
    domain = label.rpartition("/")[0]
    if not (domain.endswith(("kubernetes.io", "k8s.io"))):
        return not domain.endswith("labctl.internal")
    return label in _NODE_LABELS or label.startswith(_NODE_LABEL_DOMAINS)


def _within(address: str, ranges: list[str]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
        return any(ip in ipaddress.ip_network(r, strict=False) for r in ranges if r)
    except ValueError:
        return False
