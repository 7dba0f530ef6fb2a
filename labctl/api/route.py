"""This module parses a URL path into the object or collection that it names. As in apimachinery's RequestInfo, one parser serves all kinds.

    /api/v1/namespaces/NS/pods/NAME/log        /apis/GROUP/VERSION/RESOURCE/NAME/status        /api/v1/namespaces/NAME

It does not know which kinds exist. Parsed paths are cached, because clients ask for the same few thousand again and again.
"""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from labctl.resources.cached import cached_if_short

NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


class Target(msgspec.Struct, frozen=True):
    """The object or collection that a path names. An empty `name` means the collection; `rest` is what follows `.../proxy`, with its leading slash."""

    group: str
    version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


@cached_if_short(8192)
def parse(path: str) -> Target | None:
    """Returns the object or collection that an (encoded) path names; None if the path is not one of objects."""
    segments = path.split("/")[1:]
    if not segments:  # CONNECT names a host and a port
        return None
    if segments[0] == "api" and len(segments) > 2:
        return _below(path, "", segments[1], segments[2:])
    if segments[0] == "apis" and len(segments) > 3:
        return _below(path, segments[1], segments[2], segments[3:])
    return None


def _below(path: str, group: str, version: str, segments: list[str]) -> Target | None:
    if segments == [""]:  # "/api/v1/" is the discovery document
        return None
    if "%" in path:
        segments = [unquote(segment) for segment in segments]
    namespace = ""
    if segments[0] == "namespaces" and len(segments) > 2 and segments[2] not in NAMESPACE_SUBRESOURCES:
        namespace, segments = segments[1], segments[2:]
        if not namespace:
            return None
    resource, name, subresource = (*segments, "", "")[:3]
    if "" in segments[:-1] or "/" in namespace + name + subresource:
        return None
    tail = segments[3:]
    if tail and subresource != "proxy":
        return None if tail != [""] else Target(group, version, resource, namespace, name, subresource)
    rest = "/" + path.split("/proxy/", 1)[1] if subresource == "proxy" and "/proxy/" in path else ""
    return Target(group, version, resource, namespace, name, subresource, rest)
