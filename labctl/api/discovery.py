"""Discovery tells clients which groups, versions and resources are served: /api, /apis, /api/v1, /apis/GROUP/VERSION and /version.

Clients ask before they do anything else, for each document or for the aggregated ones. The answer is made from the registry each time, because kinds may come
and go (200 custom kinds take 2 ms); a client keeps it for hours. `others` are the groups that other servers serve (aggregation/), with their versions.
"""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labctl.api.build import Build
from labctl.resources.kind import Kind, Subresource
from labctl.resources.registry import Registry

Document = dict[str, Any]
Groups = Mapping[str, Sequence[str]]  # a group's versions
_NO_OTHERS: Groups = {}
KUBERNETES_MINOR = "37"  # the release of Kubernetes whose API labctl serves


def git_version(labctl_version: str) -> str:
    """Returns the version for clients. They compare only the part before the +; the part after it is labctl's own version."""
    return f"v1.{KUBERNETES_MINOR}.0+labctl.{labctl_version}"


def version(labctl_version: str, build: Build) -> Document:
    """Returns the document of GET /version."""
    return {
        "major": "1",
        "minor": KUBERNETES_MINOR,
        "emulationMajor": "1",
        "emulationMinor": KUBERNETES_MINOR,
        "gitVersion": git_version(labctl_version),
        "gitCommit": build.commit,
        "gitTreeState": build.tree_state,
        "buildDate": build.date,
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def api_versions(server_address: str) -> Document:
    """Returns the document of GET /api."""
    clients = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": clients}


def group_list(registry: Registry, others: Groups = _NO_OTHERS) -> Document:
    """Returns the document of GET /apis."""
    groups = [_group(name, versions) for name, versions in _groups(registry, others).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str, others: Groups = _NO_OTHERS) -> Document | None:
    """Returns the document of GET /apis/GROUP, or None if the group is not served."""
    versions = _groups(registry, others).get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def resource_list(registry: Registry, group_name: str, version_name: str) -> Document | None:
    """Returns the document of GET /api/v1 or /apis/GROUP/VERSION, or None if that is not served."""
    kinds = registry.served(group_name, version_name)
    if not kinds:
        return None
    group_version = f"{group_name}/{version_name}" if group_name else version_name
    resources = [entry for kind in kinds for entry in (_resource(kind), *(_subresource(kind, s) for s in kind.subresources))]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def aggregated(registry: Registry, core: bool, others: Iterable[tuple[str, Document]] = ()) -> Document:
    """Returns the aggregated document (apidiscovery.k8s.io/v2) of GET /api (`core`) or /apis, which describes all resources at once.

    `others` has a version of a group for each that another server serves.
    """
    items: list[Document] = []
    for name, versions in {"": ["v1"]}.items() if core else _groups(registry).items():
        listed = [{"version": v, "resources": [_discovered(k) for k in registry.served(name, v)], "freshness": "Current"} for v in versions]
        items.append({"metadata": {"name": name} if name else {}, "versions": listed})
    for name, version_ in others:
        known = next((item for item in items if item["metadata"].get("name") == name), None)
        if known is None:
            items.append(known := {"metadata": {"name": name}, "versions": []})
        known["versions"].append(version_)
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def paths(registry: Registry, others: Groups = _NO_OTHERS) -> Document:
    """Returns the document of GET /, which lists the paths that are served."""
    groups = _groups(registry, others)
    below = [f"/apis/{g}" for g in groups] + [f"/apis/{g}/{v}" for g, vs in groups.items() for v in vs]
    health = ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
    return {"paths": sorted(["/api", "/api/v1", "/apis", *below, *health])}


def _groups(registry: Registry, others: Groups = _NO_OTHERS) -> dict[str, list[str]]:
    """Returns the versions of each group that has a name (the core group has none)."""
    groups: dict[str, list[str]] = {}
    for name, version_name in registry.group_versions():
        if name:
            groups.setdefault(name, []).append(version_name)
    for name, versions in others.items():
        groups.setdefault(name, []).extend(versions)
    return groups


def _group(name: str, versions: list[str]) -> Document:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resource(kind: Kind) -> Document:
    entry: Document = {"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind}
    entry["verbs"] = sorted(kind.shown_verbs)
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.persisted:
        entry["storageVersionHash"] = _storage_version_hash(kind.stored)
    return entry


def _storage_version_hash(stored: Kind) -> str:
    """Returns what Kubernetes' own servers make of the version that objects are stored in: the first 8 bytes of its hash, the core group's name being empty."""
    named = f"{stored.group}/{stored.version}/{stored.kind}"
    return base64.b64encode(hashlib.sha256(named.encode()).digest()[:8]).decode()


def _subresource(kind: Kind, subresource: Subresource) -> Document:
    entry: Document = {"name": f"{kind.plural}/{subresource.name}", "singularName": "", "namespaced": kind.namespaced}
    if subresource.group:
        entry |= {"group": subresource.group, "version": subresource.version}
    elif subresource.version:
        entry["version"] = subresource.version
    return entry | {"kind": subresource.kind or kind.kind, "verbs": sorted(subresource.verbs)}


def _discovered(kind: Kind) -> Document:
    entry: Document = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": sorted(kind.shown_verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = [_discovered_subresource(kind, s) for s in kind.subresources]
    return entry


def _discovered_subresource(kind: Kind, subresource: Subresource) -> Document:
    group_name = subresource.group if subresource.kind else kind.group
    version_name = (subresource.version if subresource.kind else kind.version) or "v1"
    answered = {"group": group_name, "version": version_name, "kind": subresource.kind or kind.kind}
    return {"subresource": subresource.name, "responseKind": answered, "verbs": sorted(subresource.verbs)}
