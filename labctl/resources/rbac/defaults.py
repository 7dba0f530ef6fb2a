"""The roles and bindings that every lab has from its first start: Kubernetes' own, as far as labctl serves what they speak of.

Left out are rules about what is not served (the group `extensions`, leasecandidates, device taints,
`/flagz` and `/statusz`), and roles that only parts of Kubernetes need which labctl has not or does not run under a name of their own: kubelet-api-admin,
one for each controller but for the two by whose names aggregated servers are asked, and the Roles of kube-system and kube-public for leader election and bootstrapping.

At each start what is missing is made, and rules and subjects that somebody took away are added again, unless the object's annotation
`rbac.authorization.kubernetes.io/autoupdate` is "false". What somebody added stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from labctl.errors import ApiError
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.rbac_v1.rules import GROUP
from labctl.resources.plurals import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES

AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_READ = ("get", "list", "watch")
_CHANGE = ("create", "delete", "deletecollection", "patch", "update")
_CORE_EDITED = (
    "configmaps", "events", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale", "secrets",
    "serviceaccounts", "services", "services/proxy",
)  # fmt: skip
_CORE_VIEWED = (
    "bindings", "configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/status", "persistentvolumeclaims",
    "persistentvolumeclaims/status", "pods", "pods/log", "pods/status", "replicationcontrollers", "replicationcontrollers/scale",
    "replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "serviceaccounts", "services", "services/status",
)  # fmt: skip
_APPS = ("daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale")
_APPS_STATUS = ("controllerrevisions", "daemonsets/status", "deployments/status", "replicasets/status", "statefulsets/status")
_INTO_PODS = ("pods/attach", "pods/exec", "pods/portforward", "pods/proxy")
_SIGNERS = ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")

Rule = dict[str, Sequence[str]]


def _on(group: str, verbs: Sequence[str], *resources: str, names: Sequence[str] = ()) -> Rule:
    rule: Rule = {"apiGroups": [group], "resources": sorted(resources), "verbs": list(verbs)}
    return {**rule, "resourceNames": list(names)} if names else rule


def _paths(*paths: str) -> Rule:
    return {"nonResourceURLs": list(paths), "verbs": ["get"]}


_EVENTS = [_on(group, ["create", "patch", "update"], "events") for group in ("", "events.k8s.io")]
_REVIEWED = [_on("authentication.k8s.io", ["create"], "tokenreviews"), _on("authorization.k8s.io", ["create"], "subjectaccessreviews")]
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version", "/version/")

ROLES: dict[str, list[Rule]] = {
    "cluster-admin": [_on("*", ["*"], "*"), {"nonResourceURLs": ["*"], "verbs": ["*"]}],
    "system:discovery": [_paths("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_PUBLIC)],
    "system:public-info-viewer": [_paths(*_PUBLIC)],
    "system:basic-user": [
        _on("authorization.k8s.io", ["create"], "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        _on("authentication.k8s.io", ["create"], "selfsubjectreviews"),
    ],
    "system:monitoring": [
        _paths("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"),
    ],
    "system:service-account-issuer-discovery": [
        _paths("/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/")
    ],
    "system:cluster-trust-bundle-discovery": [_on("certificates.k8s.io", _READ, "clustertrustbundles")],
    "system:auth-delegator": _REVIEWED,
    "system:node-proxier": [
        _on("", ["list", "watch"], "endpoints", "services"),
        _on("", _READ, "nodes"),
        *_EVENTS,
        _on("discovery.k8s.io", ["list", "watch"], "endpointslices"),
        _on("networking.k8s.io", ["list", "watch"], "servicecidrs"),
    ],
    "system:node": [  # bound to nobody: what a node may do depends on its pods (api/authorize.py)
        *_REVIEWED,
        _on("authorization.k8s.io", ["create"], "localsubjectaccessreviews"),
        _on("", _READ, "configmaps", "secrets", "services"),
        _on("", [*_READ, "create", "patch", "update"], "nodes"),
        _on("", ["patch", "update"], "nodes/status", "pods/status"),
        _on("", ["create", "patch", "update"], "events"),
        _on("", [*_READ, "create", "delete"], "pods"),
        _on("", ["create"], "pods/eviction", "serviceaccounts/token"),
        _on("", ["get"], "endpoints", "persistentvolumeclaims", "persistentvolumes", "serviceaccounts"),
        _on("", ["get", "patch", "update"], "persistentvolumeclaims/status"),
        _on("certificates.k8s.io", [*_READ, "create"], "certificatesigningrequests"),
        _on("certificates.k8s.io", _READ, "clustertrustbundles"),
        _on("coordination.k8s.io", ["create", "delete", "get", "patch", "update"], "leases"),
        _on("storage.k8s.io", ["get"], "volumeattachments"),
        _on("storage.k8s.io", _READ, "csidrivers"),
        _on("storage.k8s.io", ["create", "delete", "get", "patch", "update"], "csinodes"),
        _on("node.k8s.io", _READ, "runtimeclasses"),
        _on("resource.k8s.io", ["get"], "resourceclaims"),
        _on("resource.k8s.io", ["deletecollection"], "resourceslices"),
    ],
    "system:kube-controller-manager": [
        *_EVENTS,
        _on("coordination.k8s.io", ["create"], "leases"),
        _on("coordination.k8s.io", ["get", "update"], "leases", names=["kube-controller-manager"]),
        _on("", ["create", "get", "update"], "secrets", "serviceaccounts"),
        _on("", ["delete"], "secrets"),
        _on("", ["get"], "configmaps", "namespaces"),
        _on("", ["create"], "serviceaccounts/token"),
        _on("*", ["list", "watch"], "*"),
        *_REVIEWED,
    ],
    "system:kube-scheduler": [
        *_EVENTS,
        _on("coordination.k8s.io", ["create"], "leases"),
        _on("coordination.k8s.io", [*_READ, "update"], "leases", names=["kube-scheduler"]),
        _on("", _READ, "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes", "replicationcontrollers", "services"),
        _on("", [*_READ, "delete"], "pods"),
        _on("", ["create"], "bindings", "pods/binding"),
        _on("", ["patch", "update"], "pods/status"),
        _on("apps", _READ, "replicasets", "statefulsets"),
        _on("policy", _READ, "poddisruptionbudgets"),
        _on("storage.k8s.io", _READ, "csidrivers", "csinodes", "csistoragecapacities", "volumeattachments"),
        _on("resource.k8s.io", _READ, "deviceclasses", "resourceslices"),
        _on("resource.k8s.io", [*_READ, "patch", "update"], "resourceclaims", "resourceclaims/status"),
        _on("", [*_READ, "patch", "update"], "pods/finalizers"),
        *_REVIEWED,
    ],
    "system:volume-scheduler": [
        _on("", [*_READ, "patch", "update"], "persistentvolumeclaims", "persistentvolumes"),
        _on("storage.k8s.io", _READ, "storageclasses"),
    ],
    "system:node-bootstrapper": [_on("certificates.k8s.io", [*_READ, "create"], "certificatesigningrequests")],
    "system:node-problem-detector": [
        _on("", ["get"], "nodes"),
        _on("", ["patch"], "nodes/status"),
        *_EVENTS,
    ],
    "system:heapster": [_on("", _READ, "events", "namespaces", "nodes", "pods")],
    "system:kube-aggregator": [_on("", _READ, "endpoints", "services")],
    "system:kube-dns": [_on("", ["list", "watch"], "endpoints", "services")],
    "system:persistent-volume-provisioner": [
        _on("", [*_READ, "create", "delete"], "persistentvolumes"),
        _on("", [*_READ, "update"], "persistentvolumeclaims"),
        _on("storage.k8s.io", _READ, "storageclasses"),
        _on("", ["watch"], "events"),
        *_EVENTS,
    ],
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": [
        _on("certificates.k8s.io", ["create"], "certificatesigningrequests/nodeclient")
    ],
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": [
        _on("certificates.k8s.io", ["create"], "certificatesigningrequests/selfnodeclient")
    ],
    **{
        f"system:certificates.k8s.io:{signer}-approver": [
            _on("certificates.k8s.io", ["approve"], "signers", names=[f"kubernetes.io/{signer}"])
        ]
        for signer in _SIGNERS
    },
    "system:aggregate-to-view": [
        _on("", _READ, *_CORE_VIEWED),
        _on("discovery.k8s.io", _READ, "endpointslices"),
        _on("apps", _READ, *_APPS, *_APPS_STATUS),
        _on("autoscaling", _READ, "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
        _on("batch", _READ, "cronjobs", "cronjobs/status", "jobs", "jobs/status"),
        _on("metrics.k8s.io", _READ, "nodes", "pods"),
        _on("policy", _READ, "poddisruptionbudgets", "poddisruptionbudgets/status"),
        _on("networking.k8s.io", _READ, "ingresses", "ingresses/status", "networkpolicies"),
        _on("resource.k8s.io", _READ, "resourceclaims", "resourceclaims/status", "resourceclaimtemplates"),
    ],
    "system:aggregate-to-edit": [
        _on("", _READ, *_INTO_PODS, "secrets", "services/proxy"),
        _on("", ["impersonate"], "serviceaccounts"),
        _on("", _CHANGE, "pods", *_INTO_PODS),
        _on("", ["create"], "pods/eviction"),
        _on("", ["get", "patch", "update"], "pods/resize"),
        _on("", _CHANGE, *_CORE_EDITED),
        _on("", ["create"], "serviceaccounts/token"),
        _on("apps", _CHANGE, *_APPS),
        _on("autoscaling", _CHANGE, "horizontalpodautoscalers"),
        _on("batch", _CHANGE, "cronjobs", "jobs"),
        _on("policy", _CHANGE, "poddisruptionbudgets"),
        _on("networking.k8s.io", _CHANGE, "ingresses", "networkpolicies"),
        _on("coordination.k8s.io", (*_READ, *_CHANGE), "leases"),
        _on("resource.k8s.io", _CHANGE, "resourceclaims", "resourceclaimtemplates"),
    ],
    "system:aggregate-to-admin": [
        _on("authorization.k8s.io", ["create"], "localsubjectaccessreviews"),
        _on(GROUP, (*_READ, *_CHANGE), "rolebindings", "roles"),
    ],
    "system:controller:horizontal-pod-autoscaler": [
        *_EVENTS,
        _on("autoscaling", _READ, "horizontalpodautoscalers"),
        _on("autoscaling", ["update"], "horizontalpodautoscalers/status"),
        _on("*", ["get", "update"], "*/scale"),
        _on("", ["list"], "pods"),
        _on("metrics.k8s.io", ["list"], "pods"),
        _on("custom.metrics.k8s.io", ["get", "list"], "*"),
        _on("external.metrics.k8s.io", ["get", "list"], "*"),
    ],
    "system:controller:namespace-controller": [
        _on("", ["delete", "get", "list", "watch"], "namespaces"),
        _on("", ["update"], "namespaces/finalize", "namespaces/status"),
        _on("*", ["delete", "deletecollection", "get", "list"], "*"),
    ],
}

_LABELS = {
    "edit": {AGGREGATE + "admin": "true"},
    "view": {AGGREGATE + "edit": "true"},
    "system:aggregate-to-view": {AGGREGATE + "view": "true"},
    "system:aggregate-to-edit": {AGGREGATE + "edit": "true"},
    "system:aggregate-to-admin": {AGGREGATE + "admin": "true"},
}

BINDINGS: dict[str, list[tuple[str, str]]] = {
    "cluster-admin": [("Group", "system:masters")],
    "system:discovery": [("Group", "system:authenticated")],
    "system:basic-user": [("Group", "system:authenticated")],
    "system:public-info-viewer": [("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
    "system:monitoring": [("Group", "system:monitoring")],
    "system:service-account-issuer-discovery": [("Group", "system:serviceaccounts")],
    "system:cluster-trust-bundle-discovery": [("Group", "system:serviceaccounts")],
    "system:node-proxier": [("User", "system:kube-proxy")],
    "system:kube-controller-manager": [("User", "system:kube-controller-manager")],
    "system:kube-scheduler": [("User", "system:kube-scheduler")],
    "system:volume-scheduler": [("User", "system:kube-scheduler")],
    "system:kube-dns": [("ServiceAccount", "kube-system/kube-dns")],
    "system:node": [],
    "system:controller:horizontal-pod-autoscaler": [("ServiceAccount", "kube-system/horizontal-pod-autoscaler")],
    "system:controller:namespace-controller": [("ServiceAccount", "kube-system/namespace-controller")],
}


def objects() -> Iterator[tuple[str, Object]]:
    """Yield each role and binding with the resource that it belongs to."""
    for name, rules in ROLES.items():
        yield CLUSTER_ROLES, {"metadata": _metadata(name), "rules": rules}
    for name in ("admin", "edit", "view"):
        aggregation = {"clusterRoleSelectors": [{"matchLabels": {AGGREGATE + name: "true"}}]}
        yield CLUSTER_ROLES, {"metadata": _metadata(name), "aggregationRule": aggregation, "rules": _aggregated(name)}
    for name, subjects in BINDINGS.items():
        listed = [_subject(kind, subject) for kind, subject in subjects]
        role = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        yield CLUSTER_ROLE_BINDINGS, {"metadata": _metadata(name), "roleRef": role, "subjects": listed}


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        namespace, _, name = name.partition("/")
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": kind, "name": name}


def _metadata(name: str) -> Object:
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults", **_LABELS.get(name, {})}
    return {"name": name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}}


def _aggregated(name: str) -> list[Rule]:
    """Return what the aggregation controller would write there first, so that nobody has to wait for it."""
    own = ROLES[f"system:aggregate-to-{name}"]
    if name == "admin":  # in the order of the roles' names, as the controller does it
        return [*_aggregated("edit"), *own]
    return [*own, *_aggregated("view")] if name == "edit" else own


async def ensure_roles(client: Client) -> None:
    """Makes what is missing, and adds again what was taken away."""
    missing = []
    for resource, obj in objects():
        there = client.raw(resource, obj["metadata"]["name"])
        if there is None:
            missing.append(_create(client, resource, obj))
        elif patch := _mended(there, obj):
            missing.append(_patch(client, resource, obj["metadata"]["name"], patch))
    await asyncio.gather(*missing)


async def _create(client: Client, resource: str, obj: Object) -> None:
    try:
        await client.create(resource, obj)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def _patch(client: Client, resource: str, name: str, patch: Object) -> None:
    await client.patch(resource, name, patch)


def _mended(there: Object, wanted: Object) -> Object:
    """Return the patch that adds what is missing; {} if nothing is, or if the object says that it must not be changed."""
    if there["metadata"].get("annotations", {}).get(AUTO_UPDATE) == "false":
        return {}
    patch: dict[str, Any] = {}
    for field in ("rules", "subjects"):
        if field in wanted and "aggregationRule" not in wanted:
            has = there.get(field) or []
            lacking = [each for each in wanted[field] if each not in has]
            if lacking:
                patch[field] = [*has, *lacking]
    return patch
