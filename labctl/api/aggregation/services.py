"""Answers apiregistration.k8s.io: an APIService for each version of each group that is served.

This server's own are made from the registry when they are asked for, since custom kinds come and go; nobody may change them. Those that a Service serves
are stored, like objects of any kind. A watch begins with both, and then tells of changes of the stored ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

from labctl.api import bodies, query, status, watches
from labctl.api.call import Call
from labctl.api.shapes import Shape
from labctl.clock import rfc3339
from labctl.decoding import from_json, from_values
from labctl.errors import ApiError
from labctl.resources.encoding import NOT_JSON
from labctl.resources.kind import Kind, Object
from labctl.resources.resources import Body, Resources
from labctl.resources.selectors import parse, parse_fields
from labctl.resources.service import ListOptions, ListResult, WatchEvent
from labctl.store.interface import Entry

_encode = msgspec.json.Encoder().encode
_FIRST = 18_000  # the core group comes first; then the built-in ones, then custom kinds
_BUILT_IN, _CUSTOM = 17_000, 1000

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class ApiServices:
    """`verbs` handle the stored ones."""

    def __init__(self, resources: Resources, wall_s: Callable[[], float], verbs: Mapping[str, Handler]) -> None:
        self._resources = resources
        self._wall_s = wall_s
        self._verbs = verbs
        self._since = rfc3339(wall_s())

    def handler(self, call: Call, verb: str) -> Handler:
        """Return the handler of a verb. Raises ApiError for a change of an APIService of this server's own."""
        if verb == "list":
            return self._list
        if verb == "watch":
            return self._watch
        if call.target.name and call.target.name in self._local():
            if verb != "get":
                raise ApiError(403, "Forbidden", f"the APIService \"{call.target.name}\" is this server's own, and can't be changed")
            return self._get
        return self._create if verb == "create" else self._verbs[verb]

    async def _create(self, call: Call) -> web.StreamResponse:
        name = _name_in(await bodies.read(call))
        if name in self._local():
            raise ApiError(409, "AlreadyExists", f'apiservices.apiregistration.k8s.io "{name}" already exists')
        return await self._verbs["create"](call)

    async def _get(self, call: Call) -> web.StreamResponse:
        self._resources.refuse_future(call.query.first("resourceVersion"))
        entry = _entry(call.kind, self._local()[call.target.name], self._resources.store.revision)
        return await call.answer(self._shape(call).one(entry), form=call.format)

    async def _list(self, call: Call) -> web.StreamResponse:
        asked = query.list_options(call.query)
        if asked.continue_token:
            raise status.bad_request("a list of APIServices comes in one piece")
        stored = self._resources.list(call.kind, "", msgspec.structs.replace(asked, limit=0))
        local = self._local()
        entries = self._entries(call.kind, asked, stored.revision)
        entries += [each for each in stored.entries if each.key.rpartition("/")[2] not in local]
        entries.sort(key=lambda each: each.key)
        return await call.answer_list(await self._shape(call).many(ListResult(entries, stored.revision)), form=call.format)

    async def _watch(self, call: Call) -> web.StreamResponse:
        asked = query.list_options(call.query)
        made = [WatchEvent("ADDED", each) for each in self._entries(call.kind, asked, self._resources.store.revision)]
        return await watches.serve(call, self._resources, self._shape(call), asked, made)

    def _entries(self, kind: Kind, asked: ListOptions, revision: int) -> list[Entry]:
        """Return those of this server's own that the selectors ask for."""
        labels, names = parse(asked.label_selector), parse_fields(asked.field_selector)
        return [
            _entry(kind, each, revision)
            for each in self._local().values()
            if labels.matches(each["metadata"]["labels"]) and names.matches({"metadata.name": each["metadata"]["name"]})
        ]

    def _shape(self, call: Call) -> Shape:
        return Shape(call.kind, call.format, call.query.first("includeObject"), self._resources.seen, self._wall_s)

    def _local(self) -> dict[str, Object]:
        """Return this server's own, by name."""
        registry = self._resources.registry
        made = {}
        for place, (group, version) in enumerate(registry.group_versions()):
            custom = all(kind.decoder is not None for kind in registry.served(group, version))
            spec = {
                "group": group,
                "version": version,
                "groupPriorityMinimum": _CUSTOM if custom else _FIRST if not group else _BUILT_IN,
                "versionPriority": 100 if custom else max(1, 100 - place),
            }
            available = {"type": "Available", "status": "True", "lastTransitionTime": self._since, "reason": "Local"}
            available["message"] = "Local APIServices are always available"
            name = f"{version}.{group}"
            metadata = {
                "name": name,
                "uid": _uid(name),
                "creationTimestamp": self._since,
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "true" if custom else "onstart"},
            }
            filled = {key: value for key, value in spec.items() if value}
            made[name] = {"metadata": metadata, "spec": filled, "status": {"conditions": [available]}}
        return made


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""


class _Named(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


def _name_in(body: Body) -> str:
    """Return the name in a body, of which nothing else is made; none if the body is wrong, which the handler tells."""
    try:
        return (from_json(body, _Named) if isinstance(body, bytes) else from_values(body, _Named)).metadata.name
    except NOT_JSON:
        return ""


def _uid(name: str) -> str:
    """Return a uid that is the same for the same name in every process."""
    digits = hashlib.sha256(name.encode()).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _entry(kind: Kind, obj: Object, revision: int) -> Entry:
    metadata = {**obj["metadata"], "resourceVersion": str(revision)}
    body = _encode({"kind": kind.kind, "apiVersion": kind.api_version, **obj, "metadata": metadata})
    return Entry(kind.key("", obj["metadata"]["name"]), body, revision, revision, client_bytes=body)
