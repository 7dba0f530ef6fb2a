"""Watches below `/api/v1/watch/...`, the form from before `?watch=true`: deprecated in Kubernetes and still served, and some programs know no other.

    /api/v1/watch/pods    /api/v1/watch/namespaces/NS/pods    /apis/apps/v1/watch/namespaces/NS/deployments/NAME

The server asks for each GET whose path may be one, and serves the watch that it stands for. Custom kinds have none, as in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable

from labctl.resources.kind import Kind

_WATCH = "/watch/"


def today(path: str, query: str, kind_of: Callable[[str, str, str], Kind | None]) -> tuple[str, str]:
    """Returns the path and the query of the same watch in today's form; other requests as they are. `kind_of` takes group, version and resource."""
    if _WATCH not in path:
        return path, query
    base, _, rest = path.partition(_WATCH)
    match base.split("/"):
        case ["", "api", version]:
            group = ""
        case ["", "apis", group, version]:
            pass
        case _:
            return path, query
    collection, name = _parts(rest.split("/"))
    kind = kind_of(group, version, collection.rpartition("/")[2])
    if kind is None or kind.decoder is not None:
        return path, query
    asked = ["watch=true", *([f"fieldSelector=metadata.name%3D{name}"] if name else []), *([query] if query else [])]
    return f"{base}/{collection}", "&".join(asked)


def _parts(segments: list[str]) -> tuple[str, str]:
    """Returns the collection's path and the object's name, empty if it is no such path."""
    if segments[-1] == "":
        segments = segments[:-1]
    length = 3 if segments[:1] == ["namespaces"] and len(segments) > 2 else 1
    if not segments or "" in segments or len(segments) > length + 1:
        return "", ""
    return "/".join(segments[:length]), "".join(segments[length:])
