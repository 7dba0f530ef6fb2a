"""NodeMetrics: how much a minion uses, for `kubectl top nodes`. Minions are asked when somebody asks; nothing is stored."""

from __future__ import annotations

from labctl.resources.kind import Kind, Viewed
from labctl.resources.kinds import own

GROUP, VERSION, DEFINITIONS = "metrics.k8s.io", "v1beta1", "io.k8s.metrics.pkg.apis.metrics.v1beta1."
USAGE: own.Definition = {"type": "object", "additionalProperties": own.QUANTITY}


class NodeMetrics(Viewed, frozen=True, rename="camel", gc=False):
    pass


KIND = Kind(
    group=GROUP,
    version=VERSION,
    kind="NodeMetrics",
    plural="nodes",
    singular="",
    namespaced=False,
    view=NodeMetrics,
    verbs=("get", "list"),
    persisted=False,
    definitions=own.top_level(DEFINITIONS + "NodeMetrics", GROUP, VERSION, timestamp=own.TIME, window=own.STRING, usage=USAGE),
)
