"""The authorizer decides who may do what. It asks in this order, and what nothing allows is refused with 403, in Kubernetes' words:

1. Admins (`system:masters`) may do everything.
2. A node's agent may do what it needs for its own pods (this module).
3. RBAC: everybody may do what the rules of their roles say (resources/rbac/).

The server asks it before it reads a body, so it decides by the verb, the path and the query, and by the objects as they are then. Like
Kubernetes' node authorizer, it lets an agent use its own Node and Lease, its pods (their status, the end of their deletion), Events, the ConfigMaps,
Secrets and claims that its pods use (by name), its pods' ServiceAccounts and tokens of them, requests for its pods' certificates, the volumes of these claims
and those on its own disk, Services and endpoints, the images of its pods, and blobs. What an agent may change in an object is decided
later, on the result of the write: by the step NodeRestriction of the room `admission`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.api import negotiate, status
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.errors import ApiError
from labctl.resources import selectors
from labctl.resources.kinds.core_v1.persistentvolume import ON_NODE
from labctl.resources.plurals import CLAIMS, ENDPOINTS, POD_SIGNING_REQUESTS, SERVICES, SLICES, TRUST_BUNDLES, VOLUMES
from labctl.resources.rbac.holders import Rbac
from labctl.resources.rbac.matching import Request
from labctl.resources.resources import Resources
from labctl.resources.service import MASTERS, ListOptions, User
from labctl.resources.volumes import claim_names

LEASES = "kube-node-lease"

_READ = frozenset({"get", "list", "watch"})
_READABLE = frozenset({SERVICES, ENDPOINTS, SLICES, TRUST_BUNDLES})
_BLOBS = "/labctl/v1/blobs/"
DISCOVERY = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz")
_PEERS = "/labctl/v1/peers"
_RESOLVE = "/labctl/v1/images/resolve"
_NODE_BODIES = {  # the media types that an agent sends; a node's certificate gives no reason to parse others
    "create": ("application/json", ""),
    "update": ("application/json", ""),
    "patch": ("application/merge-patch+json", "application/strategic-merge-patch+json"),
    "delete": ("application/json", ""),
}


def is_admin(user: User) -> bool:
    return MASTERS in user.groups


class Authorizer:
    """Decides about each request once, when its verb is known."""

    def __init__(self, resources: Resources, rbac: Rbac) -> None:
        self._resources = resources
        self._kinds = resources.registry
        self._rbac = rbac

    def path(self, user: User, method: str, path: str, parameters: Query) -> None:
        """Decides about a path that names no object: discovery, health, labctl's own. Raises 403."""
        if not self.why_path(user, method, path, parameters):
            raise status.forbidden(f'forbidden: User "{user.name}" cannot {_path_verb(method)} path "{path}"')

    def why_path(self, user: User, method: str, path: str, parameters: Query) -> str:
        """Returns the reason why a path may be used; empty if it may not."""
        if is_admin(user):
            return "admin"
        if user.node and method in ("GET", "HEAD") and self._node_reads(user.node, path, parameters):
            return "node"
        return self._rbac.why_allowed(user, Request(_path_verb(method), path=path))

    def _node_reads(self, node: str, path: str, parameters: Query) -> bool:
        first = "/" + path.split("/")[1]
        return path in ("/", _PEERS) or first in DISCOVERY or self._images(node, path, parameters)

    def _images(self, node: str, path: str, parameters: Query) -> bool:
        """True if the node may ask for this image. The master connects to the registry in an image's name, so only names in the node's pods are allowed."""
        if path == _RESOLVE:
            name = parameters.first("name")
            return any(name in _images_of(pod) for pod in self._pods_on(node, ""))
        return path.startswith(_BLOBS)

    def objects(self, user: User, verb: str, target: Target, parameters: Query) -> None:
        """Decides whether this user may do `verb` on the target. Raises 403."""
        if is_admin(user):
            return
        if not target.name and verb.rpartition(":")[2] in ("list", "watch") and (named := _named_by(parameters.first("fieldSelector"))):
            target = msgspec.structs.replace(target, name=named)
        if not self.why_objects(user, verb, target, parameters):
            raise denied(user, verb, target)

    def why_objects(self, user: User, verb: str, target: Target, parameters: Query) -> str:
        """Returns the reason why a verb may be used on objects; empty if it may not."""
        if is_admin(user):
            return "admin"
        if user.node and self._node_may(user.node, verb, target, parameters):
            return "node"
        namespace = target.name if target.resource == "namespaces" and not target.group else target.namespace
        request = Request(verb, target.group, target.resource, target.subresource, namespace, target.name)
        return self._rbac.why_allowed(user, request)

    def why_allowed(self, user: User, request: Request) -> str:
        """Returns the reason why a request of any kind may be made; empty if it may not. Expressions of admission policies ask it."""
        if request.path:
            return self.why_path(user, request.verb.upper(), request.path, Query({}))
        target = Target(request.group, "", request.resource, request.namespace, request.name, request.subresource)
        selected = {"fieldSelector": [request.field_selector]} if request.field_selector else {}
        return self.why_objects(user, request.verb, target, Query(selected))

    def body(self, user: User, verb: str, target: Target, content_type: str) -> None:
        """Decides whether this user may send a body of this media type: agents may send only JSON and merge patches. Raises 403."""
        if user.node and not is_admin(user) and negotiate.media_type(content_type) not in _NODE_BODIES[verb]:
            raise denied(user, verb, target, f"a node may only send {' or '.join(filter(None, _NODE_BODIES[verb]))}")

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

    def _claims(self, node: str, verb: str, target: Target, _parameters: Query) -> bool:
        return verb == "get" and not target.subresource and self._uses(node, target.namespace, target.name)

    def _volumes(self, node: str, verb: str, target: Target, parameters: Query) -> bool:
        """Tell whether a node may touch a volume: read those of its pods' claims, find those on its own disk, and let go of one without data (NodeRestriction)."""
        if verb in ("list", "watch"):
            return f"{ON_NODE}={node}" in parameters.first("fieldSelector").split(",")
        volume = self._find(VOLUMES, "", target.name)
        if volume is None or target.subresource:
            return False
        if volume.is_local and volume.node_name == node:
            return verb in ("get", "patch")
        reference = volume.spec.claim_ref
        return verb == "get" and reference is not None and self._uses(node, reference.namespace, reference.name)

    def _uses(self, node: str, namespace: str, claim: str) -> bool:
        return any(claim in claim_names(pod) for pod in self._pods_on(node, namespace))

    def _accounts(self, node: str, verb: str, target: Target, _parameters: Query) -> bool:
        """Tell whether a pod of the node has the ServiceAccount, which may then be read, and asked for a token.

        The request's body decides whether the token is bound to such a pod.
        """
        if (verb, target.subresource) not in (("create", "token"), ("get", "")):
            return False
        return any(pod.spec.service_account_name == target.name for pod in self._pods_on(node, target.namespace))

    def _pod_requests(self, node: str, verb: str, target: Target, parameters: Query) -> bool:
        """A node asks for certificates of its pods, and reads its own requests. NodeRestriction looks at what it asks."""
        if target.subresource:
            return False
        if verb in ("list", "watch"):
            return f"spec.nodeName={node}" in parameters.first("fieldSelector").split(",")
        if verb == "create":
            return True
        request = self._find(POD_SIGNING_REQUESTS, target.namespace, target.name) if verb == "get" else None
        return request is not None and request.spec.node_name == node

    def _events(self, _node: str, verb: str, _target: Target, _parameters: Query) -> bool:
        return verb in ("create", "patch")  # NodeRestriction checks the Event itself

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
    CLAIMS: Authorizer._claims,
    VOLUMES: Authorizer._volumes,
    "events": Authorizer._events,
    "serviceaccounts": Authorizer._accounts,
    POD_SIGNING_REQUESTS: Authorizer._pod_requests,
}


def _containers(pod: Any) -> tuple[Any, ...]:
    return (*pod.spec.containers, *pod.spec.init_containers, *pod.spec.ephemeral_containers)


def _images_of(pod: Any) -> set[str]:
    """Return the images that a pod names: those of its containers, and those that are volumes."""
    volumes = {volume.image.reference for volume in pod.spec.volumes if volume.image is not None}
    return volumes | {container.image for container in _containers(pod)}


def _path_verb(method: str) -> str:
    return "get" if method == "HEAD" else method.lower()


def _named_by(field_selector: str) -> str:
    """Return the name of the only object that a list or watch asks for: rules with `resourceNames` allow it, as Kubernetes' documentation of RBAC says."""
    if "metadata.name" not in field_selector:
        return ""
    try:
        name = selectors.parse_fields(field_selector, None).exact("metadata.name") or ""
    except ValueError:
        return ""  # who may list hears what is wrong with it
    return "" if name in (".", "..") or "/" in name or "%" in name else name


def denied(user: User, verb: str, target: Target, why: str = "") -> ApiError:
    """Returns a 403 in Kubernetes' words.

    An example: `pods "x" is forbidden: User "system:node:minion-1" cannot get resource "pods" in API group "" in the namespace "default"`.
    """
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
