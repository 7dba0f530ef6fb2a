"""Answers apiregistration.k8s.io: an APIService for each version of each group that is served, as Kubernetes lists its local ones. Nothing is stored.

Custom kinds come and go at run time, so the list is made from the registry each time it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from aiohttp import web

from labctl.api import query, status
from labctl.api.call import Call
from labctl.api.shapes import Shape
from labctl.clock import rfc3339
from labctl.resources import failures
from labctl.resources.kind import Kind, Object
from labctl.resources.resources import Resources
from labctl.resources.selectors import parse, parse_fields
from labctl.resources.service import ListResult
from labctl.resources.verbs.read import revision_of
from labctl.store.interface import Entry

_encode = msgspec.json.Encoder().encode
_FIRST = 18_000  # the core group comes first; then the built-in ones, then custom kinds
_BUILT_IN, _CUSTOM = 17_000, 1000


class ApiServices:
    """`answer` carries out get and list."""

    def __init__(self, resources: Resources, wall_s: Callable[[], float]) -> None:
        self._resources = resources
        self._wall_s = wall_s
        self._since = rfc3339(wall_s())

    async def answer(self, call: Call) -> web.StreamResponse:
        if call.is_watch:
            raise status.method_not_allowed()
        shape = Shape(call.kind, call.format.shape, call.query.first("includeObject"), self._resources.view, self._wall_s)
        revision = self._resources.store.revision
        if call.target.name:
            found = [each for each in self._objects() if each["metadata"]["name"] == call.target.name]
            if not found:
                raise failures.not_found(call.kind, call.target.name)
            return await call.answer(shape.one(_entry(call.kind, found[0], revision)), form=call.format)
        asked = query.list_options(call.query)
        revision_of(asked.resource_version)
        labels, names = parse(asked.label_selector), parse_fields(asked.field_selector)
        entries = [
            _entry(call.kind, each, revision)
            for each in self._objects()
            if labels.matches(each["metadata"]["labels"]) and names.matches({"metadata.name": each["metadata"]["name"]})
        ]
        return await call.answer_list(await shape.many(ListResult(entries, revision)), form=call.format)

    def _objects(self) -> list[Object]:
        registry = self._resources.registry
        made = []
        for place, (group, version) in enumerate(registry.group_versions()):
            custom = all(kind.decoder is not None for kind in registry.served(group, version))
            name = f"{version}.{group}"
            spec = {
                "group": group,
                "version": version,
                "groupPriorityMinimum": _CUSTOM if custom else _FIRST if not group else _BUILT_IN,
                "versionPriority": 100 if custom else max(1, 100 - place),
            }
            available = {"type": "Available", "status": "True", "lastTransitionTime": self._since, "reason": "Local"}
            available["message"] = "Local APIServices are always available"
            metadata = {
                "name": name,
                "uid": _uid(name),
                "creationTimestamp": self._since,
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "true" if custom else "onstart"},
            }
            made.append(
                {"metadata": metadata, "spec": {key: value for key, value in spec.items() if value}, "status": {"conditions": [available]}}
            )
        return sorted(made, key=lambda each: str(each["metadata"]["name"]))


def _uid(name: str) -> str:
    """Return a uid that is the same for the same name in every process."""
    digits = hashlib.sha256(name.encode()).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _entry(kind: Kind, obj: Object, revision: int) -> Entry:
    metadata = {**obj["metadata"], "resourceVersion": str(revision)}
    body = _encode({"kind": kind.kind, "apiVersion": kind.api_version, **obj, "metadata": metadata})
    return Entry(kind.key("", obj["metadata"]["name"]), body, revision, revision, client_bytes=body)
