"""The seam by which the autoscaler reads metrics that other API servers tell: the groups custom.metrics.k8s.io and external.metrics.k8s.io.

Adapters (Prometheus', KEDA's and others) register an APIService for a group. `api/aggregation/measures.py` asks them; a master without an API has none.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"


class Query(NamedTuple):
    """One metric: of an object or of all pods of a selector (CUSTOM), or of nothing in the lab (EXTERNAL, without `resource` and `name`)."""

    group: str
    namespace: str
    metric: str
    metric_selector: str = ""
    resource: str = ""  # `pods`, `deployments.apps`; `namespaces` is the namespace itself
    name: str = ""  # "*": all of those that `selector` chooses
    selector: str = ""


class Measured(NamedTuple):
    """The answer: the name of each object (empty for an external metric), and its value in thousandths."""

    values: tuple[tuple[str, int], ...]


class MetricReader(Protocol):
    def read(self, query: Query) -> Measured | str | None:
        """Return what a server said a moment ago, or why there is nothing. None: it is being asked; read again shortly."""


class NoMetrics:
    """Where there are no other servers."""

    def read(self, query: Query) -> Measured | str | None:
        return unregistered(query)


def unregistered(query: Query) -> str:
    """Return the words for a group that nobody serves, as Kubernetes' two clients have them."""
    if query.group == EXTERNAL:
        return f"the server could not find the requested resource (get {query.metric}.{EXTERNAL})"
    return f"no custom metrics API ({CUSTOM}) registered"
