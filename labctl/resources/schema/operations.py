"""This module describes every call that the API accepts: method, path, body, answer and query parameters.

OpenAPI v3 and v2 are two ways to write these down (openapi.py). Derived from a Kind alone, so that a custom kind has its calls too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.resources.kind import Kind, Subresource
from labctl.resources.schema.definitions import META, Schema

PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_CUSTOM_PATCH_TYPES = PATCH_TYPES[:3]  # a custom kind's schema has no merge strategies
_STREAMS = {"attach", "exec", "portforward", "proxy"}

_STATUS = META + "Status"
_DELETE_OPTIONS = META + "DeleteOptions"
_LIST_PARAMETERS = (
    "allowWatchBookmarks:boolean",
    "continue:string",
    "fieldSelector:string",
    "labelSelector:string",
    "limit:integer",
    "resourceVersion:string",
    "resourceVersionMatch:string",
    "sendInitialEvents:boolean",
    "timeoutSeconds:integer",
    "watch:boolean",
)
_WRITE_PARAMETERS = ("dryRun:string", "fieldManager:string", "fieldValidation:string")
_DELETE_PARAMETERS = ("dryRun:string", "gracePeriodSeconds:integer", "orphanDependents:boolean", "propagationPolicy:string")
_LOG_PARAMETERS = (
    "container:string",
    "follow:boolean",
    "limitBytes:integer",
    "previous:boolean",
    "sinceSeconds:integer",
    "tailLines:integer",
    "timestamps:boolean",
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `body` and `answer` name definitions; an empty answer is text or a stream. Parameters are `name:type`."""

    method: str
    path: str
    action: str
    group: str
    version: str
    kind: str
    tag: str
    name: str  # operationId
    body: str = ""
    answer: str = ""
    parameters: tuple[str, ...] = ()
    patches: tuple[str, ...] = PATCH_TYPES  # the media types that a PATCH may have


def operations(schema: Schema, kind: Kind) -> Iterator[Operation]:
    """Yields every operation of a kind and its subresources."""
    return _KindOperations(schema, kind).all()


class _KindOperations:
    def __init__(self, schema: Schema, kind: Kind) -> None:
        self.schema, self.kind = schema, kind
        self.patches = PATCH_TYPES if kind.decoder is None else _CUSTOM_PATCH_TYPES
        self.definition = schema.name_of(kind.group, kind.version, kind.kind)
        self.list_definition = schema.name_of(kind.group, kind.version, f"{kind.kind}List")
        self.base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        self.collection = f"{self.base}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{self.base}/{kind.plural}"
        group = "".join(part.capitalize() for part in kind.group.removesuffix(".k8s.io").split(".")) or "Core"
        self.tag = f"{group[0].lower()}{group[1:]}_{kind.version}"
        self.stem = f"{group}{kind.version.capitalize()}{'Namespaced' if kind.namespaced else ''}{kind.kind}"

    def all(self) -> Iterator[Operation]:
        yield from self._on_collection()
        yield from self._on_item()
        yield from self._watches()
        for subresource in self.kind.subresources:
            yield from self._on_subresource(subresource)

    def _on_collection(self) -> Iterator[Operation]:
        verbs, path = self.kind.shown_verbs, self.collection
        if "list" in verbs:
            yield self._operation("get", path, "list", answer=self.list_definition, parameters=_LIST_PARAMETERS)
            if self.kind.namespaced:
                everywhere = f"{self.base}/{self.kind.plural}"
                yield self._operation(
                    "get", everywhere, "list", "ForAllNamespaces", answer=self.list_definition, parameters=_LIST_PARAMETERS
                )
        if "create" in verbs:
            yield self._operation("post", path, "post", body=self.definition, answer=self.definition, parameters=_WRITE_PARAMETERS)
        if "deletecollection" in verbs:
            parameters = (*_DELETE_PARAMETERS, *_LIST_PARAMETERS)
            yield self._operation("delete", path, "deletecollection", body=_DELETE_OPTIONS, answer=_STATUS, parameters=parameters)

    def _on_item(self) -> Iterator[Operation]:
        path, of = f"{self.collection}/{{name}}", self.definition
        verbs = self.kind.shown_verbs
        if "get" in verbs:
            yield self._operation("get", path, "get", answer=of)
        if "update" in verbs:
            yield self._operation("put", path, "put", body=of, answer=of, parameters=_WRITE_PARAMETERS)
        if "patch" in verbs:
            yield self._operation("patch", path, "patch", body=META + "Patch", answer=of, parameters=(*_WRITE_PARAMETERS, "force:boolean"))
        if "delete" in verbs:
            yield self._operation("delete", path, "delete", body=_DELETE_OPTIONS, answer=_STATUS, parameters=_DELETE_PARAMETERS)

    def _watches(self) -> Iterator[Operation]:
        """Yields the older form of a watch, by which programs that read the paths know that there is one. Custom kinds have none."""
        if "watch" not in self.kind.verbs or self.kind.decoder is not None:
            return
        plural, older = self.kind.plural, f"{self.base}/watch"
        collection = self.collection.replace(self.base, older, 1)
        yield self._watch(collection, "watchlist", "List")
        yield self._watch(f"{collection}/{{name}}", "watch")
        if self.kind.namespaced:
            yield self._watch(f"{older}/{plural}", "watchlist", "ListForAllNamespaces")

    def _watch(self, path: str, action: str, suffix: str = "") -> Operation:
        return self._operation("get", path, action, suffix, answer=META + "WatchEvent", parameters=_LIST_PARAMETERS)

    def _on_subresource(self, subresource: Subresource) -> Iterator[Operation]:
        path, of, suffix = f"{self.collection}/{{name}}/{subresource.name}", self._body_of(subresource), subresource.name.capitalize()
        if subresource.name in _STREAMS:
            for method in ("get", "post"):
                yield self._operation(method, path, "connect", suffix)
            return
        if subresource.name == "log":
            yield self._operation("get", path, "get", suffix, parameters=_LOG_PARAMETERS)
            return
        for verb in subresource.verbs:
            match verb:
                case "get":
                    yield self._operation("get", path, "get", suffix, answer=of)
                case "create":
                    yield self._operation("post", path, "post", suffix, body=of, answer=of, parameters=_WRITE_PARAMETERS)
                case "update":
                    yield self._operation("put", path, "put", suffix, body=of, answer=of, parameters=_WRITE_PARAMETERS)
                case "patch":
                    parameters = (*_WRITE_PARAMETERS, "force:boolean")
                    yield self._operation("patch", path, "patch", suffix, body=META + "Patch", answer=of, parameters=parameters)

    def _body_of(self, subresource: Subresource) -> str:
        if not subresource.kind:
            return self.definition
        return self.schema.name_of(subresource.group, subresource.version or self.kind.version, subresource.kind)

    def _operation(
        self, method: str, path: str, action: str, suffix: str = "", *, body: str = "", answer: str = "", parameters: tuple[str, ...] = ()
    ) -> Operation:
        verb = {"post": "create", "put": "replace", "get": "read", "deletecollection": "deleteCollection", "watchlist": "watch"}.get(
            action, action
        )
        if action == "connect":
            verb = f"connect{method.capitalize()}"
        kind = self.kind
        stem = self.stem.replace("Namespaced", "", 1) if suffix.endswith("ForAllNamespaces") else self.stem
        name = f"{verb}{stem}{suffix}"
        return Operation(method, path, action, kind.group, kind.version, kind.kind, self.tag, name, body, answer, parameters, self.patches)
