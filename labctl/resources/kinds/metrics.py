"""The kinds of metrics.k8s.io, which are the same in each version: nothing of them is stored, so nothing is converted."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed
from labctl.resources.kinds import own

GROUP = "metrics.k8s.io"
_USAGE: own.Definition = {"type": "object", "additionalProperties": own.QUANTITY}


def of_nodes(version: str, view: type[Viewed], main: Kind | None = None) -> Kind:
    """Return NodeMetrics of a version; `main` is the version that stands first in the registry, if this is another one."""
    name = f"{_prefix(version)}NodeMetrics"
    definitions = own.top_level(name, GROUP, version, timestamp=own.TIME, window=own.STRING, usage=_USAGE)
    return _kind("NodeMetrics", "nodes", version, view, definitions, main)


def of_pods(version: str, view: type[Viewed], main: Kind | None = None) -> Kind:
    """Return PodMetrics of a version; `main` is as above."""
    of_container = f"{_prefix(version)}ContainerMetrics"
    containers: own.Definition = {"type": "array", "items": own.reference(of_container)}
    definitions = {
        **own.top_level(f"{_prefix(version)}PodMetrics", GROUP, version, timestamp=own.TIME, window=own.STRING, containers=containers),
        of_container: own.struct(name=own.STRING, usage=_USAGE),
    }
    return _kind("PodMetrics", "pods", version, view, definitions, main)


def _prefix(version: str) -> str:
    return f"io.k8s.metrics.pkg.apis.metrics.{version}."


def _kind(kind: str, plural: str, version: str, view: type[Viewed], definitions: dict[str, own.Definition], main: Kind | None) -> Kind:
    return Kind(
        group=GROUP,
        version=version,
        kind=kind,
        plural=plural,
        singular="",
        namespaced=plural == "pods",
        view=view,
        verbs=("get", "list"),
        persisted=False,
        definitions=definitions,
        storage=main,
    )
